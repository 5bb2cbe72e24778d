"""Weights of frames, from numbers or from the bias of a simulation."""

import numpy as np
import pytest

import mdvae
from mdvae.trajectory import frame_weights

BOLTZMANN = 1.380649e-23 * 6.02214076e23 / 1000


@pytest.fixture
def colvar(tmp_path, rng):
    """A file as PLUMED writes it, its header repeated after a restart; and its columns."""
    table = np.column_stack([np.arange(20.0), rng.normal(size=20), rng.normal(50, 10, size=20)])
    lines = ["#! FIELDS time phi metad.rbias", "#! SET min_phi -pi"]
    lines += [" ".join(f"{value:.9f}" for value in row) for row in table]
    lines.insert(12, "#! FIELDS time phi metad.rbias")
    path = tmp_path / "COLVAR"
    path.write_text("\n".join(lines) + "\n")
    return path, table


def test_a_bias_gives_boltzmann_weights(colvar):
    path, table = colvar
    found = frame_weights(f"{path}:metad.rbias", [20], temperature=310)
    expected = np.exp(table[:, 2] / (BOLTZMANN * 310))
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-6)


def test_a_large_bias_does_not_overflow(tmp_path):
    path = tmp_path / "COLVAR"
    path.write_text("#! FIELDS time bias\n0 100000\n1 100010\n2 -100000\n")
    found = frame_weights(f"{path}:bias", [3], temperature=300)
    np.testing.assert_allclose(found[:2], [np.exp(-10 / (BOLTZMANN * 300)), 1], rtol=1e-6)
    assert found[2] == 0


def test_rows_are_thinned_as_the_frames_are(colvar):
    path, table = colvar
    weights = np.exp((table[:, 2] - table[:, 2].max()) / (BOLTZMANN * 300))
    by_file = frame_weights(f"{path}:metad.rbias:2", [10], temperature=300)
    by_stride = frame_weights(f"{path}:metad.rbias", [7], stride=3, temperature=300)
    np.testing.assert_allclose(by_file / by_file[3], weights[::2] / weights[6], rtol=1e-6)
    np.testing.assert_allclose(by_stride / by_stride[2], weights[::3] / weights[6], rtol=1e-6)


def test_several_trajectories_share_one_factor(colvar, tmp_path):
    """A run whose bias is larger throughout weighs more."""
    path, table = colvar
    other = tmp_path / "COLVAR.2"
    other.write_text("#! FIELDS time metad.rbias\n" + "".join(f"{i} {60 + i}\n" for i in range(5)))
    found = frame_weights([f"{path}:metad.rbias", f"{other}:metad.rbias"], [20, 5], temperature=300)
    bias = np.concatenate([table[:, 2], 60 + np.arange(5)])
    np.testing.assert_allclose(np.log(found / found[0]), (bias - bias[0]) / (BOLTZMANN * 300), rtol=1e-6, atol=1e-9)


def test_numbers_are_taken_as_they_are(tmp_path, rng):
    w = rng.uniform(size=30)
    np.save(tmp_path / "w.npy", w)
    for given, lengths in ((w, [30]), (w.tolist(), [30]), (w, [10, 20]), ([w[:10], w[10:]], [10, 20])):
        np.testing.assert_array_equal(frame_weights(given, lengths), w)
    np.testing.assert_array_equal(frame_weights(tmp_path / "w.npy", [30]), w)
    np.testing.assert_array_equal(frame_weights([w[:10], w[10:]], [4, 7], stride=3), [*w[:10:3], *w[10::3]])


def bad(**changes):
    return {"weights": np.ones(20), "lengths": [20]} | changes


WRONG = {
    "too few": (bad(weights=np.ones(7)), ValueError, "7 weights do not belong to 20 frames"),
    "ten times as many": (bad(weights=np.ones(201)), ValueError, "written 10 times as often, take 'FILE:COLUMN:10'"),
    "negative": (bad(weights=-np.ones(20)), ValueError, "20 of 20 weights are negative, the least -1"),
    "NaN": (bad(weights=np.full(20, np.nan)), ValueError, "20 of 20 weights are NaN or infinite"),
    "zero": (bad(weights=np.zeros(20)), ValueError, "all 20 weights are 0"),
    "words": (bad(weights={"a": 1}), TypeError, "weights must be an array"),
    "a table": (bad(weights=np.ones((20, 2))), ValueError, r"got an array of shape \(20, 2\)"),
    "another number of trajectories": (
        bad(weights=[np.ones(20)] * 3, lengths=[20, 20]),
        ValueError,
        "weights are of 3 trajectories, expected 2",
    ),
    "one array, a stride": (bad(lengths=[5, 5], stride=2), ValueError, "must be a list, one array for each"),
    "a temperature for nothing": (bad(temperature=300), ValueError, "belongs to weights from a COLVAR file"),
    "a bias without one": (bad(weights="COLVAR:metad.bias"), ValueError, "are energies; give the temperature"),
    "absolute zero": (bad(weights="COLVAR:metad.bias", temperature=0), ValueError, "must be above 0 K"),
    "no such file": (bad(weights="nowhere:bias", temperature=300), FileNotFoundError, "no COLVAR file at nowhere"),
    "no column": (bad(weights="COLVAR", temperature=300), ValueError, "names no column"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(case):
    options, error, words = WRONG[case]
    weights, lengths = options.pop("weights"), options.pop("lengths")
    with pytest.raises(error, match=words):
        frame_weights(weights, lengths, **options)


def test_files_that_hold_no_such_column_say_what_they_hold(colvar, tmp_path):
    with pytest.raises(ValueError, match=r"no column 'metad.bias'; it has time, phi, metad.rbias"):
        frame_weights(f"{colvar[0]}:metad.bias", [20], temperature=300)
    (tmp_path / "text").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="no line '#! FIELDS' names its columns"):
        frame_weights(f"{tmp_path / 'text'}:bias", [1], temperature=300)


def test_frames_are_read_with_their_weights(chain, tmp_path):
    """With a stride, and from the cache as well, which does not keep them."""
    w = np.random.default_rng(0).uniform(size=300)
    for _ in range(2):
        frames = mdvae.read(chain, length_unit="reduced", stride=4, weights=w, cache=tmp_path)
        np.testing.assert_array_equal(frames.weights, w[::4])
    assert mdvae.read(chain, length_unit="reduced", stride=4, cache=tmp_path).weights is None
