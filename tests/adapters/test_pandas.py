"""A table of pandas holds what encode gives, and where it comes from."""

import numpy as np
import pytest

import mdvae

pytest.importorskip("pandas")
from mdvae.adapters.pandas import latents


def test_a_row_for_each_frame(trained, chain):
    parts = [chain[:20], chain[40:70]]
    table = latents(trained, parts, stride=2)
    np.testing.assert_array_equal(table[["z1", "z2", "z3"]], mdvae.encode(trained, parts, stride=2))
    assert table.loc[1].index.tolist() == list(range(0, 30, 2))
    # An array knows no times.
    np.testing.assert_array_equal(table["time"], table.index.get_level_values("frame"))
