"""What is refused, and in which words."""

import gc
import gzip
import warnings

import jaxtyping
import mdtraj as md
import numpy as np
import pytest

from mdvae.trajectory import read, stream

from .conftest import make_peptide, peptide
from .test_reading import write

BROKEN = ["xtc", "trr", "dcd", "nc", "h5", "xyz", "gro", "lammpstrj", "pdb"]


@pytest.fixture
def folder(rng, tmp_path):
    known = make_peptide(rng, cell=4 * np.eye(3))
    write(known[0], tmp_path / "top.pdb")
    for ending in BROKEN:
        write(known, tmp_path / f"run.{ending}")
        (tmp_path / f"empty.{ending}").touch()
        (tmp_path / f"foreign.{ending}").write_text("this is something else\n" * 50)
    (tmp_path / "notes.txt").write_text("hello")
    smaller = make_peptide(rng, n_residues=2)
    write(smaller, tmp_path / "small.xtc")
    write(smaller[0], tmp_path / "small.pdb")
    write(md.Trajectory(smaller.xyz[:0], smaller.topology), tmp_path / "none.dcd")
    bad = make_peptide(rng)
    bad.xyz[3, 2] = np.nan
    bad.xyz[7] = np.inf
    write(bad, tmp_path / "nan.trr")
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros((4, 6)))
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 3, 3)), b=np.zeros((2, 3, 3)))
    np.savez(tmp_path / "no.npz", energy=np.zeros(5))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY garbage")
    water = peptide(2)
    for i in range(4):
        residue = water.add_residue("HOH", next(water.chains), resSeq=10 + i)
        water.add_atom("O", md.element.oxygen, residue)
    write(md.Trajectory(rng.normal(size=(2, 14, 3)).astype(np.float32), water), tmp_path / "wet.pdb")
    return tmp_path


