"""A movie shows every frame as it is, in three panels that stand still, and appears whole or not at all."""

import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mdvae import plots
from mdvae.plots.movie import _Stage
from mdvae.plots.projection import principal_view

BONDS = np.array([[0, 1], [1, 2], [2, 3]])


def frames_of(dim, n_frames=4, latent_dim=2):
    """Frames that drift, the same at rest, and latent points."""
    rng = np.random.default_rng(0)
    posed = rng.normal(size=(n_frames, 4, dim))
    return posed + np.arange(n_frames)[:, None, None], posed, rng.normal(size=(n_frames, latent_dim))


def stage(*frames, unit="nm", dims=(0, 1)):
    return _Stage(*frames, BONDS, unit, dims)


def centers(ax):
    """Of the beads: polygons of 37 corners, in the order of their atoms if all are at one depth."""
    (beads,) = [c for c in ax.collections if isinstance(c, matplotlib.collections.PolyCollection)]
    return np.array([path.vertices[:37][:-1].mean(axis=0) for path in beads.get_paths() if len(path.vertices) > 36])


def ordered(page):
    return page[np.lexsort(page.T)]


def drawn_lines(figure):
    trail, point = figure.axes[2].get_lines()
    return np.array(trail.get_data()).T, np.array(point.get_data()).T


def test_every_frame_is_shown_as_it_is_and_nothing_stays_of_the_one_before():
    raw, posed, z = frames_of(2)
    scene = stage(raw, posed, z, unit="reduced")
    for i in (2, 0, 3):
        scene.show(i)
        for ax, frames in zip(scene.figure.axes, (raw, posed), strict=False):
            np.testing.assert_allclose(centers(ax), frames[i], atol=1e-12)
        np.testing.assert_allclose(drawn_lines(scene.figure)[1], z[i : i + 1])
    assert [ax.get_title() for ax in scene.figure.axes] == ["As simulated", "Aligned", "Latent space, frame 4 of 4"]
    assert [ax.get_xlabel() for ax in scene.figure.axes[:2]] == ["$x$ (reduced units)"] * 2


def test_space_is_seen_along_z_as_simulated_and_on_principal_axes_aligned():
    raw, posed, z = frames_of(3)
    scene = stage(raw, posed, z)
    scene.show(1)
    mean = posed.mean(axis=0)
    page = (posed[1] - mean.mean(axis=0)) @ principal_view(mean)[:2].T
    np.testing.assert_allclose(ordered(centers(scene.figure.axes[0])), ordered(raw[1, :, :2]), atol=1e-12)
    np.testing.assert_allclose(ordered(centers(scene.figure.axes[1])), ordered(page), atol=1e-12)
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in scene.figure.axes[:2]]
    assert labels == [("$x$ (nm)", "$y$ (nm)"), ("Principal axis 1 (nm)", "Principal axis 2 (nm)")]


def test_the_trail_is_the_last_frames_and_all_points_are_there():
    raw, posed, z = frames_of(2, n_frames=30, latent_dim=5)
    scene = stage(raw, posed, z, dims=(3, 1))
    for i, first in ((0, 0), (4, 0), (25, 15)):
        scene.show(i)
        np.testing.assert_array_equal(drawn_lines(scene.figure)[0], z[first : i + 1][:, [3, 1]])
    points = scene.figure.axes[2].collections[0].get_offsets()
    np.testing.assert_array_equal(ordered(points), ordered(z[:, [3, 1]]))


