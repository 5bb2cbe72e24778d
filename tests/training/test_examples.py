"""Pairs of frames at a lag, and how much each example weighs."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdvae
from mdvae.training import Resident, Streamed, feed, split_blocks
from mdvae.training.examples import effective_size, lagged_pairs
from mdvae.training.loop import _augmented
from mdvae.vae import Examples, Gaussian, ImportanceWeighted, NegativeELBO, Penalized, Slow, build_vae

LENGTHS = {"one": [200], "two": [90, 113], "short ones": [40, 7, 61, 3, 50], "blocks": [23] * 9}


def stretches(lengths, held_out):
    """By hand: each frame's trajectory, and which run of frames of one side within it."""
    found, held = [], set(held_out.tolist())
    frame = 0
    for trajectory, length in enumerate(lengths):
        sides = [frame + i in held for i in range(length)]
        for number, (side, group) in enumerate(itertools.groupby(sides)):
            found += [(trajectory, number, side)] * len(list(group))
        frame += length
    return found


@pytest.mark.parametrize("lagtime", [0, 1, 2])
@pytest.mark.parametrize("case", LENGTHS)
def test_no_pair_crosses_a_border(case, lagtime):
    lengths = LENGTHS[case]
    held_out = split_blocks(lengths, 0.2)[1]
    training, validation = lagged_pairs(lengths, held_out, lagtime)
    where = stretches(lengths, held_out)
    expected = [i for i in range(sum(lengths) - lagtime) if where[i] == where[i + lagtime]]
    assert sorted([*training, *validation]) == expected
    assert all(where[i][2] for i in validation)
    assert not any(where[i][2] for i in training)


