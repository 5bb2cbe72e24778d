"""What is compared is counted right, and a sample of the same process is at the floor in everything."""

import json

import mdtraj as md
import numpy as np
import pytest
from scipy.stats import pearsonr, wasserstein_distance

from mdvae.evaluation.comparing import jensen_shannon, wasserstein
from mdvae.evaluation.ensemble import Samples, compare


@pytest.fixture(scope="module")
def samples(knows_peptide, posed, others):
    """Five of the further runs as if generated, five as held out."""
    generated, held_out = (posed(knows_peptide, part.reshape(-1, 15, 3)) for part in (others[:5], others[5:]))
    return Samples(generated, held_out, np.repeat(np.arange(5), 400), knows_peptide.data.frames)


@pytest.fixture(scope="module")
def ensemble(knows_peptide, samples):
    return compare(knows_peptide, samples)


def parts_of(samples):
    return {"generated": samples.generated, "held_out": samples.held_out, "training": samples.training}


def trajectory(coordinates, topology):
    return md.Trajectory(coordinates, topology)


def test_a_sample_of_the_same_process_is_at_the_floor_in_every_row(ensemble):
    assert len(ensemble.rows) == 2 * 6 + 2 + 2
    assert [name for name, _, distance in ensemble.rows if not distance.at_floor] == []
    assert ensemble.fluctuations.correlation > 0.99
    assert (ensemble.n_generated, ensemble.n_held_out, ensemble.n_training) == (2000, 2000, 4000)


def test_a_stretched_ensemble_is_not(knows_peptide, samples):
    stretched = Samples(1.05 * samples.generated, samples.held_out, samples.run, samples.training)
    found = {name: distance for name, _, distance in compare(knows_peptide, stretched).rows}
    for name in ("radius of gyration", "end to end", "bond"):
        assert not found[f"{name}, W1"].at_floor
    assert found["bond, JS"].value > 0.7
    assert found["bond, W1"].value > 10 * found["bond, W1"].noise
    # Shapes are the same.
    assert found["torsion, W1"].at_floor


def test_another_share_of_a_state_is_not(knows_peptide, samples, simulate, posed):
    other = posed(knows_peptide, simulate(2000, 70, p_alpha=0.1))
    found = compare(knows_peptide, Samples(other, samples.held_out, samples.run, samples.training)).rows
    above = {name for name, _, distance in found if not distance.at_floor}
    assert {"torsion, W1", "torsion, JS", "φ/ψ of ALA2, JS", "φ/ψ of ALA3, JS", "distance, W1"} <= above


def test_distances_by_hand(ensemble, samples, knows_peptide):
    """Of the largest distance between atoms, the end-to-end distance, and one torsion."""
    topology = knows_peptide.system.topology
    ours, theirs = (trajectory(x, topology) for x in (samples.generated, samples.held_out))
    marginals = {(one.family, one.name): one for one in ensemble.marginals}
    pair = [[0, 14]]
    a, b = (md.compute_distances(x, pair)[:, 0] for x in (ours, theirs))
    found = marginals["distance", "ACE1-CH3–NME4-C"].wasserstein.value
    np.testing.assert_allclose(found, wasserstein_distance(a, b), atol=1e-6)
    (torsion,) = [one for (_, name), one in marginals.items() if name == "ALA2-N–ALA2-CA–ALA2-C–ALA2-O"]
    a, b = (np.degrees(md.compute_dihedrals(x, [[3, 4, 5, 7]])[:, 0]).astype(float) for x in (ours, theirs))
    np.testing.assert_allclose(torsion.wasserstein.value, wasserstein(a, b, 360.0), atol=1e-3)


