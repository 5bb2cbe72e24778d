"""What is wrong with a model is named, by models and generators that are wrong in one way; what is right passes."""

import dataclasses
import json

import mdtraj as md
import numpy as np
import pytest

import mdvae
from mdvae.evaluation import Thresholds
from mdvae.evaluation.comparing import Distance, jensen_shannon
from mdvae.evaluation.latent_space import look_around
from mdvae.evaluation.structures import judge
from mdvae.evaluation.verdict import conclude

CAN = {"yes", "with care"}


@pytest.fixture(scope="module")
def held_out(others, peptide):
    """Five runs that nobody trained on."""
    return [md.Trajectory(x, peptide) for x in others[5:]]


@pytest.fixture(scope="module")
def rows(others):
    """Of five other runs, as if generated."""
    return others[:5].reshape(-1, 15, 3)


@pytest.fixture(scope="module")
def passing(learned, held_out, rows):
    return mdvae.evaluate(learned, held_out, generated=rows)


def said(found, *words):
    """The one finding with all these words, and its kind."""
    matching = [
        (text, kind)
        for text, kind in zip(found.verdict.findings, found.verdict.kinds, strict=True)
        if all(word in text for word in words)
    ]
    assert len(matching) == 1, f"{words} in {found.verdict}"
    return matching[0]


def silent(found, *words):
    assert not any(word in text for word in words for text in found.verdict.findings), str(found.verdict)


# -- what must pass


def test_a_sample_of_the_simulation_passes(passing):
    uses = passing.verdict.uses
    assert uses["generation"] == "yes"
    assert uses["coordinate"] in CAN
    assert uses["optimization"] == "yes"
    assert "bad" not in passing.verdict.kinds
    said(passing, "All 8 distributions of conformations are at the noise floor")
    said(passing, "z stands for the structure to", "PCA of the same size")
    assert said(passing, "of the generated structures are valid")[1] == "good"
    silent(passing, "copies", "mirror", "collapsed", "among those", "Widths", "another molecule", "nearby")


def test_a_model_that_learned_something_is_a_coordinate(learned, held_out):
    found = mdvae.evaluate(learned, held_out[:2], n_generated=200)
    assert found.verdict.uses["coordinate"] in CAN
    assert found.verdict.uses["optimization"] in CAN
    silent(found, "copies", "mirror", "collapsed", "among those", "another molecule")
    # Means are narrower than samples.
    assert said(found, "Widths are not the simulation's", "bond, W1")[1] == "note"


# -- controls


def test_shuffled_coordinates_are_named(training, runs, held_out, peptide):
    """Each coordinate keeps its distribution, and has nothing to do with the others."""
    rng, x = np.random.default_rng(0), mdvae.read(runs).coordinates.copy()
    for column in x.reshape(len(x), -1).T:
        rng.shuffle(column)
    model = training(md.Trajectory(x, peptide), epochs=20)
    found = mdvae.evaluate(model, held_out[:2], n_generated=100)
    assert set(found.verdict.uses.values()) == {"no"}
    text, kind = said(found, "not of the ensemble of these frames", "shuffled coordinates")
    assert kind == "bad"
    assert all(family in text for family in ("bond", "angle"))


def test_a_collapsed_model_is_named(training, runs, held_out):
    found = mdvae.evaluate(training(runs, epochs=20, beta=100.0), held_out[:2], n_generated=100)
    assert set(found.verdict.uses.values()) == {"no"}
    assert said(found, "posterior has collapsed")[1] == "bad"
    assert said(found, "hardly nearer to the frames", "than the mean structure")[1] == "bad"
    silent(found, "z stands for the structure", "Latent dimensions without information")


def test_another_molecule_is_named(learned, rng):
    """A chain of as many atoms that goes anywhere."""
    steps = rng.normal(size=(600, 15, 3))
    walk = np.cumsum(0.14 * steps / np.linalg.norm(steps, axis=2, keepdims=True), axis=1)
    found = mdvae.evaluate(learned, walk.astype(np.float32), n_generated=200)
    assert set(found.verdict.uses.values()) == {"no"}
    assert said(found, "further from all training frames", "another molecule")[1] == "bad"
    silent(found, "noise floor", "are off by")


