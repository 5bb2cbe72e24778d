import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvae.distributions import DiagonalNormal, FullNormal
from mdvae.vae import (
    Categorical,
    Flow,
    GaussianMixture,
    ImportanceWeighted,
    NegativeELBO,
    SquaredError,
    StandardNormal,
    VampPrior,
    build_vae,
    named_prior,
)

N = 200


def plain():
    """Features in very different units, far from zero."""
    return (np.random.default_rng(0).normal(size=(N, 4)) * [1e-2, 1.0, 5.0, 1e3] + [3.0, -1.0, 0.0, 1e4]).astype(
        np.float32
    )


def one_hot():
    return np.eye(5, dtype=np.float32)[np.random.default_rng(0).integers(0, 5, N)]


def with_constants():
    x = plain()
    x[:, 1], x[:, 2] = 0.1, 0.0
    return x


DATA = {
    "plain": (plain, None),
    "with constants": (with_constants, None),
    "one example": (lambda: plain()[:1], None),
    "double precision": (lambda: plain().astype(np.float64), None),
    "squared error": (plain, SquaredError()),
    "one-hot": (one_hot, Categorical()),
    "one-hot, one class never seen": (lambda: np.pad(one_hot(), [(0, 0), (0, 1)]), Categorical()),
    "one-hot, as numbers": (one_hot, None),
}
SHAPES = {
    "diagonal": {},
    "full": {"posterior": "full", "latent_dim": 3},
    "full, one dimension": {"posterior": "full", "latent_dim": 1},
    "plain layers": {"residual": False, "activation": "tanh"},
}


def build(x, likelihood, **options):
    return build_vae(x, likelihood=likelihood, hidden=(8, 8), key=jax.random.key(0), **options)


@eqx.filter_jit
def loss_and_gradient(vae, x, objective):
    return eqx.filter_value_and_grad(lambda v: objective(v, x, jax.random.key(1))[0])(vae)


@pytest.mark.parametrize(
    ("case", "shape"),
    [*((case, "diagonal") for case in DATA), *(("plain", shape) for shape in SHAPES if shape != "diagonal")],
)
def test_whatever_is_built_can_be_trained(case, shape):
    """Loss and gradients are finite, and every layer has one."""
    x, likelihood = DATA[case][0](), DATA[case][1]
    vae = build(x, likelihood, **SHAPES[shape])
    loss, gradient = loss_and_gradient(vae, jnp.asarray(x, jnp.float32), NegativeELBO(1.0))
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    for layer in (*gradient.encoder.layers, *gradient.decoder.layers):
        assert np.any(layer.bias != 0)
    assert not np.any(gradient.encoder.shift)
    assert not np.any(gradient.decoder.scale)


@pytest.mark.parametrize("case", ["plain", "double precision", "with constants", "squared error"])
def test_decoders_start_near_the_mean_of_the_data(case):
    """Within the spread of each feature, in its unit: what is constant starts within one."""
    x, likelihood = DATA[case][0](), DATA[case][1]
    vae = build(x, likelihood)
    z = jax.random.normal(jax.random.key(2), (100, 2), jnp.float32)
    decoded = np.asarray(jax.vmap(vae.decode)(z), float)
    distance = (decoded - x.mean(axis=0, dtype=float)) / np.where(x.std(axis=0) > 1e-5, x.std(axis=0), 1)
    assert np.sqrt(np.mean(distance**2, axis=0)).max() < 1
    if likelihood is None and "constants" not in case:
        np.testing.assert_allclose(vae.likelihood.width(), x.std(axis=0, dtype=float), rtol=1e-3)


@pytest.mark.parametrize("case", ["one-hot", "one-hot, one class never seen"])
def test_logits_start_near_equal_probabilities(case):
    x = DATA[case][0]()
    probabilities = np.asarray(jax.vmap(build(x, Categorical()).decode)(jnp.zeros((1, 2))))[0]
    assert probabilities.shape == (x.shape[1],)
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)
    assert np.abs(np.log(probabilities * len(probabilities))).max() < 1


def test_the_unit_of_a_feature_does_not_matter():
    """The same data in other units: the same posterior, and reconstructions in these units."""
    x, factor, offset = (
        plain(),
        np.array([1e2, 1.0, 0.1, 1e-3], np.float32),
        np.array([0.0, 3.0, 0.0, -5.0], np.float32),
    )
    one, other = build(x, None), build(factor * x + offset, None)
    here, there = jnp.asarray(x[7]), jnp.asarray(factor * x[7] + offset)
    np.testing.assert_allclose(one.encode(here), other.encode(there), atol=2e-3)
    decoded = [np.asarray(vae.decode(jnp.array([0.3, -1.0])), float) for vae in (one, other)]
    spread = factor * x.std(axis=0)
    np.testing.assert_allclose((factor * decoded[0] + offset - decoded[1]) / spread, 0, atol=2e-3)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_posteriors_are_of_the_class_asked_for(posterior, latent_dim):
    """Their covariances are positive definite; in one dimension there is but one class."""
    x = plain()
    one = build(x, None, posterior=posterior, latent_dim=latent_dim).encoder(jnp.asarray(x[3]))
    assert type(one) is (FullNormal if posterior == "full" and latent_dim > 1 else DiagonalNormal)
    covariance = np.asarray(one.covariance(), float)
    assert covariance.shape == (latent_dim, latent_dim)
    assert np.linalg.eigvalsh(covariance).min() > 1e-3
    assert (np.abs(covariance - np.diag(np.diag(covariance))).max() > 1e-3) == (type(one) is FullNormal)


