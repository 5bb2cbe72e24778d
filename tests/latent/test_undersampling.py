"""Thin cells are those that a count by hand finds, and what is generated for them really lies in them."""

import dataclasses
import json
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import Delaunay

import mdvae
from mdvae.latent import undersampling as room
from mdvae.latent.generation import decode_coordinates
from mdvae.observables import distance, end_to_end_distance, radius_of_gyration
from mdvae.validity import check


@pytest.fixture(scope="module")
def plane(trained):
    return mdvae.undersampled(trained, n_bins=6, n_frames=60, seed=1)


@pytest.fixture(scope="module")
def marginal(trained):
    return mdvae.undersampled(trained, observable=end_to_end_distance, n_frames=60, seed=1)


def with_diagnostics(model, **changes):
    return dataclasses.replace(model, diagnostics=dataclasses.replace(model.diagnostics, **changes))


def number(axis):
    return int(axis[1:]) - 1


# -- which cells are thin


def test_thin_bins_by_hand():
    """Few or none, and next to a frame or between many; not what is empty further out."""
    counts = np.array([0, 0, 3, 12, 0, 0, 0, 15, 1, 0, 0])
    thin = [0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0]
    np.testing.assert_array_equal(room._thin(counts, 10), np.array(thin, bool))
    # Without any bin that is well sampled there is no between.
    np.testing.assert_array_equal(room._thin(np.array([0, 2, 0, 0, 0, 1]), 10), np.array([1, 1, 1, 0, 1, 1], bool))


