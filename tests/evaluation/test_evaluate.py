"""The whole evaluation: it prints and saves, takes every source, and refuses what it cannot judge, in one line."""

import csv
import dataclasses
import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.evaluation.tables import COLUMNS
from mdvae.training.splits import split_blocks


@pytest.fixture(scope="module")
def later():
    """Another run of the chain."""
    return mdvae.toys.bead_spring_chain(300, n_beads=6, seed=1)


@pytest.fixture(scope="module")
def evaluation(trained, later):
    return mdvae.evaluate(trained, later, n_generated=100)


def assert_same(a, b, but=()):
    """The same numbers."""
    ours, theirs = list(a.rows()), list(b.rows())
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        if any(word in one["quantity"] or word == one["section"] for word in but):
            continue
        for name in COLUMNS:
            if isinstance(one[name], str):
                assert one[name] == other[name]
            else:
                np.testing.assert_allclose(one[name], other[name], rtol=2e-3, atol=2e-4, err_msg=str(one))


SECTIONS = (
    "300 held-out frames, 3 latent dimensions, 100 generated structures",
    "reconstruction RMSD (reduced units)",
    "reconstructions within the training data (%)",
    "structures (%)",
    "ensemble ",
    "neighbors ",
    "kinetics at a lag of",
    "Verdict: as a coordinate: ",
)


def test_every_section_is_printed(evaluation):
    lines = str(evaluation).splitlines()
    for section in SECTIONS:
        assert sum(line.startswith(section) for line in lines) == 1, section
    for name, _, _ in evaluation.ensemble.rows:
        assert any(line.strip().startswith(name) for line in lines), name
    assert "nan" not in str(evaluation)
    assert all(f"- {finding}" in lines for finding in evaluation.verdict.findings)


def test_json(evaluation, tmp_path):
    evaluation.save(tmp_path / "e.json")

    def no_constant(name):
        raise AssertionError(name)

    plain = json.loads((tmp_path / "e.json").read_text(), parse_constant=no_constant)
    assert (plain["n_frames"], plain["n_left_out"], plain["latent_dim"], plain["n_training"]) == (300, 0, 3, 300)
    assert (plain["unit"], plain["how"]["seed"], plain["how"]["generated"]) == ("reduced", 0, "by the model")
    np.testing.assert_allclose(plain["reconstruction"]["rmsd"], evaluation.reconstruction.rmsd, rtol=1e-6)
    assert plain["verdict"] == {
        "uses": evaluation.verdict.uses,
        "findings": list(evaluation.verdict.findings),
        "kinds": list(evaluation.verdict.kinds),
    }
    assert plain["structures"]["shares"] == evaluation.structures.shares
    assert plain["kinetics"]["methods"] == ["latent", "TICA", "PCA"]
    np.testing.assert_allclose(plain["kinetics"]["scores"], evaluation.kinetics.scores)
    assert plain["latent_space"] == evaluation.latent_space.to_dict()
    assert plain["diagnostics"]["mutual_information"] > 0