def test_copies_of_training_frames_are_named(learned, runs, held_out):
    """Their distributions are the best that one could have."""
    found = mdvae.evaluate(learned, held_out[:3], generated=runs[:5])
    assert found.verdict.uses["generation"] == "no"
    assert found.verdict.uses["optimization"] == "yes"
    assert said(found, "100 % of the generated structures are copies of training frames")[1] == "bad"
    assert [kind for kind in found.verdict.kinds if kind == "bad"] == ["bad"]


def test_mirror_images_are_named(learned, held_out, rows):
    found = mdvae.evaluate(learned, held_out[:2], generated=rows[:500] * np.array([1, 1, -1], np.float32))
    assert found.verdict.uses["generation"] == found.verdict.uses["optimization"] == "no"
    assert found.verdict.uses["coordinate"] in CAN
    assert said(found, "100 % of the generated structures are mirror images")[1] == "bad"


@pytest.fixture(scope="module")
def screws():
    """Function of a seed: a chain of eight beads that winds one way, (400, 8, 3): no atom has three neighbors."""

    def frames(seed):
        rng, x = np.random.default_rng(seed), np.zeros((400, 8, 3))
        turn = np.deg2rad(70) * np.arange(8) + 0.25 * rng.normal(size=(400, 8)).cumsum(axis=1)
        x[..., 0], x[..., 1], x[..., 2] = 0.12 * np.cos(turn), 0.12 * np.sin(turn), 0.09 * np.arange(8)
        return (x + 0.002 * rng.normal(size=x.shape)).astype(np.float32)

    return frames


def test_structures_that_could_not_exist_are_named(learned, held_out, rows, rng):
    noisy = rows[:500] + 0.02 * rng.normal(size=rows[:500].shape)
    found = mdvae.evaluate(learned, held_out[:2], generated=noisy.astype(np.float32))
    assert found.verdict.uses["generation"] == found.verdict.uses["optimization"] == "no"
    assert found.verdict.uses["coordinate"] in CAN
    assert said(found, "Only 0 % of the generated structures could exist")[1] == "bad"
    silent(found, "mirror images")


def test_a_missing_state_is_named(learned, held_out, simulate):
    found = mdvae.evaluate(learned, held_out[:2], generated=simulate(600, 60, p_alpha=0.0))
    assert found.verdict.uses["generation"] == "no"
    said(found, "of the held-out frames have a generated structure nearby", "misses parts of the ensemble")
    assert said(found, "distributions of conformations are off by more than 2 times")[1] == "bad"
    silent(found, "copies")


# -- thresholds, one by one


@pytest.fixture
def concluding(passing):
    """Function of fields of parts: the verdict of what passes, but for these."""

    def of(thresholds=None, diagnostics=passing.diagnostics, kinetics=None, **changes):
        parts = [getattr(passing, name) for name in ("reconstruction", "ensemble", "structures", "latent_space")]
        for i, name in enumerate(("reconstruction", "ensemble", "structures", "latent_space")):
            parts[i] = dataclasses.replace(parts[i], **changes.pop(name, {}))
        assert not changes
        return conclude(*parts, kinetics, diagnostics, thresholds)

    return of


def test_what_passes_passes(concluding):
    assert set(concluding().uses.values()) == {"yes"}
    assert set(concluding().kinds) == {"good"}


def test_mirror_images_of_a_molecule_without_centers_are_named(knowing, posed, screws, concluding):
    model = knowing(screws(0))
    assert len(model.data.geometry.centers) == 0
    later, others = (posed(model, screws(seed)) for seed in (1, 2))
    found = look_around(model, posed(model, others * np.array([-1, 1, 1], np.float32)), later)
    verdict = concluding(latent_space={"mirrored": found.mirrored})
    assert verdict.uses["generation"] == verdict.uses["optimization"] == "no"
    assert any("of the generated structures are mirror images" in text for text in verdict.findings)
    mirrored = look_around(model, others, later).mirrored
    assert set(concluding(latent_space={"mirrored": mirrored}).uses.values()) == {"yes"}


