"""Models of chosen features and of pair distances: built, trained, kept; coordinates, and honest about the rest."""

import html
import logging

import jax
import jax.numpy as jnp
import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.representations import Chosen

FEATURES = ("torsion 1 2 3 4", "distance 0 -1", "contact 0 4", "torsion 0 1 2 3")
SMALL = {"hidden": (16,), "seed": 0}


@pytest.fixture(scope="module")
def posed(hexane):
    return mdvae.read(hexane[0])


def built(posed, **options):
    return mdvae.build(posed, **({"representation": "chosen", "features": FEATURES} | SMALL | options))


@pytest.fixture(scope="module")
def model(posed):
    return mdvae.train(built(posed), posed, epochs=30, learning_rate=3e-3, seed=0, progress=False)


@pytest.fixture(scope="module")
def distances(posed):
    """Of all pairs."""
    untrained = mdvae.build(posed, representation="distances", **SMALL)
    return mdvae.train(untrained, posed, epochs=2, seed=0, progress=False)


def test_features_are_those_that_were_asked_for(model, hexane):
    frame = hexane[0][:1].astype(np.float64)
    assert model.spec.features == ("torsion 1 2 3 4", "distance 0 5", "contact 0 4", "torsion 0 1 2 3")
    torsions = md.compute_dihedrals(md.Trajectory(frame, None), np.array([[1, 2, 3, 4], [0, 1, 2, 3]]))[0]
    length, near = (np.linalg.norm(frame[0, 0] - frame[0, i]) for i in (5, 4))
    expected = [length, 1 / (1 + (near / 0.45) ** 6), *np.cos(torsions), *np.sin(torsions)]
    np.testing.assert_allclose(model.representation.to_features(jnp.asarray(hexane[0][0])), expected, atol=1e-5)


def test_all_pairs(distances, hexane):
    assert isinstance(distances.representation, Chosen)
    assert distances.representation.n_features == distances.spec.n_features == 15
    frame = hexane[0][0]
    expected = np.linalg.norm(frame[:, None] - frame[None], axis=2)[np.triu_indices(6, 1)]
    np.testing.assert_allclose(distances.representation.to_features(jnp.asarray(frame)), expected, atol=1e-6)


def test_too_many_pairs_are_refused(rng):
    frames = mdvae.read(rng.normal(size=(10, 101, 3)))
    with pytest.raises(ValueError, match="101 atoms has 5050 pairs, more than 4950: select at most 100 atoms"):
        mdvae.build(frames, representation="distances")


def test_torsions_by_name_are_kept_by_their_atoms(rng):
    """The file is complete: whoever reads it needs no rules for names."""
    topology = md.Topology()
    chain = topology.add_chain()
    for number, (name, atoms) in enumerate({"ACE": "C", "ALA": "N CA C CB", "NME": "N"}.items(), 1):
        residue = topology.add_residue(name, chain, resSeq=number)
        for atom in atoms.split():
            topology.add_atom(atom, md.element.Element.getBySymbol(atom[0]), residue)
    frames = mdvae.read(md.Trajectory(rng.normal(size=(20, 6, 3)).astype(np.float32), topology))
    model = built(frames, features=["phi", "psi ALA2", "distance 4 0"])
    assert model.spec.features == ("torsion 0 1 2 3", "torsion 1 2 3 5", "distance 4 0")
    np.testing.assert_array_equal(model.representation.torsions, [[0, 1, 2, 3], [1, 2, 3, 5]])
    with pytest.raises(ValueError, match="the feature 'torsion 0 1 2 3' is named twice"):
        built(frames, features=["phi", "torsion 3 2 1 0"])
    with pytest.raises(ValueError, match="latent_dim=3 is larger than the number of features: those chosen"):
        built(frames, features=["phi"], latent_dim=3)


def test_names_without_a_topology_are_refused(posed):
    with pytest.raises(ValueError, match="none of the 6 selected atoms make the torsion 'phi'"):
        built(posed, features=["phi"])


