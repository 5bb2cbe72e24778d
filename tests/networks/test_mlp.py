import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, expit

from mdvae.distributions import DiagonalNormal, FullNormal, n_below_diagonal
from mdvae.networks import MLPDecoder, MLPEncoder
from mdvae.spec import ACTIVATIONS

N_FEATURES, LATENT_DIM, N_PARAMS = 6, 2, 5


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


BY_HAND = {"silu": lambda x: x * expit(x), "tanh": np.tanh, "softplus": lambda x: np.logaddexp(x, 0), "gelu": gelu}
# JAX approximates the error function of its gelu.
TOLERANCE = {"gelu": 2e-3}


def encoder(hidden=(8, 4), activation="silu", latent_dim=LATENT_DIM, **covariance):
    shift, scale = jnp.linspace(-1.0, 1.0, N_FEATURES), jnp.array(0.3)
    return MLPEncoder(
        N_FEATURES, latent_dim, hidden, activation, shift=shift, scale=scale, key=jax.random.key(1), **covariance
    )


def full_encoder(hidden=(8, 4), activation="silu", latent_dim=3):
    return encoder(hidden, activation, latent_dim, covariance="full")


def decoder(hidden=(4, 8), activation="silu"):
    shift = jnp.linspace(2.0, 3.0, N_PARAMS)
    return MLPDecoder(
        LATENT_DIM, N_PARAMS, hidden, activation, shift=shift, scale=jnp.array(0.3), key=jax.random.key(2)
    )


def forward(layers, activation, x):
    for i, layer in enumerate(layers):
        x = np.asarray(layer.weight, np.float64) @ x + np.asarray(layer.bias)
        x = BY_HAND[activation](x) if i < len(layers) - 1 else x
    return x


HIDDEN = {"none": (), "one": (7,), "two": (8, 4)}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("case", HIDDEN)
def test_encoder_equals_a_forward_pass_by_hand(case, activation, rng):
    net = encoder(HIDDEN[case], activation)
    assert [layer.out_features for layer in net.layers] == [*HIDDEN[case], 2 * LATENT_DIM]
    x = rng.normal(size=N_FEATURES)
    out = forward(net.layers, activation, (x - np.linspace(-1, 1, N_FEATURES)) / 0.3)
    posterior = net(jnp.asarray(x, jnp.float32))
    tolerance = TOLERANCE.get(activation, 1e-5)
    np.testing.assert_allclose(posterior.mean, out[:LATENT_DIM], atol=tolerance)
    np.testing.assert_allclose(posterior.log_std, 8 * np.tanh(out[LATENT_DIM:] / 8), atol=tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("case", HIDDEN)
def test_decoder_equals_a_forward_pass_by_hand(case, activation, rng):
    net = decoder(HIDDEN[case], activation)
    assert [layer.out_features for layer in net.layers] == [*HIDDEN[case], N_PARAMS]
    z = rng.normal(size=LATENT_DIM)
    expected = np.linspace(2, 3, N_PARAMS) + 0.3 * forward(net.layers, activation, z)
    np.testing.assert_allclose(net(jnp.asarray(z, jnp.float32)), expected, atol=TOLERANCE.get(activation, 1e-5))


def test_features_in_another_unit_give_the_same_posterior(rng):
    """Ten times the features, shift and scale: standardization takes the unit out, the decoder puts it back."""
    x = jnp.asarray(rng.normal(size=N_FEATURES), jnp.float32)
    one, ten = encoder(), eqx.tree_at(lambda e: (e.shift, e.scale), encoder(), replace_fn=lambda leaf: 10 * leaf)
    np.testing.assert_allclose(ten(10 * x).mean, one(x).mean, atol=1e-5)
    z = jnp.array([0.3, -1.0])
    one, ten = decoder(), eqx.tree_at(lambda d: (d.shift, d.scale), decoder(), replace_fn=lambda leaf: 10 * leaf)
    np.testing.assert_allclose(ten(z), 10 * one(z), rtol=1e-5)


def test_widths_of_the_posterior_stay_finite():
    posterior = encoder()(jnp.full(N_FEATURES, 1e6))
    assert np.abs(posterior.log_std).max() <= 8
    assert np.isfinite(np.exp(posterior.log_std)).all()


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 5])
def test_full_posterior_equals_a_forward_pass_by_hand(latent_dim, rng):
    """Means, widths, and what stands below the diagonal row by row, in units of the width of its row."""
    net = full_encoder((8, 4), "silu", latent_dim)
    assert net.layers[-1].out_features == 2 * latent_dim + n_below_diagonal(latent_dim)
    x = rng.normal(size=N_FEATURES)
    out = forward(net.layers, "silu", (x - np.linspace(-1, 1, N_FEATURES)) / 0.3)
    mean, log_std, lower = np.split(out, [latent_dim, 2 * latent_dim])
    unit = np.eye(latent_dim)
    unit[np.tril_indices(latent_dim, -1)] = lower
    factor = np.exp(8 * np.tanh(log_std / 8))[:, None] * unit
    posterior = net(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-5)
    np.testing.assert_allclose(posterior.covariance(), factor @ factor.T, rtol=1e-4, atol=1e-5)
    assert np.linalg.eigvalsh(np.asarray(posterior.covariance(), float)).min() > 0
    # In one dimension nothing stands below the diagonal.
    assert type(posterior) is (FullNormal if latent_dim > 1 else DiagonalNormal)