def test_inverted_centers_are_named(knowing, centered, concluding):
    model, later = knowing(centered[:200]), centered.xyz[200:]
    found = judge(model, {"held-out": later, "generated": later * np.array([1, -1, 1], np.float32)})
    verdict = concluding(structures={"shares": found.shares})
    assert verdict.uses["generation"] == verdict.uses["optimization"] == "no"
    assert "100 % of the generated structures have an inverted center." in verdict.findings


@pytest.mark.parametrize(
    ("field", "below", "above", "word", "uses"),
    [
        ("copied", 0.05, 0.06, "copies of training frames", {"generation": "no"}),
        ("mirrored", 0.5, 0.51, "mirror images", {"generation": "no", "optimization": "no"}),
        ("seen", 0.05, 0.06, "among those that the model was made from",
         dict.fromkeys(("coordinate", "generation", "optimization"), "with care")),
        ("out_of_distribution", 0.2, 0.21, "another molecule",
         dict.fromkeys(("coordinate", "generation", "optimization"), "no")),
        ("coverage", 0.75, 0.74, "misses parts of the ensemble", {"generation": "with care"}),
    ],
)  # fmt: skip
def test_thresholds_of_latent_space(field, below, above, word, uses, concluding):
    """On one side of the threshold nothing is said, on the other it is; and the threshold can be moved."""
    everything = dict.fromkeys(("coordinate", "generation", "optimization"), "yes")
    assert concluding(latent_space={field: below}).uses == everything
    found = concluding(latent_space={field: above})
    assert found.uses == everything | uses
    assert sum(word in text for text in found.findings) == 1
    assert concluding(Thresholds(**{field: above}), latent_space={field: above}).uses == everything


def test_thresholds_of_structures(concluding, passing):
    def shares(**changed):
        shares = passing.structures.shares
        return {"structures": {"shares": shares | {"generated": shares["generated"] | changed}}}

    assert concluding(**shares(valid=0.95, handedness=0.96)).uses["generation"] == "yes"
    for changed in ({"valid": 0.94}, {"handedness": 0.94}):
        found = concluding(**shares(**changed)).uses
        assert (found["coordinate"], found["generation"], found["optimization"]) == ("yes", "no", "no")
    assert concluding(Thresholds(valid=0.9), **shares(valid=0.94)).uses["generation"] == "yes"
    assert concluding(Thresholds(inverted=0.1), **shares(handedness=0.94)).uses["generation"] == "yes"


def test_thresholds_of_reconstruction(concluding, passing):
    mean, pca = (np.median(x) for x in (passing.reconstruction.rmsd_mean, passing.reconstruction.rmsd_pca))

    def errors(value):
        same = np.full(passing.reconstruction.rmsd.shape, value)
        return {"reconstruction": {"rmsd": same, "rmsd_raw": same}}

    assert concluding(**errors(0.99 * pca)).uses["coordinate"] == "yes"
    worse = concluding(**errors(1.01 * pca))
    assert worse.uses == {"coordinate": "with care", "generation": "yes", "optimization": "with care"}
    assert any("PCA of the same size reconstructs better" in text for text in worse.findings)
    assert concluding(**errors(0.89 * mean)).uses["coordinate"] == "with care"
    none = concluding(**errors(0.91 * mean))
    assert set(none.uses.values()) == {"no"}
    assert any("hardly nearer" in text for text in none.findings)
    assert concluding(Thresholds(reconstruction=0.95), **errors(0.91 * mean)).uses["coordinate"] == "with care"


def test_thresholds_of_distributions(concluding, passing):
    """Up to the noise all is well, up to twice that it is said, above it is not the simulation's."""

    def off(times, name="torsion", kind="wasserstein"):
        def changed(family):
            distance = getattr(family, kind)
            return dataclasses.replace(family, **{kind: dataclasses.replace(distance, value=times * distance.noise)})

        families = [changed(one) if one.name == name else one for one in passing.ensemble.families]
        return {"ensemble": {"families": tuple(families)}}

    assert concluding(**off(1.0)).uses["generation"] == "yes"
    above = concluding(**off(1.9))
    assert above.uses["generation"] == "with care"
    assert any("above the noise floor" in text and "torsion, W1" in text for text in above.findings)
    worst = concluding(**off(2.1))
    assert worst.uses["generation"] == "no"
    assert any("worst: torsion, W1, 2.1 times" in text for text in worst.findings)
    assert concluding(Thresholds(off=3.0), **off(2.1)).uses["generation"] == "with care"
    # How far atoms shake is another matter.
    for name, kind in (("bond", "wasserstein"), ("torsion", "divergence")):
        found = concluding(**off(9.0, name, kind))
        assert found.uses == {"coordinate": "yes", "generation": "with care", "optimization": "yes"}
        assert any(text.startswith("Widths are not the simulation's") for text in found.findings)