def test_histograms_by_hand(ensemble, samples, knows_peptide):
    topology = knows_peptide.system.topology
    one = next(m for m in ensemble.marginals if m.family == "end to end")
    values = {
        name: md.compute_distances(trajectory(x, topology), [[4, 9]])[:, 0] for name, x in parts_of(samples).items()
    }
    shares = {}
    for name, x in values.items():
        expected = np.histogram(x.astype(float), one.edges)[0] / len(x)
        # A value at an edge may fall to either side of it.
        np.testing.assert_allclose(getattr(one, name), expected, atol=2 / len(x))
        shares[name] = getattr(one, name)
    # All of the simulation is inside; together held-out and training frames make the edges.
    np.testing.assert_allclose([shares["held_out"].sum(), shares["training"].sum()], 1, rtol=1e-9)
    both = np.concatenate([values["held_out"], values["training"]])
    np.testing.assert_allclose(one.edges[[0, -1]], [both.min(), both.max()], rtol=1e-5)
    assert (one.low <= one.high).all()
    inside = (one.low <= one.held_out) & (one.held_out <= one.high)
    assert inside.mean() > 0.9
    expected = jensen_shannon(shares["generated"][None], shares["held_out"][None])[0]
    np.testing.assert_allclose(one.divergence.value, expected, atol=2e-3)


def test_every_histogram_is_of_shares(ensemble):
    for one in ensemble.marginals:
        assert len(one.edges) == 51
        for part in (one.generated, one.held_out, one.training):
            assert part.shape == (50,)
            assert 0 < part.sum() <= 1 + 1e-9
        np.testing.assert_allclose([one.held_out.sum(), one.training.sum()], 1, rtol=1e-9)
    assert {one.unit for one in ensemble.marginals if one.family == "torsion"} == {"degrees"}


def test_a_family_is_the_mean_of_its_members(ensemble):
    for family in ensemble.families:
        members = [one for one in ensemble.marginals if one.family == family.name]
        assert family.n == len(members)
        assert family.unit == members[0].unit
        for kind in ("wasserstein", "divergence"):
            for what in ("value", "floor"):
                expected = np.mean([getattr(getattr(one, kind), what) for one in members])
                np.testing.assert_allclose(getattr(getattr(family, kind), what), expected, rtol=1e-9)
        assert family.worst == max(members, key=lambda one: one.wasserstein.value).name


def test_maps_by_hand(ensemble, samples, knows_peptide):
    assert [one.name for one in ensemble.maps] == ["ALA2", "ALA3"]
    topology = knows_peptide.system.topology
    for name, x in parts_of(samples).items():
        phi, psi = (np.degrees(compute(trajectory(x, topology))[1]) for compute in (md.compute_phi, md.compute_psi))
        for i, one in enumerate(ensemble.maps):
            found = getattr(one, name)
            np.testing.assert_allclose(found.sum(), 1, rtol=1e-9)
            expected = np.histogram2d(phi[:, i], psi[:, i], [one.edges, one.edges])[0] / len(x)
            assert np.abs(found - expected).sum() < 4e-3
    for one in ensemble.maps:
        expected = jensen_shannon(one.generated.reshape(1, -1), one.held_out.reshape(1, -1))[0]
        np.testing.assert_allclose(one.divergence.value, expected, rtol=1e-9)


def test_fluctuations_by_hand(ensemble, samples):
    found = ensemble.fluctuations
    for name, x in parts_of(samples).items():
        expected = np.sqrt(x.astype(float).var(axis=0).sum(axis=1))
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-6)
    np.testing.assert_allclose(found.difference.value, np.abs(found.generated - found.held_out).mean(), rtol=1e-9)
    np.testing.assert_allclose(found.difference.floor, np.abs(found.training - found.held_out).mean(), rtol=1e-9)
    np.testing.assert_allclose(found.correlation, pearsonr(found.generated, found.held_out).statistic, rtol=1e-9)
    np.testing.assert_allclose(found.correlation_floor, pearsonr(found.training, found.held_out).statistic, rtol=1e-9)
    assert (found.unit, found.names[4]) == ("nm", "ALA2-CA")