TOP = {"top": "top.pdb"}
REFUSED = {
    "missing file": ("gone.xtc", TOP, FileNotFoundError, "trajectory file .*gone.xtc does not exist"),
    "missing top": (
        "run.xtc",
        {"top": "gone.pdb"},
        FileNotFoundError,
        "topology file .*gone.pdb does not exist",
    ),
    "directory": ("", TOP, ValueError, "is a directory"),
    "unknown format": (
        "notes.txt",
        TOP,
        ValueError,
        "files of type .txt are not known; expected one of .xtc, .trr",
    ),
    "top of no topology": (
        "run.xtc",
        {"top": "run.xtc"},
        ValueError,
        "type .xtc holds no topology; expected one of",
    ),
    "foreign top": (
        "run.xtc",
        {"top": "foreign.pdb"},
        ValueError,
        "foreign.pdb cannot be read as a .pdb topology",
    ),
    "empty top": ("run.xtc", {"top": "empty.pdb"}, ValueError, "empty.pdb is empty"),
    "no top": ("run.xtc", {}, ValueError, "holds no topology: give one, for example top='protein.pdb'"),
    "wrong top": (
        "run.xtc",
        {"top": "small.pdb"},
        ValueError,
        "has 15 atoms a frame, but .*small.pdb has 10",
    ),
    "mismatch in a list": (
        ["run.xtc", "small.xtc"],
        TOP,
        ValueError,
        "small.xtc has 10 atoms a frame, but .* 15",
    ),
    "other molecule": (
        ["run.pdb", "small.pdb"],
        {},
        ValueError,
        "small.pdb has 10 atoms a frame, expected 15 as in",
    ),
    "no frames": ("none.dcd", {"top": "small.pdb"}, ValueError, "holds no frames"),
    "NaN": (
        "nan.trr",
        TOP,
        ValueError,
        r"nan.trr: NaN or infinite coordinates in 2 frames, the first is frame 3",
    ),
    "NaN, chunked": ("nan.trr", {**TOP, "chunk": 2}, ValueError, r"in 2 frames, the first is frame 3"),
    "empty selection": (
        "run.xtc",
        {**TOP, "select": "name ZZ"},
        ValueError,
        r"matches none of the 15 atoms .*select=",
    ),
    "misspelled": (
        "run.xtc",
        {**TOP, "select": "nmae CA"},
        ValueError,
        "'nmae CA' is not a selection.*name CA'$",
    ),
    "blank selection": ("run.xtc", {**TOP, "select": ""}, ValueError, "select='' is not a selection"),
    "both": (
        "run.xtc",
        {**TOP, "select": "all", "atom_indices": [0]},
        ValueError,
        "both select and atom_indices",
    ),
    "duplicate": (
        "run.xtc",
        {**TOP, "atom_indices": [1, 1]},
        ValueError,
        "atom index 1 is given more than once",
    ),
    "out of range": (
        "run.xtc",
        {**TOP, "atom_indices": [15]},
        ValueError,
        "atom index 15 is out of range.*15 atoms",
    ),
    "negative": ("run.xtc", {**TOP, "atom_indices": [-1]}, ValueError, "atom index -1 is out of range"),
    "no indices": ("run.xtc", {**TOP, "atom_indices": []}, ValueError, "at least one index"),
    "stride": ("run.xtc", {**TOP, "stride": 0}, ValueError, "stride=0; expected a whole number, 1 or more"),
    "chunk": ("run.xtc", {**TOP, "chunk": 0}, ValueError, "chunk=0"),
    "unit": ("run.xtc", {**TOP, "length_unit": "miles"}, ValueError, "length_unit='miles' is not known"),
    "file in angstrom": (
        "run.xtc",
        {**TOP, "length_unit": "angstrom"},
        ValueError,
        "'angstrom' is for arrays",
    ),
    "center": ("run.xtc", {**TOP, "center": "top"}, ValueError, "center='top' is not known"),
    "water": (
        "wet.pdb",
        {},
        ValueError,
        r"wet.pdb: 4 waters among 14 atoms; choose atoms, .*select='protein and name",
    ),
    "empty list": ([], TOP, ValueError, "list of trajectories is empty"),
    "nothing": (None, TOP, TypeError, "a trajectory is of type NoneType"),
    "object array": ("objects.npy", {}, ValueError, "objects.npy cannot be read as a NumPy file of numbers"),
    "damaged array": ("bad.npy", {}, ValueError, "bad.npy cannot be read as a NumPy file"),
    "flat array": ("flat.npy", {}, ValueError, r"flat.npy has shape \(4, 6\); expected three axes"),
    "two arrays": (
        "two.npz",
        {},
        ValueError,
        r"2 arrays with three axes, expected one; it holds a \(2, 3, 3\), b",
    ),
    "no array": ("no.npz", {}, ValueError, r"0 arrays with three axes, expected one; it holds energy \(5,\)"),
    "missing array": ("gone.npz", {}, FileNotFoundError, "gone.npz does not exist"),
    "four axes": (
        np.zeros((2, 3, 4)),
        {},
        ValueError,
        r"shape \(2, 3, 4\); expected 2 or 3 coordinates an atom",
    ),
    "no atoms": (np.zeros((2, 0, 3)), {}, ValueError, "no atoms"),
    "objects": (np.empty((2, 3, 3), object), {}, TypeError, "an array of type object; expected numbers"),
    "complex": (np.zeros((2, 3, 3), complex), {}, TypeError, "an array of type complex128"),
    "no array frames": (np.zeros((0, 3, 3)), {}, ValueError, "holds no frames"),
    "NaN array": (
        np.full((2, 3, 3), np.nan),
        {},
        ValueError,
        "array: NaN or infinite coordinates in 2 frames",
    ),
    "mixed axes": (
        [np.ones((2, 3, 2)), np.ones((2, 3, 3))],
        {},
        ValueError,
        "array 1 is 3-dimensional, expected 2",
    ),
    "mixed atoms": (
        [np.ones((2, 3, 2)), np.ones((2, 4, 2))],
        {},
        ValueError,
        "array 1 has 4 atoms a frame, expected 3",
    ),
    "selecting nameless atoms": (np.ones((2, 3, 3)), {"select": "name CA"}, ValueError, "needs a topology"),
}