def test_a_high_noise_floor_is_said(concluding, passing):
    def of(*, noise=None, memory=None, **limits):
        changed = {"memory": memory} if memory else {}
        if noise is not None:
            divergence = Distance(0.0, 0.0, 0.0, 0.0, noise)
            changed["families"] = tuple(
                dataclasses.replace(one, divergence=divergence) if one.name == "torsion" else one
                for one in passing.ensemble.families
            )
        return concluding(Thresholds(**limits), ensemble=changed)

    # Half of the population: (1 / 2)^2 / (2 ln 2) bits.
    limit = float(1 / 4 / (2 * np.log(2)))
    assert of(noise=0.99 * limit).uses["generation"] == "yes"
    high = of(noise=1.01 * limit)
    assert high.uses == {"coordinate": "yes", "generation": "with care", "optimization": "yes"}
    assert any(
        "may differ by 50.2 %, on average over torsions or distances, without being" in text for text in high.findings
    )
    assert of(noise=1.01 * limit, resolution=0.6).uses["generation"] == "yes"
    n_frames = passing.ensemble.n_held_out
    assert of(memory=n_frames / 10.1).uses["generation"] == "yes"
    few = of(memory=n_frames / 9.9)
    assert few.uses["generation"] == "with care"
    assert any("about 9.9 independent samples" in text for text in few.findings)


def test_no_population_differs_by_more_than_a_divergence_says(rng):
    """The inequality behind the resolution, for random distributions."""
    a, b = rng.dirichlet(np.full(6, 0.3), size=(2, 500))
    largest = np.abs(a - b).sum(axis=1) / 2
    bound = np.sqrt(2 * np.log(2) * jensen_shannon(a, b))
    assert (largest <= bound + 1e-12).all()
    assert (largest > 0.8 * bound).any()


def test_thresholds_of_another_ensemble(concluding, passing):
    """Bonds and angles are the same in every run of a molecule; how it lies may take long to be seen."""

    def foreign(floor, blocks, name="bond"):
        divergence = Distance(0.0, floor, floor, floor, blocks)
        families = tuple(
            dataclasses.replace(one, divergence=divergence) if one.name == name else one
            for one in passing.ensemble.families
        )
        return {"ensemble": {"families": families}}

    assert "no" not in concluding(**foreign(0.19, 0.01)).uses.values()
    # Halves of the frames themselves differ by nearly as much.
    assert "no" not in concluding(**foreign(0.5, 0.26)).uses.values()
    for found in (concluding(**foreign(0.21, 0.1)), concluding(**foreign(0.53, 0.26))):
        assert set(found.uses.values()) == {"no"}
        assert any("not of the ensemble of these frames" in text for text in found.findings)
    assert "no" not in concluding(Thresholds(foreign=0.3), **foreign(0.21, 0.1)).uses.values()
    short = concluding(**foreign(0.5, 0.1, "end to end"))
    assert set(short.uses.values()) == {"with care"}
    assert any("a run that is too short to have seen everything" in text for text in short.findings)


def test_no_more_is_asked_than_of_the_simulation(concluding, passing):
    """Where two of five frames break the bounds of the training data, generated ones may as well."""

    def shares(generated, held_out):
        found = {name: dict(share) for name, share in passing.structures.shares.items()}
        found["generated"]["valid"], found["held-out"]["valid"] = generated, held_out
        return concluding(structures={"shares": found}).uses["generation"]

    assert shares(0.6, 0.6) == "yes"
    assert shares(0.5, 0.6) == "no"
    assert shares(0.9, 1.0) == "no"


