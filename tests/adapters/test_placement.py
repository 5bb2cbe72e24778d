import numpy as np
import pytest

from mdvae.adapters.placement import Placement, place

CARBONS = np.full(8, 12.011)
# Triclinic, in nm, barely wider than the molecule.
CELL = np.array([[1.2, 0, 0], [0.3, 1.1, 0], [-0.2, 0.4, 1.3]])


def wrapped(positions, cell):
    """Each atom in the cell at the origin, by itself."""
    fractions = positions @ np.linalg.inv(cell)
    return (fractions - np.floor(fractions)) @ cell


def test_in_free_space_atoms_are_taken_as_they_are(sparse, rng):
    placement = place(sparse, CARBONS)
    np.testing.assert_array_equal(placement.atoms, [0, 2, 3, 5])
    positions = rng.normal(size=(4, 3))
    np.testing.assert_array_equal(placement.frame(positions, None), positions)
    np.testing.assert_array_equal(placement.scatter(positions), positions)


def test_in_a_box_what_links_them_is_needed_too(sparse, hexane, rng):
    placement = place(sparse, CARBONS, periodic=True)
    np.testing.assert_array_equal(placement.atoms, np.arange(6))
    np.testing.assert_array_equal(placement.own, [0, 2, 3, 5])
    n_split = 0
    for frame in hexane[0][:20].astype(float):
        split = wrapped(frame + 5 * rng.normal(size=3), CELL)
        n_split += np.linalg.norm(np.diff(split, axis=0), axis=1).max() > 0.5
        found = placement.frame(split, CELL)
        # Bit for bit it cannot be, but in float64.
        shape = found - found[0]
        np.testing.assert_allclose(shape, frame[[0, 2, 3, 5]] - frame[0], atol=1e-12)
    assert n_split > 10


def test_gradients_go_where_the_atoms_are(sparse, rng):
    placement, gradient = place(sparse, CARBONS, periodic=True), rng.normal(size=(2, 4, 3))
    full = placement.scatter(gradient)
    np.testing.assert_array_equal(full[:, [0, 2, 3, 5]], gradient)
    np.testing.assert_array_equal(full[:, [1, 4]], 0)


def test_atoms_elsewhere_are_linked_among_themselves(model, hexane):
    placement = place(model, CARBONS, atoms=[7, 6, 5, 4, 3, 2], periodic=True)
    np.testing.assert_array_equal(placement.own, [7, 6, 5, 4, 3, 2])
    frame = hexane[0][0].astype(float)
    found = placement.frame(wrapped(frame + 0.9, CELL), CELL)
    np.testing.assert_allclose(found - found[0], frame - frame[0], atol=1e-12)


def test_plain_data_make_the_same(sparse, hexane):
    placement = place(sparse, CARBONS, periodic=True)
    again = Placement.from_dict(placement.to_dict())
    split = wrapped(hexane[0][0].astype(float), CELL)
    np.testing.assert_array_equal(again.frame(split, CELL), placement.frame(split, CELL))
    assert Placement.from_dict(place(sparse, CARBONS).to_dict()).molecules is None


def test_a_molecule_that_cannot_be_made_whole_is_refused(model, hexane):
    placement = place(model, CARBONS, periodic=True)
    with pytest.raises(ValueError, match="cannot be made whole in its periodic box"):
        placement.frame(hexane[0][0].astype(float), 0.1 * np.eye(3))


MASSES = CARBONS.copy()
MASSES[3] = 15.999
REFUSED = {
    "too few": ({"masses": CARBONS[:4]}, "atoms up to number 5 .* but there are 4"),
    "other masses": (
        {"masses": MASSES},
        r"1 of 6 atoms have other masses .* number 3 .*: expected 12\.01\d, got 15\.999",
    ),
    "too few given": ({"masses": CARBONS, "atoms": [0, 1]}, "atoms= must be 6 different numbers"),
    "one twice": ({"masses": CARBONS, "atoms": [0, 1, 2, 3, 4, 4]}, "atoms= must be 6 different numbers"),
    "negative": ({"masses": CARBONS, "atoms": [0, 1, 2, 3, 4, -1]}, "atoms= must be 6 different numbers"),
    "given, too large": ({"masses": CARBONS, "atoms": [0, 1, 2, 3, 4, 8]}, "up to number 8 .* but there are 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_atoms_that_do_not_fit_are_refused(name, model):
    options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        place(model, **options)


def test_given_atoms_are_taken_at_their_word(model):
    np.testing.assert_array_equal(place(model, MASSES, atoms=range(6)).atoms, np.arange(6))


def test_a_plane_in_reduced_units_is_no_molecule(plane):
    with pytest.raises(ValueError, match="expected a model in 3-D with lengths in nm, got 2-D, reduced"):
        place(plane, np.ones(6))