def test_csv(evaluation, tmp_path):
    evaluation.save(tmp_path / "e.csv")
    with (tmp_path / "e.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    expected = list(evaluation.rows())
    assert len(rows) == len(expected) > 50
    for row, other in zip(rows, expected, strict=True):
        assert row["section"] == other["section"]
        value = float(row["value"])
        assert value == float(other["value"]) or math.isnan(value)
    of_ensemble = {row["quantity"]: row for row in rows if row["section"] == "ensemble"}
    for name, unit, distance in evaluation.ensemble.rows:
        row = of_ensemble[name]
        assert row["unit"] == unit
        found = [float(row[column]) for column in ("value", "floor", "low", "high", "blocks")]
        np.testing.assert_allclose(found, [getattr(distance, n) for n in ("value", "floor", "low", "high", "blocks")])
    keys = [(row["section"], row["quantity"], row["of"]) for row in rows]
    assert len(set(keys)) == len(keys)


def test_the_same_seed_gives_the_same(evaluation, trained, later):
    again = mdvae.evaluate(trained, later, n_generated=100)
    assert str(again) == str(evaluation)
    other = mdvae.evaluate(trained, later, n_generated=100, seed=1)
    assert other.ensemble.rows[0][2].value != evaluation.ensemble.rows[0][2].value
    assert other.how["seed"] == 1


def test_chunks_do_not_matter(evaluation, trained, later):
    assert_same(mdvae.evaluate(trained, later, n_generated=100, chunk=70), evaluation)


def test_generated_structures_may_be_given(trained, later, tmp_path):
    """As an array, a trajectory, or a file; in any pose."""
    made = mdvae.generate(trained, 100, seed=5)
    array = made.xyz[..., :2].copy()
    mdvae.save_trajectory(made, tmp_path / "made.dcd")
    found = mdvae.evaluate(trained, later, generated=array)
    assert (found.how["generated"], found.ensemble.n_generated) == ("given", 100)
    assert set(found.structures.shares) == {"held-out", "generated"}
    turned = array @ np.array([[0, -1], [1, 0]], np.float32) + 2
    for source in (made, tmp_path / "made.dcd", [turned[:40], turned[40:]]):
        assert_same(mdvae.evaluate(trained, later, generated=source), found)


def test_generated_structures_are_those_of_the_model(evaluation, trained, key):
    made = mdvae.generate(trained, 100, seed=0).xyz[..., :2]
    bonds = np.linalg.norm(np.diff(made, axis=1), axis=2)
    found = [one for one in evaluation.ensemble.marginals if one.family == "bond"]
    inside = [(b >= one.edges[0]) & (b <= one.edges[-1]) for b, one in zip(bonds.T, found, strict=True)]
    np.testing.assert_allclose([one.generated.sum() for one in found], np.mean(inside, axis=1), atol=0.011)
    assert evaluation.structures.n["as decoded"] == evaluation.structures.n["generated"] == 100


def test_the_worst_are_kept(trained, later):
    """Of given structures, of which two have been stretched."""
    made = mdvae.generate(trained, 50, seed=5).xyz[..., :2].copy()
    made[[7, 30]] *= np.array([1.5, 3])[:, None, None]
    found = mdvae.evaluate(trained, later, generated=made)
    assert set(found.structures.worst[:2].tolist()) == {7, 30}
    assert len(found.worst) == len(found.structures.worst)
    sizes = np.linalg.norm(np.diff(found.worst.xyz[:2, :, :2], axis=1), axis=2).sum(axis=1)
    expected = np.linalg.norm(np.diff(made[found.structures.worst[:2]], axis=1), axis=2).sum(axis=1)
    np.testing.assert_allclose(sizes, expected, rtol=1e-4)


def test_of_the_training_source_the_held_out_blocks_are_judged(trained, chain):
    """Six frames in a row five times are too few for kinetics, which is said."""
    found = mdvae.evaluate(trained, chain, n_generated=50)
    assert found.n_frames == len(split_blocks([300])[1]) == 30
    assert found.n_left_out == 270
    assert "270 further frames of this source were trained on" in str(found)
    assert found.latent_space.seen == 1  # they are among those that the model keeps


def test_frames_that_are_not_in_time_order_have_no_kinetics(trained, later, rng, tmp_path):
    shuffled = rng.permutation(later)
    found = mdvae.evaluate(trained, shuffled, n_generated=50)
    assert found.kinetics is None
    assert "not in time order" in found.without_kinetics
    assert f"kinetics left out: {found.without_kinetics}" in str(found).splitlines()
    found.save(tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["kinetics"] == found.without_kinetics
    assert "kinetics" not in {row["section"] for row in found.rows()}
    with pytest.raises(ValueError, match="lagtime=2 needs frames in time order"):
        mdvae.evaluate(trained, shuffled, n_generated=50, lagtime=2)


def test_the_lagtime_is_that_of_the_scores(trained, later):
    found = mdvae.evaluate(trained, later, n_generated=50, lagtime=5)
    assert found.kinetics.lagtime == 5
    assert "kinetics at a lag of 5 frames" in str(found)


def test_time_stamps_give_picoseconds(learned, others, peptide):
    source = md.Trajectory(others[0], peptide, time=2.5 * np.arange(400))
    found = mdvae.evaluate(learned, source, generated=others[1][::8])
    assert (found.kinetics.unit, found.kinetics.frame_time, found.unit) == ("ps", 2.5, "nm")
    assert "slowest timescale (ps)" in str(found)
    assert "reconstruction RMSD (Å)" in str(found)
    assert "φ/ψ of ALA2, JS (bits)" in str(found)
    # Without, or with uneven ones, the same in frames.
    uneven = md.Trajectory(others[0], peptide, time=np.arange(400) + 0.3 * (np.arange(400) % 2))
    of_frames = mdvae.evaluate(learned, uneven, generated=others[1][::8])
    assert (of_frames.kinetics.unit, of_frames.kinetics.frame_time) == ("frames", 1)
    np.testing.assert_allclose(found.kinetics.timescales, 2.5 * of_frames.kinetics.timescales)


def test_thresholds_are_passed_on(trained, later, evaluation):
    limits = mdvae.evaluation.Thresholds(reconstruction=0.0)
    found = mdvae.evaluate(trained, later, n_generated=100, thresholds=limits)
    assert set(found.verdict.uses.values()) == {"no"}
    sentence = "Reconstructions are hardly nearer to the frames"
    assert any(finding.startswith(sentence) for finding in found.verdict.findings)
    assert not any(finding.startswith(sentence) for finding in evaluation.verdict.findings)


# -- errors


def test_an_untrained_model_is_refused(frames, chain):
    with pytest.raises(ValueError, match="has not been trained"):
        mdvae.evaluate(mdvae.build(frames), chain)


@pytest.mark.parametrize("options", [{"n_generated": 5}, {"noise": True}, {"prior": "aggregate_posterior"}])
def test_given_structures_are_not_generated(options, trained, later):
    with pytest.raises(ValueError, match="leave them out where generated is given"):
        mdvae.evaluate(trained, later, generated=later, **options)


@pytest.mark.parametrize("options", [{"prior": "nope"}, {"lagtime": 0}])
def test_wrong_options_are_refused_before_anything_is_read(options, trained):
    with pytest.raises(ValueError, match=next(iter(options))):
        mdvae.evaluate(trained, "no-such-file.xtc", **options)


@pytest.mark.parametrize("n", [0, -3])
def test_no_structure_to_generate(n, trained, later):
    with pytest.raises(ValueError, match=f"at least 1 structure to generate, got n_generated={n}"):
        mdvae.evaluate(trained, later, n_generated=n)


def test_a_seed_that_is_none(trained, later):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        mdvae.evaluate(trained, later, seed=-1)


def test_frames_that_training_saw_all(trained, chain):
    with pytest.raises(ValueError, match="training saw all 50 frames of this source; give another run"):
        mdvae.evaluate(trained, chain[:50])


def test_another_molecule_is_refused(trained, later):
    with pytest.raises(ValueError, match="is this another molecule"):
        mdvae.evaluate(trained, later[:, :5])
    with pytest.raises(ValueError, match="is this another molecule"):
        mdvae.evaluate(trained, later, generated=later[:, :5])


def test_no_frames(trained, later):
    with pytest.raises(ValueError, match="no frames"):
        mdvae.evaluate(trained, later[:0])


def test_a_file_that_is_not_there(trained, tmp_path):
    with pytest.raises(FileNotFoundError):
        mdvae.evaluate(trained, tmp_path / "none.dcd")


@pytest.mark.parametrize("n", [1, 2])
def test_very_few_frames(n, trained, later):
    """Little can be said, and it says so."""
    found = mdvae.evaluate(trained, later[:n], n_generated=20)
    assert found.n_frames == n
    assert found.kinetics is None
    assert found.without_kinetics
    assert str(found).startswith(f"{n} held-out frame{'s' * (n > 1)}, ")


def test_one_generated_structure(trained, later):
    found = mdvae.evaluate(trained, later, n_generated=1)
    assert found.ensemble.n_generated == 1
    assert jax.tree.all(jax.tree.map(np.isfinite, [row[2].value for row in found.ensemble.rows]))


def test_a_model_whose_latent_points_are_all_one(trained, later):
    """Nothing can be divided; the rest is said."""
    constant = eqx.tree_at(lambda vae: vae.encoder.scale, trained.vae, jnp.asarray(1e30, jnp.float32))
    found = mdvae.evaluate(dataclasses.replace(trained, vae=constant, diagnostics=None), later, n_generated=20)
    assert not np.ptp(found.latent_space.held_out, axis=0).any()
    assert found.undersampled is None
    assert found.kinetics is None
    assert found.to_dict()["undersampled"] is None
    assert found.verdict.uses["coordinate"] == "no"


def test_a_latent_coordinate_that_never_changes_divides_nothing(trained, later):
    last = trained.vae.encoder.layers[-1]
    fixed = eqx.tree_at(
        lambda vae: (vae.encoder.layers[-1].weight, vae.encoder.layers[-1].bias),
        trained.vae,
        (last.weight.at[:2].set(0), last.bias.at[:2].set(0.5)),
    )
    found = mdvae.evaluate(dataclasses.replace(trained, vae=fixed, diagnostics=None), later, n_generated=20)
    assert found.undersampled.axes == ("z3",)


def test_where_nothing_is_turned_it_is_said(chain, later):
    frames = mdvae.read(chain, length_unit="reduced", alignment="none")
    model = mdvae.train(mdvae.build(frames, hidden=(8,), seed=0), frames, epochs=2, seed=0)
    assert "of structures as they lie" in mdvae.evaluate(model, later, n_generated=20).head


def test_where_all_is_turned_nothing_is_said(evaluation):
    assert "as they lie" not in str(evaluation)


# -- weights


def test_a_weight_of_two_is_the_frame_twice(trained, later):
    """In what is compared: twice as many frames of the first half, in place."""
    weights = np.repeat([2.0, 1.0], 150)
    twice = np.repeat(later, weights.astype(int), axis=0)
    found, expected = (
        mdvae.evaluate(trained, frames, n_generated=100, weights=given)
        for frames, given in ((later, weights), (twice, None))
    )
    for (name, _, ours), (_, _, theirs) in zip(found.ensemble.rows, expected.ensemble.rows, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-5), name
        assert ours.floor == pytest.approx(theirs.floor, rel=1e-5), name
    assert found.structures.shares["held-out"]["valid"] == pytest.approx(
        expected.structures.shares["held-out"]["valid"], abs=0.01
    )
    assert found.how["weighted"]
    assert found.kinetics is None
    assert "weights do not undo" in str(found)


def test_weights_choose_the_frames_that_are_compared(trained, later):
    """Frames that weigh nothing might as well not be there."""
    weights = np.r_[np.zeros(200), np.ones(100)]
    found = mdvae.evaluate(trained, later, n_generated=100, weights=weights)
    alone = mdvae.evaluate(trained, later[200:], n_generated=100)
    for (name, _, ours), (_, _, theirs) in zip(found.ensemble.rows, alone.ensemble.rows, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-3), name
    assert len(found.reconstruction.rmsd_raw) == 300


def test_weights_go_with_a_stride(trained, later):
    weights = np.zeros(300)
    weights[[0, 4, 8]] = 1
    found = mdvae.evaluate(trained, later, n_generated=50, weights=weights, stride=4)
    alone = mdvae.evaluate(trained, later[[0, 4, 8]], n_generated=50)
    assert found.n_frames == 75
    for (name, _, ours), (_, _, theirs) in zip(found.ensemble.rows, alone.ensemble.rows, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-3), name


def test_weights_that_do_not_fit(trained, later):
    with pytest.raises(ValueError, match="299 weights do not belong to 300 frames"):
        mdvae.evaluate(trained, later, weights=np.ones(299))
    with pytest.raises(ValueError, match="lagtime=5 is of kinetics"):
        mdvae.evaluate(trained, later, weights=np.ones(300), lagtime=5)
    with pytest.raises(ValueError, match="give the temperature"):
        mdvae.evaluate(trained, later, weights="COLVAR:metad.rbias")
