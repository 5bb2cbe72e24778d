"""Each fault is found under its own name, in structures in which one thing was changed."""

import json

import mdtraj as md
import numpy as np
import pytest

from mdvae.evaluation.structures import ASPECTS, judge


@pytest.fixture(scope="module")
def frame(knows_peptide):
    """A training frame: nothing is wrong with it."""
    return knows_peptide.data.frames[37].astype(float)


def rotated(x, axis, angle):
    """Vectors turned about an axis, degrees."""
    axis, angle = axis / np.linalg.norm(axis), np.deg2rad(angle)
    along = (x @ axis)[:, None] * axis
    return along + np.cos(angle) * (x - along) + np.sin(angle) * np.cross(axis, x - along)


def turned(x, i, j, angle):
    """Everything behind the bond from i to j turned about it; atoms are numbered along the chain."""
    x = x.copy()
    behind = {(4, 5): slice(7, 15), (3, 4): slice(5, 15), (5, 8): slice(9, 15)}[i, j]
    x[behind] = x[j] + rotated(x[behind] - x[j], x[j] - x[i], angle)
    return x


def long_bond(x):
    x = x.copy()
    x[14] += 0.2 * (x[14] - x[13])
    return x


def wide_angle(x):
    """Of the last three atoms: the last bond as long as it was."""
    x = x.copy()
    a, b = x[10] - x[13], x[14] - x[13]
    x[14] = x[13] + rotated(b[None], np.cross(a, b), 25)[0]
    return x


def bent_amide(x):
    """The peptide bond turned by 60 degrees."""
    return turned(x, 5, 8, 60)


def inverted(x):
    """Cβ of the second residue reflected in the plane of N, Cα and C: as far from these as before."""
    x = x.copy()
    normal = np.cross(x[3] - x[4], x[5] - x[4])
    normal /= np.linalg.norm(normal)
    x[6] -= 2 * ((x[6] - x[4]) @ normal) * normal
    return x


def flattened(x):
    """Cα of the second residue nearly in the plane of its neighbors, and still on its side."""
    x = x.copy()
    x[4] = 0.85 * x[[3, 5, 6]].mean(axis=0) + 0.15 * x[4]
    return x


def cis(x):
    return turned(x, 5, 8, 180)


def clash(x):
    """The last atom on the first one."""
    x = x.copy()
    x[14] = x[0] + 0.01
    return x


CHANGES = {
    "bonds": long_bond,
    "angles": wide_angle,
    "torsions": bent_amide,
    "centers": flattened,
    "handedness": inverted,
    "trans": cis,
    "contacts": clash,
}
# What changes of itself with each: lengths of three bonds go with what they span.
WITH_IT = {
    "bonds": {"angles", "torsions"},
    "angles": {"torsions"},
    "torsions": {"contacts", "ramachandran"},
    "centers": {"bonds", "angles", "torsions", "contacts", "ramachandran"},
    "handedness": {"centers", "torsions", "contacts"},
    "trans": {"torsions", "contacts"},
    "contacts": {"bonds", "angles", "torsions"},
}


@pytest.mark.parametrize("aspect", CHANGES)
def test_each_fault_is_found_under_its_name(aspect, knows_peptide, frame):
    frames = np.stack([frame, CHANGES[aspect](frame), frame]).astype(np.float32)
    found = judge(knows_peptide, {"generated": frames})
    faulty = {name for name, count in found.counts["generated"].items() if count}
    assert aspect in faulty
    assert faulty <= {aspect, "valid"} | WITH_IT[aspect]
    np.testing.assert_allclose(found.shares["generated"][aspect], 2 / 3)
    assert found.counts["generated"][aspect] >= 1
    assert found.worst.tolist() == [1]


def test_torsions_where_no_frame_is_are_found(knows_peptide, simulate, posed):
    """Left-handed residues: no bond, no angle and no center tells."""
    frames = posed(knows_peptide, simulate(100, 5, phi1=60, psi1=60))
    both = posed(knows_peptide, simulate(100, 6, phi1=60, psi1=60, phi2=60, psi2=60))
    usual = posed(knows_peptide, simulate(100, 7))
    found = judge(knows_peptide, {"generated": frames, "both": both, "usual": usual})
    assert found.shares["generated"]["ramachandran"] == found.shares["both"]["ramachandran"] == 0
    assert (found.counts["generated"]["ramachandran"], found.counts["both"]["ramachandran"]) == (100, 200)
    assert found.shares["usual"]["ramachandran"] > 0.95
    for aspect in ("bonds", "angles", "centers", "handedness", "trans"):
        assert found.shares["both"][aspect] == 1