WRONG_TYPES = {
    "top of another type": ("run.xtc", {"top": 3}, TypeError, "top is of type int"),
    "selection of another type": ("run.xtc", {**TOP, "select": 5}, TypeError, "select is of type int"),
    "float indices": ("run.xtc", {**TOP, "atom_indices": [0.5]}, TypeError, "expected integers"),
    "half stride": ("run.xtc", {**TOP, "stride": 1.5}, TypeError, "stride=1.5 is not a whole number"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types_are_refused_without_the_type_checker_too(name, folder):
    source, options, error, message = WRONG_TYPES[name]
    options = {key: folder / value if key == "top" and value != 3 else value for key, value in options.items()}
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(error, match=message):
            read(folder / source, **options)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, folder):
    source, options, error, message = REFUSED[name]
    if isinstance(source, str):
        source = folder / source
    elif isinstance(source, list) and source and isinstance(source[0], str):
        source = [folder / name for name in source]
    options = dict(options)
    if isinstance(options.get("top"), str):
        options["top"] = folder / options["top"]
    with pytest.raises(error, match=message) as caught:
        read(source, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", BROKEN)
def test_empty_and_foreign_files(ending, folder, capfd):
    with pytest.raises(ValueError, match=rf"empty.{ending} is empty \(0 bytes\)"):
        read(folder / f"empty.{ending}", top=folder / "top.pdb")
    with pytest.raises(ValueError, match=rf"foreign.{ending} cannot be read") as caught:
        read(folder / f"foreign.{ending}", top=folder / "top.pdb")
    assert "\n" not in str(caught.value)
    with warnings.catch_warnings():
        # mdtraj leaves a GRO file open that it cannot read; to find that out is no other test's business.
        warnings.simplefilter("ignore", ResourceWarning)
        del caught
        gc.collect()


def frame_ends(ending, folder):
    """Bytes at which frame 7 starts and ends."""
    path = folder / f"run.{ending}"
    if ending == "dcd":
        frame = 56 + 3 * (4 * 15 + 8)
        header = path.stat().st_size - 11 * frame
        return header + 7 * frame, header + 8 * frame
    if ending in ("xtc", "trr"):
        with md.open(str(path)) as file:
            return int(file.offsets[7]), int(file.offsets[8])
    lines = path.read_bytes().splitlines(keepends=True)
    n = {"xyz": 17, "gro": 18, "lammpstrj": 24}[ending]
    return sum(map(len, lines[: 7 * n])), sum(map(len, lines[: 8 * n]))


@pytest.mark.parametrize("ending", ["xtc", "trr", "dcd", "xyz", "gro", "lammpstrj"])
def test_cut_off_files(ending, folder, capfd):
    start, end = frame_ends(ending, folder)
    whole = (folder / f"run.{ending}").read_bytes()
    cuts = [start + 4, start + 30, start + 70, (start + end) // 2, end - 4]
    if ending in ("xyz", "gro", "lammpstrj"):
        breaks = [i + 1 for i in range(start, end - 1) if whole[i : i + 1] == b"\n"]
        cuts = [breaks[0], breaks[1], breaks[5], breaks[-1], *range(start + 1, end - 1, 7)]
    for cut in cuts:
        path = folder / f"cut.{ending}"
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"cut off in the middle of a frame, after 7 whole frames"):
            read(path, top=folder / "top.pdb", chunk=3)
    path.write_bytes(whole[:end])
    if ending != "dcd":
        assert read(path, top=folder / "top.pdb", alignment="none").lengths == (8,)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


TEXT = ["xyz", "gro", "lammpstrj", "pdb"]


def plain_text(ending, folder, n_frames):
    """The first frames of a text file; of a PDB file without what follows its atoms."""
    lines = (folder / f"run.{ending}").read_bytes().splitlines(keepends=True)
    if ending == "pdb":
        atoms = [i for i, line in enumerate(lines) if line.startswith(b"ATOM")]
        return b"".join(lines[: atoms[15 * n_frames - 1] + 1])
    return b"".join(lines[: {"xyz": 17, "gro": 18, "lammpstrj": 24}[ending] * n_frames])


@pytest.mark.parametrize("n_frames", [1, 3])
@pytest.mark.parametrize("ending", TEXT)
def test_text_cut_within_its_last_line(ending, n_frames, folder):
    whole = plain_text(ending, folder, n_frames)
    path = folder / f"cut.{ending}"
    path.write_bytes(whole)
    expected = read(path, top=folder / "top.pdb", alignment="none")
    for cut in range(1, 16):
        path.write_bytes(whole[:-cut])
        if cut == 1 or not whole[-cut:].strip():
            found = read(path, top=folder / "top.pdb", alignment="none")
            np.testing.assert_array_equal(found.coordinates, expected.coordinates)
            continue
        where = f"frame, after {n_frames - 1} whole frames"
        with pytest.raises(ValueError, match=rf"cut off in the middle of a ({where}|line)"):
            read(path, top=folder / "top.pdb")


@pytest.mark.parametrize("ending", ["gro", "pdb"])
def test_topology_cut_within_its_last_line(ending, folder):
    path = folder / f"cut.{ending}"
    path.write_bytes(plain_text(ending, folder, 1)[:-8])
    with pytest.raises(ValueError, match=r"cut off in the middle of a (frame|line)"):
        read(path)


@pytest.mark.parametrize("ending", ["gro", "lammpstrj"])
def test_text_of_a_tilted_cell_cut_within_its_last_line(ending, rng, tmp_path):
    known = make_peptide(rng, n_frames=2, cell=[[4, 0, 0], [0.8, 4.2, 0], [-0.6, 0.7, 4.4]])
    whole = write(known, tmp_path / f"run.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    for cut in range(2, 80, 3):
        path.write_bytes(whole[:-cut])
        with pytest.raises(ValueError, match="cut off in the middle of a frame, after 1 whole frames"):
            read(path, top=known.topology)


# Lines of numbers as programs write them; the last without a line break.
LAST_LINES = {
    "C 0 0 0|C 1 0.5 1.25|C 2.5 1.5 1": True,
    "C 0 0 0|C 1 0.5 1.25|C 2.5 1.5 -": False,
    "C 0 0 0|C 1 0.5 1.25|C 2.5 1.5 1.2e-0": False,
    "C 0.1 0 0.1|C 1 0.5 1.25|C 2.5 1.5 1": False,
    "C 0.1 0 1.0e-05|C 1 0.5 1.2e+00|C 2.5 1.5 1.5": False,
    "C 0.1 0 1.0e-05|C 1 0.5 1.2e+00|C 2.5 1.5 1.5e-01": True,
    "C 0.1 0 1.0 |C 1 0.5 1.2 |C 2.5 1.5 1.25": False,
    "C 0.1 0 1.0 |C 1 0.5 1.2 |C 2.5 1.5 1.25 ": True,
    "C 0.1 0 1.0 5|C 1 0.5 1.2 5|C 2.5 1.5 1.2": False,
}


@pytest.mark.parametrize("lines", LAST_LINES)
def test_last_lines(lines, tmp_path):
    path = tmp_path / "run.xyz"
    path.write_text("3\n\n" + lines.replace("|", "\n"))
    top = peptide(1).subset([0, 1, 2])
    if LAST_LINES[lines]:
        read(path, top=top, alignment="none")
    else:
        with pytest.raises(ValueError, match="cut off in the middle of a frame, after 0 whole frames"):
            read(path, top=top, alignment="none")


def test_lines_without_coordinates_are_said(tmp_path):
    path = tmp_path / "run.xyz"
    path.write_text("2\n\nC 0.1 0.2 0.3\nC 0.1 0.2\n")
    with pytest.raises(ValueError, match="a line holds fewer than a name and three coordinates"):
        read(path, top=peptide(1).subset([0, 1]))


def test_dcd_that_promises_too_much(folder):
    _, end = frame_ends("dcd", folder)
    path = folder / "short.dcd"
    path.write_bytes((folder / "run.dcd").read_bytes()[:end])
    with pytest.warns(UserWarning, match="promises 11 frames, it holds 8") as seen:
        frames = read(path, top=folder / "top.pdb", alignment="none")
    assert frames.lengths == (8,)
    assert len(seen) == 1


@pytest.mark.parametrize("ending", ["nc", "h5"])
def test_other_binary_files_cut_off(ending, folder):
    whole = (folder / f"run.{ending}").read_bytes()
    path = folder / f"cut.{ending}"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=f"cut.{ending} cannot be read"):
        read(path, top=folder / "top.pdb")


@pytest.mark.parametrize("n_atoms", [1, 3, 9, 10])
def test_small_xtc_frames_have_another_layout(n_atoms, rng, tmp_path):
    from mdvae.trajectory.files import count_frames

    path = tmp_path / "small.xtc"
    with md.formats.XTCTrajectoryFile(str(path), "w") as file:
        file.write(rng.normal(size=(5, n_atoms, 3)).astype(np.float32))
    assert count_frames(path) == 5
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="after 4 whole frames"):
        count_frames(path)


def test_packed_foreign_file(tmp_path):
    (tmp_path / "x.pdb.gz").write_bytes(gzip.compress(b"nothing here\n"))
    with pytest.raises(ValueError, match=r"x.pdb.gz cannot be read as a .pdb.gz topology: it has no ATOM record"):
        read(tmp_path / "x.pdb.gz")
    (tmp_path / "y.pdb.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"y.pdb.gz cannot be read as a .pdb.gz topology"):
        read(tmp_path / "y.pdb.gz")


class TestModelOfAnotherMolecule:
    @pytest.fixture
    def system(self, folder):
        return read(folder / "run.xtc", top=folder / "top.pdb", select="name CA", alignment="none").system

    def test_other_number_of_atoms(self, folder, system):
        message = "has 10 atoms a frame, the model was trained on 3 of 15: is this another molecule"
        with pytest.raises(ValueError, match=message):
            stream(folder / "small.xtc", system=system)

    def test_other_selection(self, folder, system):
        with pytest.raises(ValueError, match="matches 2 of its 10 atoms, expected 3"):
            stream(folder / "small.pdb", system=system)

    def test_other_names(self, folder, system, rng):
        other = make_peptide(rng)
        list(other.topology.residues)[1].name = "GLY"
        write(other, folder / "other.pdb")
        with pytest.raises(ValueError, match=r"other.pdb: selected atom 1 is GLY2-CA, expected ALA2-CA"):
            stream(folder / "other.pdb", system=system)
        with pytest.raises(ValueError, match="is GLY2-CA, expected ALA2-CA"):
            stream(folder / "run.xtc", system=system, top=folder / "other.pdb")

    def test_variants_of_a_residue_are_the_same(self, rng):
        one, two = make_peptide(rng), make_peptide(rng)
        list(one.topology.residues)[1].name = "HSD"
        list(two.topology.residues)[1].name = "HIE"
        list(stream(two, system=read(one, alignment="none").system))

    def test_units_that_do_not_convert(self, rng):
        system = read(rng.normal(size=(3, 4, 3)), alignment="none").system
        with pytest.raises(ValueError, match="length_unit='reduced', but the model is in nm units"):
            stream(rng.normal(size=(3, 4, 3)), system=system, length_unit="reduced")