@pytest.mark.parametrize("which", ["model", "distances"])
def test_saved_and_loaded_bit_for_bit(which, request, hexane, tmp_path):
    model = request.getfixturevalue(which)
    mdvae.save(model, tmp_path / "m.mdvae")
    again = mdvae.load(tmp_path / "m.mdvae")
    assert again.spec == model.spec
    assert str(again) == str(model)
    for ours, theirs in zip(*(jax.tree.leaves(m.representation) for m in (model, again)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(mdvae.encode(again, hexane[0]), mdvae.encode(model, hexane[0]))


def test_it_says_what_it_is_made_of(model, distances):
    features = "distance 0 5, contact 0 4, torsion 1 2 3 4, torsion 0 1 2 3"
    assert f"features    Chosen, 6 numbers a frame, encode only: {features}\n" in str(model)
    assert "Chosen, 15 numbers a frame, encode only: distance 0 1, " in str(distances)
    assert "distance 1 2, and 9 more\n" in str(distances)
    assert "standard deviations of a feature (mean RMS as decoded)" in str(model)


def test_it_learns(model):
    """What is decoded of z is nearer to the features than their mean is, which is one standard deviation away."""
    assert model.diagnostics.reconstruction < 0.8
    terms = model.history.terms["validation_loss"]
    assert terms[-1] < terms[0] - 0.3


def test_the_pose_of_the_source_does_not_matter(model, hexane):
    turned = hexane[0][:20, :, [1, 2, 0]] + np.float32(3)
    np.testing.assert_allclose(mdvae.encode(model, turned), mdvae.encode(model, hexane[0][:20]), atol=1e-4)


def test_unaligned_frames_do_as_well(hexane):
    frames = mdvae.read(hexane[0], alignment="none")
    aligned = built(mdvae.read(hexane[0]))
    z = (mdvae.encode(model, hexane[0][:9]) for model in (built(frames), aligned))
    np.testing.assert_allclose(*z, atol=1e-4)


def test_in_the_plane(frames, chain):
    model = built(frames, features=["distance 0 5", "contact 1 4"], latent_dim=1)
    assert mdvae.encode(model, chain).shape == (300, 1)
    with pytest.raises(ValueError, match="the frames are in the plane"):
        built(frames, features=["torsion 0 1 2 3"])


REFUSING = {
    "decode": lambda model, _: mdvae.decode(model, np.zeros((1, 2))),
    "generate": lambda model, _: mdvae.generate(model, 2),
    "reconstruct": lambda model, _: mdvae.reconstruct(model, "no-such-file.xtc"),
    "minimize": lambda model, _: mdvae.minimize(model, mdvae.observables.radius_of_gyration),
    "undersampled": lambda model, _: mdvae.undersampled(model),
    "fit_noise": lambda model, _: mdvae.fit_noise(model),
    "strain_weight": lambda model, posed: mdvae.train(model, posed, strain_weight=0.1),
    "augment": lambda model, posed: mdvae.train(model, posed, augment=["mirror"]),
}


@pytest.mark.parametrize("what", REFUSING)
def test_what_needs_positions_is_refused_in_one_line(what, model, posed):
    with pytest.raises(ValueError, match=f"^{what}") as caught:
        REFUSING[what](model, posed)
    message = str(caught.value)
    assert "representation='cartesian' or 'internal'" in message
    assert "no way back" in message
    assert "\n" not in message


@pytest.mark.parametrize("options", [{"strain_weight": 0.1}, {"augment": ["noise=0.01"]}])
def test_fit_refuses_it_before_it_reads(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} works on positions"):
        mdvae.fit("no-such-file.xtc", representation="distances", **options)


def test_where_the_data_are_thin_can_still_be_seen(model):
    found = mdvae.undersampled(model, n_frames=0)
    assert found.counts.sum() == 400
    assert found.thin.any()


def test_a_prior_and_a_likelihood_are_of_features_alone(model, hexane):
    fitted = mdvae.fit_prior(model, n_components=2, epochs=1, progress=False)
    np.testing.assert_array_equal(mdvae.encode(fitted, hexane[0][:9]), mdvae.encode(model, hexane[0][:9]))
    found = mdvae.log_likelihood(model, hexane[0][:50], 10)
    assert found.elbo.mean() <= found.estimate.mean()


@pytest.fixture(scope="module")
def evaluation(model):
    return mdvae.evaluate(model, mdvae.toys.alkane(300, n_carbons=6, seed=1, stride=100))


def test_evaluation_leaves_out_structures_and_says_so(evaluation):
    assert evaluation.reconstruction is evaluation.structures is evaluation.ensemble is None
    text = str(evaluation)
    assert "reconstruction, structures and ensemble left out: the model only encodes, since its features have" in text
    assert "generated structure" not in text
    assert "nan" not in text
    assert text.startswith("300 held-out frames, 2 latent dimensions\n")
    assert "nearest training frame of held-out frames" in text


def test_evaluation_keeps_kinetics(evaluation, model):
    """Beside TICA and PCA of the same features."""
    assert evaluation.kinetics.methods == ("latent", "TICA", "PCA")
    assert evaluation.kinetics.alignment_jumps == 0
    assert "kinetics at a lag of" in str(evaluation)


def test_the_verdict_is_of_a_coordinate(evaluation):
    verdict = evaluation.verdict
    assert verdict.uses["generation"] == verdict.uses["optimization"] == "no"
    assert verdict.uses["coordinate"] != "no"
    assert "can be used as a coordinate" in verdict.findings[0]
    assert "it cannot generate" in verdict.findings[0]
    assert len(verdict.kinds) == len(verdict.findings)


def test_another_ensemble_is_no_yes(model, hexane):
    """Stretched by half: what can be said of any model is said of this one."""
    verdict = mdvae.evaluate(model, 1.5 * hexane[0][:150]).verdict
    assert verdict.uses["coordinate"] == "no"
    assert verdict.findings[0].startswith("It cannot be used as a coordinate; it cannot generate")


def test_evaluation_as_numbers(evaluation, tmp_path):
    plain = evaluation.to_dict()
    for name in ("reconstruction", "structures", "ensemble"):
        assert plain[name].startswith("the model only encodes")
    assert {row["section"] for row in evaluation.rows()} == {"latent space", "kinetics"}
    assert {"copied", "coverage", "nearest_generated_median"}.isdisjoint(plain["latent_space"])
    evaluation.save(tmp_path / "e.json")
    evaluation.save(tmp_path / "e.csv")
    assert evaluation.worst.n_frames == 0


GENERATING = {"a number": {"n_generated": 5}, "noise": {"noise": True}, "a prior": {"prior": "aggregate_posterior"}}


@pytest.mark.parametrize("case", GENERATING)
def test_evaluation_of_what_it_does_not_generate_is_refused(case, model):
    with pytest.raises(ValueError, match="of which this model makes none: it only encodes"):
        mdvae.evaluate(model, "no-such-file.xtc", **GENERATING[case])


def test_several_are_evaluated_together(model, hexane):
    found = mdvae.evaluation.evaluate_ensemble([model, model], hexane[0][:150])
    assert "to generate: no (2)" in str(found)


def test_figures_are_those_that_there_are(model, posed, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "mdvae"):
        made = mdvae.pipeline.draw_figures(model, posed, tmp_path)
    assert {path.name for path in made} == {path.name for path in tmp_path.iterdir()} == {"loss.png", "latent.png"}
    assert "figures of structures are left out: the model only encodes" in caplog.text


def test_a_report_without_structures(model, hexane, tmp_path):
    pytest.importorskip("plotly")
    mdvae.write_report(model, hexane[0][:150], tmp_path / "r.html")
    page = html.unescape((tmp_path / "r.html").read_text("utf-8"))
    assert page.count("<p>Left out: the model only encodes") == 3
    assert "cannot be explored in a page: it only encodes" in page


def test_how_frames_lie_is_nothing_to_distances(hexane):
    """Neighbors are told by shape where neither pose nor features know how a frame is turned."""
    later = mdvae.toys.alkane(200, n_carbons=6, seed=1)
    turned = later @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    shares = []
    for alignment, frames in (("none", later), ("none", turned), ("superposition", later)):
        posed = mdvae.read(hexane[0], alignment=alignment)
        model = mdvae.build(posed, representation="distances", **SMALL)
        model = mdvae.train(model, posed, epochs=1, seed=0, progress=False)
        shares.append(mdvae.evaluate(model, frames).latent_space.out_of_distribution)
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert shares[0] == pytest.approx(shares[2], abs=0.05)