def test_in_one_dimension_every_covariance_is_diagonal(rng):
    x = jnp.asarray(rng.normal(size=N_FEATURES), jnp.float32)
    assert eqx.tree_equal(full_encoder(latent_dim=1)(x), encoder(latent_dim=1)(x))


def loss_of_posterior(net, x):
    """Of all its parts: nothing below the diagonal would be learned from means and widths."""
    return jnp.sum(net(x).covariance()) + jnp.sum(net(x).mean ** 2)


NETWORKS = {
    "encoder": (encoder, N_FEATURES, lambda net, x: jnp.sum(net(x).mean ** 2 + net(x).log_std)),
    "full encoder": (full_encoder, N_FEATURES, loss_of_posterior),
    "decoder": (decoder, LATENT_DIM, lambda net, z: jnp.sum(net(z) ** 2)),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_normalization_is_not_trained_and_all_else_is(case):
    build, n_inputs, loss = NETWORKS[case]
    gradient = eqx.filter_jit(eqx.filter_grad(loss))(build(), jnp.linspace(-0.5, 0.7, n_inputs))
    assert not np.any(gradient.shift)
    assert gradient.scale == 0
    for layer in gradient.layers:
        assert np.all(layer.bias != 0)
        assert np.any(layer.weight != 0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("case", NETWORKS)
def test_networks_are_smooth(case, activation):
    """The gradient is continuous: along a line its change over a step is the second derivative times the step."""
    build, n_inputs, loss = NETWORKS[case]
    net, direction = build(activation=activation), jnp.linspace(0.5, -1.0, n_inputs)

    def along(t):
        return loss(net, t * direction)

    t, step = jnp.linspace(-2.0, 2.0, 401), 0.01
    both = jax.jit(jax.vmap(lambda t: jax.jvp(jax.grad(along), (t,), (jnp.ones(()),))))
    slope, curvature = map(np.asarray, both(t))
    assert np.isfinite(curvature).all()
    trapezoid = 0.5 * step * (curvature[1:] + curvature[:-1])
    np.testing.assert_allclose(np.diff(slope), trapezoid, atol=2e-3 * np.abs(slope).max())


@pytest.mark.parametrize("build", [encoder, full_encoder, decoder])
def test_keys_make_the_parameters(build):
    def weights(net):
        return [np.asarray(layer.weight) for layer in net.layers]

    one, again = weights(build()), weights(build())
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    # Layers do not share a key.
    assert not np.isclose(one[0].ravel()[:4], one[1].ravel()[:4]).any()


def test_parameters_are_float32_even_where_the_process_is_not():
    with jax.enable_x64(True):
        assert all(layer.weight.dtype == jnp.float32 for layer in decoder().layers)
