import jax
import numpy as np

from mdvae._keys import key_for


def test_purposes_share_no_random_numbers():
    """Nor do the keys that are split from them."""
    data = []
    for purpose in ("build", "train", "generate", "minimize"):
        key = key_for(purpose, 0)
        data += [key, *jax.random.split(key, 3)]
    bits = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in data}
    assert len(bits) == 4 * 4


def test_one_seed_one_key():
    a, b, c = (jax.random.key_data(key_for("build", seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.any(a != c)
