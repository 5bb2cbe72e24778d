"""The figure of a free energy draws the record's own numbers, and stays on the page."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import mdvae
from mdvae import plots


def two_wells(n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    x = np.where(rng.uniform(size=n) < 0.6, -1.0, 1.0) + 0.35 * rng.normal(size=n)
    return np.stack([x, 0.4 * rng.normal(size=n)], axis=1)


@pytest.fixture(scope="module")
def curve():
    return mdvae.free_energy(
        two_wells()[:, 0], states={"left": (None, 0.0), "right": (0.0, None)}, names=["Distance (nm)"]
    )


@pytest.fixture(scope="module")
def surface():
    return mdvae.free_energy(two_wells())


def of_marker(ax, marker):
    return np.array([[line.get_xdata()[0], line.get_ydata()[0]] for line in ax.lines if line.get_marker() == marker])


def test_a_curve_with_its_band(curve):
    mine = Figure()
    ax = mine.subplots()
    assert plots.free_energy(curve, ax=ax) is mine
    assert ax.get_xlabel() == "Distance (nm)"
    assert ax.get_ylabel() == "Free energy (kJ/mol)"
    seen = np.isfinite(curve.values)
    drawn = ax.lines[0].get_ydata()
    np.testing.assert_allclose(drawn[seen], curve.values[seen])
    assert np.isnan(drawn[~seen]).all()
    band = ax.collections[0].get_paths()[0].get_extents()
    assert band.y1 >= np.max((curve.values + curve.errors)[seen]) - 1e-6
    np.testing.assert_allclose(of_marker(ax, "o"), [[w.position[0], w.free_energy.value] for w in curve.minima])
    (barrier,) = curve.barriers
    np.testing.assert_allclose(of_marker(ax, "X"), [[barrier.position[0], barrier.height.value]], atol=1e-9)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["left", "right"]
    # The strips of the two states meet at the border between them.
    strips = [collection.get_paths()[0].get_extents() for collection in ax.collections[1:]]
    assert strips[0].x1 == strips[1].x0 == pytest.approx(0.0, abs=np.diff(curve.edges[0])[0])


def test_a_map_with_its_states(surface):
    figure = plots.free_energy(surface)
    (ax, *_) = figure.axes
    assert ax.get_xlabel() == "Latent coordinate $z_{1}$"
    assert ax.child_axes[0].get_ylabel() == "Free energy (kJ/mol)"
    assert len(surface.minima) == 2
    np.testing.assert_allclose(of_marker(ax, "o"), [well.position for well in surface.minima])
    np.testing.assert_allclose(of_marker(ax, "X"), [barrier.position for barrier in surface.barriers])
    assert [text.get_text() for text in ax.texts] == ["1", "2"]


def test_names_of_states_are_written_where_they_are():
    z = two_wells()
    found = mdvae.free_energy(z, states={"left": z[:, 0] < 0, "right": z[:, 0] >= 0})
    ax = plots.free_energy(found).axes[0]
    places = {text.get_text(): text.xy for text in ax.texts}
    assert set(places) == {"1", "2", "left", "right"}
    assert places["left"][0] < 0 < places["right"][0]
    assert {text.get_text() for text in plots.free_energy(found, states=False).axes[0].texts} == {"1", "2"}


FIGURES = {
    "curve": lambda: two_wells()[:, 0],
    "surface": two_wells,
    "few frames": lambda: two_wells(12),
    "one block": lambda: np.cumsum(np.random.default_rng(0).normal(size=(300, 1)), axis=0),
    "large numbers": lambda: 1e5 * two_wells(),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_lies_off_the_page(name, tmp_path):
    figure = plots.free_energy(mdvae.free_energy(FIGURES[name]()))
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    plots.save_figure(figure, tmp_path / "f.png")
