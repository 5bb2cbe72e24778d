import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from mdvae.networks import MLPDecoder, MLPEncoder
from mdvae.vae import VAE, Gaussian, SquaredError, StandardNormal

N_FEATURES, LATENT_DIM = 5, 2


def small_vae(likelihood):
    shift, scale = jnp.linspace(0.0, 1.0, N_FEATURES), jnp.array(0.2)
    one, two = jax.random.split(jax.random.key(3))
    return VAE(
        MLPEncoder(N_FEATURES, LATENT_DIM, (8,), "silu", shift=shift, scale=scale, key=one),
        MLPDecoder(LATENT_DIM, N_FEATURES, (8,), "silu", shift=shift, scale=scale, key=two),
        likelihood,
        StandardNormal(LATENT_DIM),
    )


def test_encoding_is_the_mean_of_the_posterior_and_decoding_that_of_the_likelihood(rng):
    vae = small_vae(SquaredError())
    x = jnp.asarray(rng.normal(size=N_FEATURES), jnp.float32)
    np.testing.assert_array_equal(vae.encode(x), vae.encoder(x).mean)
    np.testing.assert_array_equal(vae.decode(vae.encode(x)), vae.decoder(vae.encoder(x).mean))


def test_samples_scatter_about_the_decoded_mean(key):
    width = jnp.array([0.1, 0.2, 0.3, 0.4, 0.5])
    vae, z, n = small_vae(Gaussian(width)), jnp.array([0.5, -1.0]), 4000
    samples = np.asarray(jax.vmap(lambda k: vae.sample(z, k))(jax.random.split(key, n)))
    np.testing.assert_allclose((samples.mean(axis=0) - vae.decode(z)) / width, 0, atol=4 / np.sqrt(n))
    np.testing.assert_allclose(samples.std(axis=0) / width, 1, atol=4 / np.sqrt(2 * n))


def test_the_prior_is_standard_normal_whatever_the_encoder():
    prior = small_vae(SquaredError()).prior_distribution()
    np.testing.assert_array_equal(prior.mean, np.zeros(LATENT_DIM))
    np.testing.assert_array_equal(prior.log_std, np.zeros(LATENT_DIM))
    np.testing.assert_allclose(prior.log_prob(jnp.zeros(LATENT_DIM)), -np.log(2 * np.pi), rtol=1e-6)


def test_the_prior_has_nothing_to_train():
    assert jax.tree.leaves(eqx.filter(StandardNormal(LATENT_DIM), eqx.is_array)) == []