def test_layers_are_those_asked_for_and_in_reverse():
    vae = build_vae(plain(), 3, hidden=(16, 8), key=jax.random.key(0))
    assert [layer.out_features for layer in vae.encoder.layers] == [16, 8, 6]
    assert [layer.out_features for layer in vae.decoder.layers] == [8, 16, 4]


def test_the_key_makes_the_parameters():
    one, again, other = (build_vae(plain(), hidden=(8,), key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert eqx.tree_equal(one, again)
    weights = [vae.encoder.layers[0].weight for vae in (one, other)]
    assert not np.isclose(*weights).any()
    # Encoder and decoder do not share theirs.
    assert not np.isclose(np.ravel(one.encoder.layers[0].weight)[:4], np.ravel(one.decoder.layers[0].weight)[:4]).any()


# -- priors by their names

UNIT = jnp.array([0.5, 1.0, 2.0, 10.0])
NAMES = {
    "standard_normal": (StandardNormal, lambda latent_dim: {}),
    "mixture": (GaussianMixture, lambda latent_dim: {"n_components": 7}),
    "vamp": (VampPrior, lambda latent_dim: {"pseudo_inputs": jnp.asarray(plain()[:6]), "unit": UNIT}),
    "flow": (Flow, lambda latent_dim: {}),
}


@eqx.filter_jit
def sample(prior, encoder):
    z = prior.distribution(encoder).sample(jax.random.key(4))
    return z, prior.distribution(encoder).log_prob(z)


@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_priors_by_name_fit_in(name, latent_dim):
    """Their points are as long as those of the encoder; gradients are finite, and those that are learned have one."""
    expected, options = NAMES[name]
    prior = named_prior(name, latent_dim, **options(latent_dim), key=jax.random.key(3))
    assert type(prior) is expected
    vae = build(plain(), None, latent_dim=latent_dim, prior=prior)
    z, log_prob = sample(vae.prior, vae.encoder)
    assert z.shape == vae.encode(jnp.asarray(plain()[0])).shape == (latent_dim,)
    assert np.isfinite(log_prob)
    if latent_dim == 1 and name == "flow":  # nothing new, and slow to compile
        return
    objective = NegativeELBO(1.0) if latent_dim == 1 else ImportanceWeighted(2)
    loss, gradient = loss_and_gradient(vae, jnp.asarray(plain()[:10]), objective)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient.prior)) == (name != "standard_normal")


def test_a_mixture_covers_the_standard_normal_at_the_start():
    """Components about as many places as the prior has, each narrower than it."""
    prior = named_prior("mixture", 2, n_components=500, key=jax.random.key(0))
    np.testing.assert_allclose(prior.means.mean(axis=0), 0, atol=4 / np.sqrt(500))
    np.testing.assert_allclose(prior.means.std(axis=0), 1, atol=4 / np.sqrt(1000))
    assert (np.exp(prior.log_std) < 1).all()


def test_pseudo_inputs_start_as_the_examples_they_are_given():
    prior = named_prior("vamp", 2, pseudo_inputs=jnp.asarray(plain()[:6]), unit=UNIT, key=jax.random.key(0))
    np.testing.assert_allclose(np.asarray(prior.relative) * np.asarray(UNIT), plain()[:6], rtol=1e-6)


REFUSED = {
    "numbers for classes": (np.arange(40.0).reshape(20, 2), {"likelihood": Categorical()}, "needs one-hot examples"),
    "labels for classes": (np.ones((20, 1)), {"likelihood": Categorical()}, "needs one-hot examples"),
    "posterior": (np.ones((20, 2)), {"posterior": "Full"}, "covariance='Full' is not known"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_refused(case):
    x, options, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        build_vae(x.astype(np.float32), 1, hidden=(4,), key=jax.random.key(0), **options)


@pytest.mark.parametrize("name", ["mixture", "vamp", "horseshoe"])
def test_priors_that_lack_something_are_refused(name):
    with pytest.raises(ValueError, match=r"needs|is not known"):
        named_prior(name, 2, key=jax.random.key(0))