def test_kinetics_that_simple_coordinates_keep_better(concluding, passing):
    # Folds differ by more than methods do, which of one fold are as far apart as of the next.
    folds = np.array([-0.4, -0.2, 0.0, 0.2, 0.4])

    def scores(latent, tica, pca, jumps=0, apart=0.0):
        fold_scores = np.stack([latent + folds, tica + (1 + apart) * folds, pca + folds])
        kinetics = dataclasses.replace(passing.kinetics, fold_scores=fold_scores, alignment_jumps=jumps)
        return concluding(kinetics=kinetics)

    # Student's quantile for five, 2.776, times the standard error of the differences, 0.5 * 0.316 / sqrt(5).
    half = 2.776 * 0.5 * 0.3162 / np.sqrt(5)
    assert scores(2.0, 2.0 + 0.99 * half, 1.8, apart=0.5).uses["coordinate"] == "yes"
    assert scores(2.0, 2.0 + 1.01 * half, 1.8, apart=0.5).uses["coordinate"] == "with care"
    # Nobody would notice a score that is larger by 0.005.
    assert scores(2.0, 2.005, 1.8).uses["coordinate"] == "yes"
    worse = scores(2.0, 2.1, 1.8)
    assert worse.uses == {"coordinate": "with care", "generation": "yes", "optimization": "yes"}
    (text,) = [text for text in worse.findings if "VAMP-2" in text]
    assert "TICA by 0.10 ± 0.00 more" in text
    assert "PCA" not in text
    jumping = scores(2.0, 1.8, 1.8, jumps=3)
    assert jumping.uses["coordinate"] == "with care"
    assert any("The alignment made 3 of" in text for text in jumping.findings)


def test_dead_dimensions_are_named(concluding, passing):
    active = passing.diagnostics.active.copy()
    active[1] = False
    found = concluding(diagnostics=dataclasses.replace(passing.diagnostics, active=active))
    assert found.uses == {"coordinate": "with care", "generation": "yes", "optimization": "yes"}
    assert any(text == "Latent dimensions without information: 2." for text in found.findings)
    assert set(concluding(diagnostics=None).uses.values()) == {"yes"}


def test_a_verdict_prints_and_is_plain_data(passing):
    verdict = passing.verdict
    lines = str(verdict).splitlines()
    assert lines[0] == "Verdict: " + "; ".join(
        f"{name}: {verdict.uses[use]}"
        for use, name in (
            ("coordinate", "as a coordinate"), ("generation", "to generate"), ("optimization", "to optimize"),
        )
    ) + "."  # fmt: skip
    assert lines[1:] == [f"- {text}" for text in verdict.findings]
    assert json.loads(json.dumps(verdict.to_dict())) == {
        "uses": verdict.uses,
        "findings": list(verdict.findings),
        "kinds": list(verdict.kinds),
    }


def test_few_frames_say_nothing_about_distributions(learned, held_out):
    """One frame is neither of another ensemble nor at the noise floor."""
    for n in (1, 2, 30):
        verdict = mdvae.evaluate(learned, held_out[0][:n], n_generated=50).verdict
        assert f"With {n} held-out frame{'s' * (n > 1)} nothing can be said about distributions" in str(verdict)
        assert "noise floor" not in str(verdict)
        assert "ensemble of these frames" not in str(verdict)
        assert "yes" not in verdict.uses.values()


def test_lags_and_weights_are_named(learned, held_out):
    """Without a word about reconstructions that the model was never asked for."""
    weighted = dataclasses.replace(learned.data, weights=np.ones(len(learned.data.frames)))
    model = dataclasses.replace(learned, settings=learned.settings | {"lagtime": 7}, data=weighted)
    found = mdvae.evaluate(model, held_out[:2], n_generated=200)
    assert said(found, "time-lagged", "what comes 7 frames later")[1] == "note"
    assert said(found, "trained on weighted frames", "count the same")[1] == "note"
    assert found.verdict.uses["generation"] in ("with care", "no")
    silent(found, "z stands for the structure", "PCA of the same size reconstructs better")
    n_frames = sum(len(run) for run in held_out[:2])
    silent(mdvae.evaluate(model, held_out[:2], n_generated=50, weights=np.ones(n_frames)), "trained on weighted frames")