def test_cells_of_the_map_are_on_a_circle(knowing, simulate, peptide):
    """Known is a cell of ten degrees with a training frame in it or next to it, across 180 degrees as well."""
    others = {"phi1": -125, "phi2": -125, "psi2": 135}
    model = knowing(md.Trajectory(simulate(600, 8, psi1=175, **others), peptide))
    found = judge(model, {"generated": simulate(20, 9, psi1=175, **others)} | {
        str(psi): simulate(20, 9, psi1=psi, **others) for psi in (165, 155, -175, -165)
    })  # fmt: skip
    shares = {name: share["ramachandran"] for name, share in found.shares.items()}
    assert shares == {"generated": 1, "165": 1, "155": 0, "-175": 1, "-165": 0}


def test_training_frames_are_without_fault(knows_peptide):
    found = judge(knows_peptide, {"generated": knows_peptide.data.frames})
    assert set(found.shares["generated"].values()) == {1.0}
    assert set(found.counts["generated"].values()) == {0}
    assert set(found.shares["generated"]) == set(ASPECTS)
    assert len(found.worst) == len(found.worst_faults) == 0


def test_the_worst_come_first(knows_peptide, frame):
    """At most five, those with more faults first."""
    changes = [long_bond, inverted, clash, lambda x: clash(inverted(x)), wide_angle, cis, lambda x: 1.5 * x]
    frames = np.stack([frame, *(change(frame) for change in changes), frame]).astype(np.float32)
    found = judge(knows_peptide, {"generated": frames, "held-out": frames[:1]})
    assert len(found.worst) == 5
    assert found.worst[0] == 7
    assert (np.diff(found.worst_faults) <= 0).all()
    assert found.worst_faults.min() > 0
    each = [judge(knows_peptide, {"generated": frames[[i]]}).worst_faults for i in range(len(frames))]
    faults = np.array([int(x[0]) if len(x) else 0 for x in each])
    np.testing.assert_array_equal(found.worst_faults, np.sort(faults)[::-1][:5])
    np.testing.assert_array_equal(faults[found.worst], found.worst_faults)
    assert found.n == {"generated": 9, "held-out": 1}


def test_aspects_that_a_molecule_lacks_are_left_out(knowing, chain, hexane, centered):
    beads = judge(knowing(chain[:100], length_unit="reduced"), {"generated": chain[:10]})
    assert set(beads.shares["generated"]) == {"valid", "bonds", "angles", "torsions", "contacts"}
    two = judge(knowing(chain[:100, :2], length_unit="reduced", alignment="none"), {"generated": chain[:10, :2]})
    assert set(two.shares["generated"]) == {"valid", "bonds", "contacts"}
    alkane = judge(knowing(hexane[0]), {"generated": hexane[0]})
    assert set(alkane.shares["generated"]) == {"valid", "bonds", "angles", "torsions", "contacts"}
    branched = judge(knowing(centered), {"generated": centered.xyz * np.array([1, 1, -1], np.float32)})
    assert set(branched.shares["generated"]) == set(alkane.shares["generated"]) | {"centers", "handedness"}
    assert branched.shares["generated"]["handedness"] == 0
    assert branched.shares["generated"]["bonds"] == 1


def test_too_few_training_frames_draw_no_map(knowing, runs):
    model = knowing(runs[0][:300])
    assert "ramachandran" not in judge(model, {"generated": runs[1].xyz}).shares["generated"]
    assert "trans" in judge(model, {"generated": runs[1].xyz}).shares["generated"]


def test_as_plain_data(knows_peptide, frame):
    found = judge(knows_peptide, {"generated": np.stack([frame, cis(frame)]).astype(np.float32)})
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["worst"] == [1]
    assert plain["shares"] == found.shares
    assert plain["counts"] == found.counts
