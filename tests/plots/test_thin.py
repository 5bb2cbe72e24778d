"""The figure of thin regions draws the record's own numbers."""

import numpy as np
import pytest

import mdvae
from mdvae import plots


@pytest.fixture(scope="module")
def planar(trained):
    return mdvae.undersampled(trained, n_bins=6, n_frames=12)


@pytest.fixture(scope="module")
def linear(trained):
    return mdvae.undersampled(trained, observable=mdvae.observables.end_to_end_distance, n_bins=12, n_frames=5)


def test_cells(planar):
    (ax, *_) = plots.thin_regions(planar).axes
    gray, counted = (np.ma.filled(mesh.get_array(), np.nan).T for mesh in ax.collections[:2])
    np.testing.assert_array_equal(gray == 1, planar.thin)
    np.testing.assert_array_equal(np.nan_to_num(counted), np.where(planar.thin, 0, planar.counts))
    np.testing.assert_allclose(np.stack(ax.lines[0].get_data(), axis=1), planar.values)
    assert "$z_{" in ax.get_xlabel()
    assert "$z_{" in ax.get_ylabel()


def test_bins(linear):
    from matplotlib.figure import Figure

    mine = Figure()
    ax = mine.subplots()
    assert plots.thin_regions(linear, unit="reduced", ax=ax) is mine
    np.testing.assert_array_equal(ax.patches[0].get_data().values, linear.counts)
    # The stairs, and a band for each thin bin.
    assert len(ax.patches) == 1 + linear.thin.sum()
    np.testing.assert_allclose(ax.lines[0].get_xdata(), linear.values[:, 0])
    assert ax.get_xlabel() == "End to end distance (reduced units)"