def test_thin_cells_by_hand():
    counts = np.array(
        [
            [9, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 20, 0, 0, 0, 10, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    )
    thin = [
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 1, 1, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 1, 1, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(room._thin(counts, 10), np.array(thin, bool))


def test_between_is_the_convex_hull(rng):
    """Against Delaunay's triangles of the corners of full cells."""
    for _ in range(10):
        full = rng.uniform(size=(9, 7)) < 0.1
        cells = np.argwhere(full)
        expected = full
        if len(cells):
            corners = np.concatenate([cells + np.array([i, j]) for i in (0, 1) for j in (0, 1)])
            centers = np.argwhere(np.ones_like(full)) + 0.5
            expected = Delaunay(corners).find_simplex(centers, tol=1e-9).reshape(full.shape) >= 0
        np.testing.assert_array_equal(room._between(full), expected)


def test_cells_count_the_encoded_frames(trained, plane, frames):
    z = mdvae.encode(trained, frames.coordinates)[:, [number(axis) for axis in plane.axes]]
    counts, *edges = np.histogram2d(*z.T, bins=6)
    # A frame at a border may be counted on its other side.
    assert np.abs(counts - plane.counts).sum() <= 4
    assert plane.counts.sum() == len(z)
    for ours, theirs in zip(plane.edges, edges, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(plane.thin, room._thin(plane.counts, 10))
    assert 0 < plane.thin.sum() < plane.thin.size


def test_bins_count_the_observable(trained, marginal):
    x = trained.data.frames
    counts, edges = np.histogram(np.linalg.norm(x[:, -1] - x[:, 0], axis=1), bins=20)
    assert np.abs(counts - marginal.counts).sum() <= 4
    np.testing.assert_allclose(marginal.edges[0], edges, rtol=1e-5)
    assert marginal.axes == ("end_to_end_distance",)


def test_a_source_is_counted_in_place_of_the_training_frames(trained, chain, plane):
    reading = {"length_unit": "reduced"}
    for observable in (None, end_to_end_distance):
        options = {"observable": observable, "n_bins": 6, "n_frames": 0}
        own = mdvae.undersampled(trained, **options)
        all_frames = mdvae.undersampled(trained, chain, **options, **reading)
        chunked = mdvae.undersampled(trained, [chain[:40], chain[40:]], chunk=17, **options, **reading)
        half = mdvae.undersampled(trained, chain, stride=2, **options, **reading)
        assert np.abs(own.counts - all_frames.counts).sum() <= 4
        assert np.abs(chunked.counts - all_frames.counts).sum() <= 4
        assert half.counts.sum() == 150


def test_the_axes_are_the_coordinates_that_say_most(trained):
    for kl, active, axes in (
        ([1.0, 3.0, 2.0], [True, True, True], ("z2", "z3")),
        ([3.0, 1.0, 2.0], [True, True, True], ("z1", "z3")),
        ([3.0, 1.0, 2.0], [False, True, True], ("z2", "z3")),
        ([3.0, 1.0, 2.0], [False, True, False], ("z2",)),
        ([3.0, 1.0, 2.0], [False, False, False], ("z1",)),
    ):
        model = with_diagnostics(trained, kl_by_dimension=np.array(kl), active=np.array(active))
        assert mdvae.undersampled(model, n_frames=0).axes == axes
    z = mdvae.encode(trained, trained.data.frames, length_unit="reduced")
    wide = sorted(np.argsort(z.var(axis=0))[1:] + 1)
    old = dataclasses.replace(trained, diagnostics=None)
    assert mdvae.undersampled(old, n_frames=0).axes == tuple(f"z{i}" for i in wide)


# -- what is generated there


def test_conformations_encode_to_thin_cells(trained, plane):
    assert len(plane.cells) == plane.trajectory.n_frames == 60
    assert check(trained.data.geometry, plane.trajectory.xyz[..., :2]).valid.all()
    z = mdvae.encode(trained, plane.trajectory)[:, [number(axis) for axis in plane.axes]]
    np.testing.assert_allclose(plane.values, z, atol=1e-4)
    for edges, values, cells in zip(plane.edges, plane.values.T, plane.cells.T, strict=True):
        assert (edges[cells] <= values + 1e-5).all()
        assert (values <= edges[cells + 1] + 1e-5).all()
    assert all(plane.thin[i, j] for i, j in plane.cells)
    np.testing.assert_array_equal(plane.frames_in_cell, [plane.counts[i, j] for i, j in plane.cells])
    assert plane.frames_in_cell.max() < 10


def test_conformations_reach_most_thin_cells(plane):
    """They are not all in the one that is easiest to reach."""
    assert plane.reached.sum() > 0.6 * plane.thin.sum()
    assert not (plane.reached & ~plane.thin).any()


@pytest.mark.parametrize("observable", [end_to_end_distance, radius_of_gyration, partial(distance, i=0, j=3)])
def test_conformations_have_values_in_thin_bins(trained, observable):
    result = mdvae.undersampled(trained, observable=observable, n_frames=60, seed=1)
    x = result.trajectory.xyz[..., :2]
    assert len(x) == 60
    assert check(trained.data.geometry, x).valid.all()
    values = np.array([float(observable(jnp.asarray(frame))) for frame in x])
    np.testing.assert_allclose(result.values[:, 0], values, rtol=1e-5)
    bins = np.digitize(result.values[:, 0], result.edges[0][:-1]) - 1
    np.testing.assert_array_equal(result.cells[:, 0], bins)
    assert result.thin[bins].all()
    assert (result.counts[bins] < 10).all()


def test_what_is_beyond_the_data_is_not_kept(trained, monkeypatch):
    """Draws that are led beyond the upper end of the range, where the last bin is thin."""
    monkeypatch.setattr(room, "_FEWEST_DRAWS", 100)
    monkeypatch.setattr(room, "_somewhere", lambda edges, cells, rng: np.full(cells.shape, 1.1 * edges[0][-1]))
    result = mdvae.undersampled(trained, observable=end_to_end_distance, n_frames=2)
    assert result.thin[-1]
    assert (result.values <= result.edges[0][-1]).all()
    assert (result.cells >= 0).all()


def test_borders_belong_to_the_cell_above_but_for_the_last():
    values = np.array([[-0.1], [0.0], [0.9], [1.0], [2.0], [2.1]], np.float32)
    np.testing.assert_array_equal(room._cells((np.array([0.0, 1.0, 2.0]),), values)[:, 0], [-1, 0, 0, 1, 1, -1])


def test_one_seed_one_result(trained, plane):
    again, other = (mdvae.undersampled(trained, n_bins=6, n_frames=60, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.trajectory.xyz, plane.trajectory.xyz)
    assert again.n_drawn == plane.n_drawn
    assert np.abs(other.trajectory.xyz - plane.trajectory.xyz).max() > 1e-3


def test_draws_are_counted(plane, marginal):
    for result in (plane, marginal):
        assert 60 <= result.n_valid <= result.n_drawn < 500
        assert result.trajectory.n_drawn == result.n_drawn
        assert len(result.trajectory.restoration.moved) == 60
        assert result.trajectory.restoration.valid.all()


def test_the_other_coordinates_are_those_of_near_frames(trained):
    """Drawn points decode to what encodes to the target, and have the rest of one of the ten nearest frames."""
    model = with_diagnostics(trained, kl_by_dimension=np.array([3.0, 1.0, 2.0]), active=np.ones(3, bool))
    view = room._latent_plane(model, room._data(model, None, {}))
    z = mdvae.encode(model, model.data.frames, length_unit="reduced")
    targets = np.array([[0.1, -0.2], [1.0, 1.0], [-2.0, 0.5]])
    points = view.propose(targets, np.random.default_rng(0), None)
    again = mdvae.encode(model, mdvae.decode(model, points, restore=False))
    np.testing.assert_allclose(again[:, [0, 2]], targets, atol=0.02)
    scaled = z[:, [0, 2]] / np.ptp(z[:, [0, 2]], axis=0)
    for point, target in zip(points, targets / np.ptp(z[:, [0, 2]], axis=0), strict=True):
        near = np.argsort(((scaled - target) ** 2).sum(axis=1))[:10]
        assert np.abs(z[near, 1] - point[1]).min() < 1e-5


def test_latent_points_are_led_to_a_value(trained, rng):
    guide = room._Guide(trained.decoder, end_to_end_distance, jnp.ones(3))
    z = rng.normal(size=(30, 3)).astype(np.float32)
    led = np.stack([guide(jnp.asarray(point), jnp.asarray(1.2)) for point in z])
    before, after = (
        np.linalg.norm(x[:, -1] - x[:, 0], axis=1) for x in (decode_coordinates(trained, points) for points in (z, led))
    )
    assert np.abs(before - 1.2).mean() > 0.1
    assert np.median(np.abs(after - 1.2)) < 1e-3
    assert np.linalg.norm(led - z, axis=1).max() <= 3 + 1e-3


def test_what_has_no_slope_leads_nowhere(trained):
    """Flat functions, and ones whose gradient is not finite, still can be looked at."""
    z = jnp.array([0.3, -0.2, 0.1])
    for observable in (lambda frame: jnp.round(frame[0, 0]), lambda frame: jnp.sqrt(0 * frame[0, 0])):
        guide = room._Guide(trained.decoder, observable, jnp.ones(3))
        np.testing.assert_allclose(guide(z, jnp.asarray(5.0)), z, atol=1e-6)


# -- odd systems


def test_a_single_latent_coordinate(frames):
    model = mdvae.build(frames, latent_dim=1, hidden=(16,), seed=0)
    model = mdvae.train(model, frames, epochs=10, batch_size=32, learning_rate=3e-3, seed=0)
    result = mdvae.undersampled(model, n_bins=30, n_frames=20)
    assert result.axes == ("z1",)
    assert result.counts.shape == result.thin.shape == (30,)
    assert result.values.shape == result.cells.shape == (20, 1)
    z = mdvae.encode(model, result.trajectory)
    bins = np.digitize(z[:, 0], result.edges[0][1:-1])
    assert np.mean(bins == result.cells[:, 0]) > 0.9
    assert result.thin[result.cells[:, 0]].all()


def test_three_dimensions(hexane):
    """Cells count in the model's own pose, and what is generated is posed again."""
    frames = mdvae.read(hexane[0])
    model = mdvae.train(mdvae.build(frames, latent_dim=2, hidden=(16,), seed=0), frames, epochs=5, seed=0)
    result = mdvae.undersampled(model, n_bins=8, n_frames=20)
    assert len(result.cells) == 20
    assert check(model.data.geometry, result.trajectory.xyz).valid.all()
    np.testing.assert_allclose(mdvae.encode(model, result.trajectory), result.values, atol=1e-4)


def test_where_all_is_sampled_there_is_nothing_to_do(trained):
    result = mdvae.undersampled(trained, observable=radius_of_gyration, n_bins=2, fewest=2)
    assert not result.thin.any()
    assert result.trajectory.n_frames == len(result.cells) == len(result.values) == result.n_drawn == 0
    assert str(result) == (
        "undersampled: none of 2 bins of radius_of_gyration, within the region that was sampled, holds fewer than 2 of "
        "300 frames; nothing was generated"
    )


def test_looking_only(trained):
    result = mdvae.undersampled(trained, n_frames=0)
    assert result.thin.any()
    assert result.trajectory.n_frames == result.n_drawn == 0
    assert "0 of 0 conformations" in str(result)


def test_it_ends_where_nothing_is_valid(trained, monkeypatch):
    geometry = trained.data.geometry
    geometry = dataclasses.replace(geometry, closest=np.full_like(geometry.closest, 50.0))
    impossible = dataclasses.replace(trained, data=dataclasses.replace(trained.data, geometry=geometry))
    monkeypatch.setattr(room, "_FEWEST_DRAWS", 100)
    result = mdvae.undersampled(impossible, n_frames=2)
    assert (result.n_valid, len(result.cells)) == (0, 0)
    assert 100 <= result.n_drawn < 300
    assert f"{result.n_drawn} structures, 0 of them valid" in str(result)


# -- words


def test_what_was_found_in_words(plane, marginal):
    cells, n_thin = plane.cells, plane.thin.sum()
    assert str(plane).splitlines() == [
        f"undersampled: {n_thin} of 36 cells of {', '.join(plane.axes)} hold fewer than 10 of 300 frames, "
        f"{np.sum(plane.thin & (plane.counts == 0))} of them none",
        f"  generated    60 of 60 conformations, in {len(np.unique(cells, axis=0))} of these cells",
        f"  drawn        {plane.n_drawn} structures, {plane.n_valid} of them valid",
    ]
    lines = str(marginal).splitlines()
    assert lines[0].startswith(f"undersampled: {marginal.thin.sum()} of 20 bins of end_to_end_distance hold fewer")
    assert lines[1].startswith(f"  where        {marginal.edges[0][0]:.3g} to ")


def test_thin_bins_side_by_side_are_one_interval():
    thin = np.array([1, 1, 0, 1, 0, 0, 1], bool)
    intervals = room._intervals(np.arange(8.0), thin)
    assert intervals == ["0 to 2", "3 to 4", "6 to 7"]
    assert room._named(intervals) == "0 to 2, 3 to 4, 6 to 7"
    assert room._named([*intervals] * 2) == "0 to 2, 3 to 4, 6 to 7, 0 to 2, and 2 more"


def test_plain_data(plane):
    data = json.loads(json.dumps(plane.to_dict()))
    np.testing.assert_array_equal(data["counts"], plane.counts)
    np.testing.assert_array_equal(data["thin"], plane.thin)
    np.testing.assert_allclose(data["values"], plane.values)
    assert data["frames_in_cell"] == plane.frames_in_cell.tolist()
    assert (data["axes"], data["n_drawn"], data["fewest"]) == (list(plane.axes), plane.n_drawn, 10)


# -- refused


BAD = {
    "one bin": ({"n_bins": 1}, ValueError, "n_bins must be from 2 to 1000, got 1"),
    "many bins": ({"n_bins": 1001}, ValueError, "n_bins must be from 2 to 1000, got 1001"),
    "no number": ({"n_bins": True}, TypeError, "n_bins must be a whole number, got True"),
    "no frame is fewer": ({"fewest": 0}, ValueError, "fewest must be at least 1, got 0"),
    "negative frames": ({"n_frames": -1}, ValueError, "n_frames must be at least 0, got -1"),
    "no source": ({"stride": 2}, TypeError, "stride say how to read a source: give one"),
    "not JAX": ({"observable": lambda x: float(np.asarray(x)[0, 0])}, ValueError, "must be a JAX function"),
    "not a number": ({"observable": lambda x: x[0]}, ValueError, r"an array of shape \(2,\)"),
    "constant": ({"observable": lambda x: jnp.float32(2)}, ValueError, "is 2 for all of 300 frames: there is nothing"),
    "infinite": ({"observable": lambda x: jnp.log(-(x[0, 0] ** 2))}, ValueError, "not finite on 300 of 300 frames"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused(trained, case):
    options, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        mdvae.undersampled(trained, **options)


def test_an_untrained_model_is_refused(frames):
    with pytest.raises(ValueError, match="needs a trained model"):
        mdvae.undersampled(mdvae.build(frames, latent_dim=2, hidden=(8,)))