def test_one_latent_coordinate_is_drawn_over_the_frames():
    raw, posed, z = frames_of(2, latent_dim=1)
    scene = stage(raw, posed, z)
    scene.show(3)
    np.testing.assert_array_equal(drawn_lines(scene.figure)[0], np.column_stack([np.arange(4), z[:, 0]]))
    assert scene.figure.axes[2].get_xlabel() == "Frame"


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_all_frames_are_on_the_page_and_panels_stand_still(dim, latent_dim):
    raw, posed, z = frames_of(dim, n_frames=12, latent_dim=latent_dim)
    scene = stage(raw, posed, z)
    places = [ax.get_position().bounds for ax in scene.figure.axes]
    limits = [(ax.get_xlim(), ax.get_ylim()) for ax in scene.figure.axes]
    for i in range(12):
        scene.show(i)
        for ax in scene.figure.axes[:2]:
            page, low, high = centers(ax), *np.array([ax.get_xlim(), ax.get_ylim()]).T
            assert np.all((page > low) & (page < high))
            np.testing.assert_allclose(*(high - low))
    scene.figure.draw_without_rendering()
    assert [ax.get_position().bounds for ax in scene.figure.axes] == places
    assert [(ax.get_xlim(), ax.get_ylim()) for ax in scene.figure.axes] == limits
    box, size = scene.figure.get_tightbbox(), scene.figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= size[0]
    assert box.y1 <= size[1]


def test_a_gif_has_one_picture_a_frame_and_plays_as_fast_as_asked(tmp_path):
    before = dict(matplotlib.rcParams)
    raw, posed, z = frames_of(3)
    path = plots.trajectory_movie(raw, posed, z, tmp_path / "film.gif", bonds=BONDS, frames_per_second=10)
    with Image.open(path) as film:
        assert film.n_frames == 4
        assert film.info["duration"] == 100
        pictures = [np.asarray(film.convert("RGB")) for i in range(4) if film.seek(i) is None]
    assert all(np.any(one != other) for one, other in pairwise(pictures))
    assert list(tmp_path.iterdir()) == [path]
    assert dict(matplotlib.rcParams) == before


def test_what_was_there_stays_if_a_movie_fails(tmp_path, monkeypatch):
    path = tmp_path / "film.gif"
    path.write_text("before")
    monkeypatch.setattr(_Stage, "show", lambda self, i: 1 / (1 - i))
    with pytest.raises(ZeroDivisionError):
        plots.trajectory_movie(*frames_of(2), path, bonds=BONDS)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_one_frame_of_one_atom_without_bonds(tmp_path):
    one = np.zeros((1, 1, 2))
    path = plots.trajectory_movie(one, one, np.zeros((1, 2)), tmp_path / "film.gif", bonds=np.zeros((0, 2), int))
    with Image.open(path) as film:
        assert film.n_frames == 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"raw": np.zeros((0, 4, 2)), "posed": np.zeros((0, 4, 2))}, "no frames to show"),
        ({"posed": np.zeros((3, 4, 2))}, r"raw has shape \(4, 4, 2\) and posed \(3, 4, 2\); expected the same"),
        ({"z": np.zeros((5, 2))}, "4 frames and 5 latent points"),
        ({"path": "film.avi"}, "must end in .gif"),
        ({"path": "film"}, "must end in .gif"),
        ({"path": "film.mp4"}, "must end in .gif"),
        ({"frames_per_second": 0}, "frames_per_second must be above 0 and at most 100, got 0"),
        ({"frames_per_second": float("nan")}, "got nan"),
        ({"dims": (0, 2)}, "dims must be two of 0 to 1"),
    ],
)
def test_what_cannot_be_shown_is_refused(change, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw, posed, z = frames_of(2)
    arguments = {"raw": raw, "posed": posed, "z": z, "path": "film.gif", "bonds": BONDS} | change
    with pytest.raises(ValueError, match=match):
        plots.trajectory_movie(**arguments)
    assert not list(tmp_path.iterdir())


def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys, numpy as np; from mdvae import plots; assert 'matplotlib' not in sys.modules;"
        "x = np.random.default_rng(0).normal(size=(2, 3, 2));"
        f"plots.trajectory_movie(x, x, x[:, 0], {str(tmp_path / 'film.gif')!r}, bonds=np.array([[0, 1]]));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