def test_without_a_lag_the_split_is_what_it_was():
    training, validation = split_blocks([90, 113], 0.1)
    for one, other in zip(lagged_pairs([90, 113], validation, 0), (training, validation), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_lag_that_leaves_no_pair_is_refused():
    held_out = split_blocks([200], 0.1)[1]
    with pytest.raises(ValueError, match="lagtime=4 leaves no pair of held-out frames, of which at most 4 follow"):
        lagged_pairs([200], held_out, 4)
    with pytest.raises(ValueError, match="lagtime=500 leaves no pair of training frames"):
        lagged_pairs([200], held_out, 500)


@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_a_target_is_the_frame_that_comes_so_much_later(monkeypatch, kind):
    """Frames that hold their own number; of both feeds, in training and validation, with the frames' weights."""
    monkeypatch.setattr(feed, "_BLOCK_BYTES", 2**11)
    lagtime, lengths = 3, [150, 170]
    x = np.arange(320, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    training, validation = lagged_pairs(lengths, split_blocks(lengths, 0.3)[1], lagtime)
    weights = np.linspace(0, 2, 320)
    options = {"lagtime": lagtime, "weights": weights}
    if kind == "resident":
        fed = Resident(x, training, validation, 16, **options)
    else:
        fed = Streamed(x, training, validation, 16, lambda one: one, **options)
    for blocks, rows, n in (
        (fed.shuffled(jax.random.key(0)), training, len(training) // 16 * 16),
        (fed.held_out(8), validation, len(validation)),
    ):
        seen = []
        for data, places in blocks:
            one = Examples(*(np.asarray(leaf)[places.ravel()] for leaf in data))
            np.testing.assert_array_equal(one.target, one.x + lagtime)
            number = one.x[:, 0].astype(int)
            np.testing.assert_allclose(one.weight, weights[number] / weights[rows].mean(), rtol=1e-6)
            seen += number.tolist()
        assert len(set(seen)) == len(seen) == n
        assert set(seen) <= set(rows.tolist())


def test_batches_of_held_out_pairs_come_from_everywhere():
    """Neighbors in time would say nothing of what is slow."""
    rows = np.arange(4000)
    fed = Resident(np.zeros((5000, 2), np.float32), rows, rows, 16, lagtime=5)
    ((_, order),) = fed.held_out(1024)
    for batch in np.asarray(order)[:3072].reshape(3, 1024):
        assert batch.min() < 100
        assert batch.max() > 3900
    assert sorted(np.asarray(order).tolist()) == rows.tolist()


def test_both_ends_of_a_pair_are_changed_in_the_same_way():
    def flipped(x, key):
        return jnp.where(jax.random.bernoulli(key), -x, x)

    x = jnp.ones((64, 2))
    found = _augmented(flipped, Examples(x, 2 * x, jnp.ones(64)), jax.random.split(jax.random.key(0), 64))
    np.testing.assert_array_equal(found.target, 2 * found.x)
    assert 10 < np.sum(np.asarray(found.x)[:, 0] < 0) < 54
    alone = _augmented(flipped, Examples(x), jax.random.split(jax.random.key(0), 64))
    np.testing.assert_array_equal(alone.x, found.x)
    assert alone.target is None


@pytest.mark.parametrize("word", ["noise=0.01", "rotation=5"])
def test_what_would_last_for_ever_is_refused(frames, word):
    model = mdvae.build(frames, hidden=(8,))
    with pytest.raises(ValueError, match="same at both ends of a pair"):
        mdvae.train(model, frames, lagtime=2, augment=[word], progress=False)


# -- weights


@pytest.fixture
def one_noise(monkeypatch):
    """Every example has the same noise, so that copies of one have the same loss."""

    def copies(key, num=2):
        return jnp.broadcast_to(key, (num, *key.shape))

    monkeypatch.setattr(jax.random, "split", copies)


def small_vae(x):
    return build_vae(x, 2, likelihood=Gaussian(jnp.ones(x.shape[1])), hidden=(8,), key=jax.random.key(0))


@pytest.fixture(scope="module")
def vae_of_three():
    return small_vae(np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32))


OBJECTIVES = {
    "elbo": NegativeELBO(0.7),
    "free bits": NegativeELBO(0.7, 30.0),
    "importance-weighted": ImportanceWeighted(3),
    "penalized": Penalized(NegativeELBO(0.7), lambda y: jnp.sum(y**2, axis=1), 0.3),
    "slow": Slow(NegativeELBO(0.7), 5.0),
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_weight_2_is_the_example_twice(vae_of_three, one_noise, case, rng):
    """Losses, terms and gradients of a batch."""
    x, later = rng.normal(size=(2, 40, 3)).astype(np.float32)
    counts = rng.integers(0, 4, 40)
    twice = np.repeat(np.arange(40), counts)
    vae, objective = vae_of_three, OBJECTIVES[case]

    def judged(examples):
        judge = eqx.filter_value_and_grad(lambda v: objective(v, examples, jax.random.key(1)), has_aux=True)
        return judge(vae)

    weighted = judged(Examples(jnp.asarray(x), jnp.asarray(later), jnp.asarray(counts / counts.mean(), jnp.float32)))
    repeated = judged(Examples(jnp.asarray(x[twice]), jnp.asarray(later[twice])))
    for one, other in zip(jax.tree.leaves(weighted), jax.tree.leaves(repeated), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_training_with_weights_is_one_with_copies(vae_of_three, one_noise, rng):
    """The whole of it, in full batches: every epoch's losses, in training and validation."""
    x = rng.normal(size=(60, 3)).astype(np.float32)
    counts = rng.integers(0, 4, 60)
    held = np.arange(45, 60)
    twice = np.repeat(np.arange(60), counts)
    found = []
    for data, rows, held_rows, weights in (
        (x, np.arange(45), held, counts.astype(float)),
        (x[twice], np.flatnonzero(twice < 45), np.flatnonzero(twice >= 45), None),
    ):
        fed = Resident(data, rows, held_rows, len(rows), weights=weights)
        settings = {"objective": lambda step: NegativeELBO(0.5), "optimizer": mdvae.training.descent._ADAM}
        settings |= {"n_epochs": 5, "patience": 5, "key": jax.random.key(0)}
        settings["learning_rate"] = lambda step: 0.01 + 0.0 * step
        found.append(mdvae.training.optimize(vae_of_three, fed, **settings)[1].terms)
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert found[0]["loss"][-1] < found[0]["loss"][0]


def test_where_a_frame_weighs_nothing_it_is_not_there(frames):
    """Garbage among the frames, without weight: every number of the model is what it is without the garbage's."""
    weights = np.ones(300)
    weights[100:110] = 0
    spoiled = frames.coordinates.copy()
    spoiled[100:110] = 50 * frames.coordinates[:10][::-1]
    models = []
    for coordinates in (frames.coordinates, spoiled):
        given = mdvae.Frames(coordinates, (300,), None, frames.system, frames.alignment, frames.report, weights)
        model = mdvae.build(given, latent_dim=2, hidden=(8,), seed=0)
        models.append(mdvae.train(model, given, epochs=3, batch_size=270, seed=0, progress=False))
    one, other = (jax.tree.leaves(eqx.filter(model.vae, eqx.is_array)) for model in models)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(models[0].diagnostics.kl, models[1].diagnostics.kl, rtol=1e-4)
    assert models[0].settings["effective_frames"]["training"] == pytest.approx(260)
    assert "260 effective examples" in str(models[0])


def test_the_effective_number_is_that_of_kish(rng):
    assert effective_size(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_size(np.array([1e-300, 1.0, 0.0, 1.0])) == pytest.approx(2)
    w = rng.exponential(size=1000)
    assert effective_size(w) == pytest.approx(w.sum() ** 2 / (w**2).sum())


def test_few_effective_frames_are_told(frames):
    weights = np.ones(300)
    weights[5] = 1e6
    given = mdvae.Frames(frames.coordinates, (300,), None, frames.system, frames.alignment, frames.report, weights)
    with pytest.warns(UserWarning, match="weights of 270 training frames leave 1 effective ones"):
        mdvae.train(mdvae.build(given, hidden=(8,), seed=0), given, epochs=1, progress=False)


def test_held_out_frames_without_any_weight_are_refused(frames):
    weights = np.ones(300)
    weights[split_blocks([300], 0.1)[1]] = 0
    given = mdvae.Frames(frames.coordinates, (300,), None, frames.system, frames.alignment, frames.report, weights)
    with pytest.raises(ValueError, match="all weights of the validation frames are 0"):
        mdvae.train(mdvae.build(given, hidden=(8,), seed=0), given, epochs=1, progress=False)


# -- from a source to a model


def test_a_lag_streams_as_it_trains_in_memory(chain, tmp_path):
    """The same losses, several models, and what is said of pairs that are lost."""
    options = {"length_unit": "reduced", "hidden": (8,), "epochs": 2, "batch_size": 64, "lagtime": 3, "vamp_weight": 5}
    source = [chain[:120], chain[120:]]
    weights = np.linspace(1, 2, 300)
    options |= {"weights": weights, "n_models": 2, "progress": False}
    one, other = (mdvae.fit(source, **options, **more) for more in ({}, {"cache": tmp_path}))
    for name, values in one.history.terms.items():
        np.testing.assert_allclose(other.history.terms[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    # Two or three blocks and what lies between them, in each trajectory.
    held = np.zeros(300, bool)
    held[split_blocks([120, 180], 0.1)[1]] = True
    n_stretches = 2 + np.count_nonzero(np.diff(held)[np.arange(299) != 119])
    assert one.settings["pairs_lost"] == 3 * n_stretches
    assert one.history.n_training + one.history.n_validation == 300 - 3 * n_stretches
    assert f"{3 * n_stretches} frames without a later one" in str(one)
    assert "from the frame 3 later" in one.diagnostics.reconstruction_unit


def test_the_error_of_a_lagged_model_is_that_of_the_later_frame(frames):
    model = mdvae.build(frames, latent_dim=2, hidden=(8,), seed=0)
    trained = mdvae.train(model, frames, lagtime=4, epochs=1, progress=False)
    _, validation = lagged_pairs([300], split_blocks([300], 0.1)[1], 4)
    decoded = mdvae.decode(trained, mdvae.encode(trained, frames.coordinates[validation]), restore=False)
    apart = decoded.xyz[..., :2] - frames.coordinates[validation + 4]
    expected = np.sqrt((apart**2).sum(axis=2).mean(axis=1)).mean()
    np.testing.assert_allclose(trained.diagnostics.reconstruction, expected, rtol=1e-4)


def test_a_bias_goes_with_no_lag():
    with pytest.raises(ValueError, match="lagtime=5 with the bias of a simulation as weights"):
        mdvae.fit("nowhere.xtc", weights="COLVAR:metad.bias", temperature=300, lagtime=5)


@pytest.mark.parametrize("representation", ["cartesian", "internal"])
def test_statistics_are_those_of_the_weighted_frames(frames, representation):
    """Means that the decoder starts at, and spreads: weight 2 is the frame twice."""
    counts = np.random.default_rng(0).integers(0, 3, 300)
    twice = np.repeat(frames.coordinates, counts, axis=0)
    options = {"representation": representation, "hidden": (8,), "seed": 0}
    weighted = mdvae.Frames(
        frames.coordinates, (300,), None, frames.system, frames.alignment, frames.report, counts.astype(float)
    )
    repeated = mdvae.Frames(twice, (len(twice),), None, frames.system, frames.alignment, frames.report)
    one, other = (mdvae.build(given, **options).vae for given in (weighted, repeated))
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