def test_fluctuations_agree_with_mdtraj(hexane, knowing, posed):
    """Atoms of equal mass, so that its superposition on the model's reference is the model's own."""
    frames = hexane[0]
    model = knowing(frames[:300])
    later = posed(model, frames[300:])
    found = compare(model, Samples(later, later, np.zeros(100, int), model.data.frames)).fluctuations
    topology = model.system.topology
    reference = md.Trajectory(np.array(model.alignment.reference), topology)
    for x, rmsf in ((later, found.held_out), (model.data.frames, found.training)):
        np.testing.assert_allclose(rmsf, md.rmsf(md.Trajectory(x.copy(), topology), reference), rtol=1e-3)


def test_contacts_by_brute_force(ensemble, samples, knows_peptide):
    found, topology = ensemble.contacts, knows_peptide.system.topology
    assert (found.cutoff, found.unit, found.names[4]) == (0.45, "nm", "ALA2-CA")
    graph = np.eye(15, dtype=int)
    for a, b in topology.bonds:
        graph[a.index, b.index] = graph[b.index, a.index] = 1
    np.testing.assert_array_equal(found.pairs, np.argwhere(np.triu(np.linalg.matrix_power(graph, 3) == 0)))
    for name, x in parts_of(samples).items():
        # Of more than 2000 structures evenly spaced ones.
        x = x[np.unique(np.linspace(0, len(x) - 1, 2000).astype(int))]
        near = md.compute_distances(trajectory(x, topology), found.pairs) < 0.45
        np.testing.assert_allclose(getattr(found, name), near.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(found.difference.value, np.abs(found.generated - found.held_out).mean(), rtol=1e-9)
    assert 0.05 < found.held_out.mean() < 0.95


def test_as_plain_data(ensemble):
    plain = json.loads(json.dumps(ensemble.to_dict()))
    assert len(plain["marginals"]) == len(ensemble.marginals) == sum(one.n for one in ensemble.families)
    assert list(plain["rows"]) == [name for name, _, _ in ensemble.rows]
    distance = ensemble.families[0].wasserstein
    assert plain["rows"]["radius of gyration, W1"] == {"unit": "nm"} | distance.to_dict()
    assert plain["n_held_out"] == 2000


def test_beads_in_the_plane(knowing, chain):
    model = knowing(chain[:200], length_unit="reduced")
    frames = model.data.frames
    found = compare(model, Samples(frames[::2], frames[1::2], np.zeros(100, int), frames))
    assert found.maps == ()
    assert found.contacts.unit == found.fluctuations.unit == "reduced"
    bonds = np.linalg.norm(np.diff(frames, axis=1), axis=2)
    np.testing.assert_allclose(found.contacts.cutoff, 1.5 * bonds.mean(), rtol=1e-5)
    np.testing.assert_array_equal(found.contacts.pairs, [[0, 4], [0, 5], [1, 5]])
    expected = (np.linalg.norm(frames[:, 0] - frames[:, 4], axis=1) < found.contacts.cutoff).mean()
    np.testing.assert_allclose(found.contacts.training[0], expected, atol=1e-9)
    # Samples of one size; of so few frames none is far above the floor.
    thirds = compare(model, Samples(frames[:198:3], frames[1:198:3], np.zeros(66, int), frames[2:198:3]))
    assert all(distance.times_noise < 2 for _, _, distance in thirds.rows)


@pytest.fixture(scope="module")
def three(knowing, chain):
    """A model of three beads, and samples."""
    model = knowing(chain[:200, :3], length_unit="reduced")
    frames = model.data.frames
    return model, Samples(frames[:9], frames[100:], np.zeros(100, int), frames)


def test_where_all_pairs_are_near_there_are_no_contacts(three):
    found = compare(*three)
    assert found.contacts is None
    assert [family.name for family in found.families] == ["radius of gyration", "end to end", "bond", "angle"]
    assert [name for name, *_ in found.rows][-1] == "fluctuation of atoms"


def test_the_seed_is_that_of_the_draws(three):
    one, again, other = (compare(*three, seed).rows for seed in (0, 0, 1))
    assert one == again
    assert [(d.value, d.floor) for *_, d in one] == [(d.value, d.floor) for *_, d in other]
    assert all(a.high != b.high for (*_, a), (*_, b) in zip(one, other, strict=True))
