import warnings

import mdtraj as md
import numpy as np
import pytest

from mdvae.trajectory import Frames, read, stream, to_trajectory

from .conftest import DATA, make_peptide, wrap

FORMATS = ["xtc", "trr", "dcd", "nc", "h5", "pdb", "pdb.gz", "gro", "xyz", "xyz.gz", "lammpstrj"]
# Time where the format holds it.
TIMED = {"xtc", "trr", "nc", "h5", "gro"}
CELL = np.array([[4.0, 0, 0], [0.8, 4.2, 0], [-0.6, 0.7, 4.4]])


def write(trajectory, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trajectory.save(str(path))
    return path


def load(path, top, **options):
    own = path.name.endswith((".pdb", ".pdb.gz", ".h5", ".gro"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return md.load(str(path), **({} if own else {"top": str(top)}), **options)


def unposed(source, **options):
    system = options.pop("system")
    chunks = list(stream(source, system=system, **options))
    return np.concatenate([chunk.coordinates for chunk in chunks]), chunks


@pytest.mark.parametrize("ending", FORMATS)
def test_equals_mdtraj_for_every_chunk_and_stride(ending, rng, tmp_path, top):
    path = write(make_peptide(rng, cell=CELL), tmp_path / f"run.{ending}")
    expected = load(path, top)
    frames = read(path, top=top, alignment="none", center="geometry")
    assert frames.lengths == (11,)
    assert (frames.time is not None) == (ending in TIMED)
    if frames.time is not None:
        np.testing.assert_allclose(frames.time, 2.0 * np.arange(11))
    for chunk in (1, 2, 3, 10, 11, 50, None):
        for stride in (1, 2, 3, 5, 20):
            found, chunks = unposed(path, system=frames.system, chunk=chunk, stride=stride)
            np.testing.assert_array_equal(found, expected.xyz[::stride])
            assert all(len(part.coordinates) <= (chunk or 11) for part in chunks)
            assert np.concatenate([part.frames for part in chunks]).tolist() == list(range(0, 11, stride))


@pytest.mark.parametrize("ending", FORMATS)
def test_selected_atoms_equal_mdtraj(ending, rng, tmp_path, top):
    path = write(make_peptide(rng, cell=CELL), tmp_path / f"run.{ending}")
    frames = read(path, top=top, select="name CA", alignment="none")
    assert frames.system.atom_indices.tolist() == [1, 6, 11]
    found, _ = unposed(path, system=frames.system, stride=2)
    np.testing.assert_array_equal(found, load(path, top, atom_indices=[1, 6, 11]).xyz[::2])


def test_packed_gro_is_a_topology_and_a_trajectory(rng, tmp_path):
    import gzip

    plain = write(make_peptide(rng, n_frames=1, cell=CELL), tmp_path / "run.gro")
    packed = tmp_path / "run.gro.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    frames = read([packed, plain], top=packed, alignment="none")
    np.testing.assert_array_equal(frames.coordinates[0], frames.coordinates[1])


def test_no_cell_needed(rng, tmp_path, top):
    for ending in ("xtc", "trr", "dcd", "nc", "h5", "pdb", "xyz", "gro"):
        path = write(make_peptide(rng), tmp_path / f"run.{ending}")
        assert read(path, top=top, alignment="none").report.n_made_whole == 0


def test_scaled_lammps_coordinates(rng, tmp_path, top):
    """Mdtraj takes the fractions for lengths."""
    known = make_peptide(rng, n_frames=2, cell=CELL)
    plain = write(known, tmp_path / "plain.lammpstrj")
    lines = plain.read_text().splitlines()
    low = [min(float(line.split()[i]) for line in lines[9:24]) for i in (2, 3, 4)]
    out, corner = [], None
    for line in lines:
        cells = line.split()
        if line.startswith("ITEM: ATOMS"):
            out.append("ITEM: ATOMS id type xs ys zs")
        elif len(cells) == 5 and cells[0].isdigit():
            x = np.array([float(value) for value in cells[2:]])
            corner = x - x if corner is None else corner
            scaled = (x - low) @ np.linalg.inv(10 * known.unitcell_vectors[0].astype(float))
            out.append(" ".join([*cells[:2], *(f"{value:.9f}" for value in scaled)]))
        else:
            out.append(line)
    scaled = tmp_path / "scaled.lammpstrj"
    scaled.write_text("\n".join(out) + "\n")
    frames = [read(path, top=top, alignment="none") for path in (plain, scaled)]
    np.testing.assert_allclose(frames[1].coordinates, frames[0].coordinates, atol=2e-3)
    np.testing.assert_allclose(frames[1].coordinates[0], frames[0].coordinates[0], atol=1e-5)


def test_models_of_a_pdb_keep_their_own_cells(rng, tmp_path):
    """Mdtraj gives all of them the last one's."""
    known = make_peptide(rng, n_frames=4)
    split = [wrap(known[i], (1.3 + 0.2 * i) * np.eye(3), rng) for i in range(4)]
    text = ""
    for i, frame in enumerate(split):
        lines = write(frame, tmp_path / f"{i}.pdb").read_text().splitlines()
        text += next(line for line in lines if line.startswith("CRYST1")) + f"\nMODEL     {i}\n"
        text += "\n".join(line for line in lines if line.startswith("ATOM")) + "\nENDMDL\n"
    (tmp_path / "all.pdb").write_text(text + "END\n")
    frames = read(tmp_path / "all.pdb", alignment="none")
    bonds = frames.system.bonds
    lengths = np.linalg.norm(frames.coordinates[:, bonds[:, 0]] - frames.coordinates[:, bonds[:, 1]], axis=2)
    assert lengths.max() < 0.25
    assert frames.report.n_made_whole > 1


def test_borders_are_kept(rng, tmp_path, top):
    paths = [write(make_peptide(rng, n_frames=n), tmp_path / f"{n}.xtc") for n in (3, 5, 1)]
    frames = read(paths, top=top, stride=2, alignment="none")
    assert frames.lengths == (2, 3, 1)
    assert frames.report.n_trajectories == 3
    np.testing.assert_allclose(frames.time, [0, 4, 0, 4, 8, 0])
    chunks = list(stream(paths, system=frames.system, chunk=2))
    assert [(chunk.trajectory, len(chunk.coordinates)) for chunk in chunks] == [
        (0, 2), (0, 1), (1, 2), (1, 2), (1, 1), (2, 1),
    ]  # fmt: skip


def test_frames_are_counted_in_each_source(rng):
    arrays = [rng.normal(size=(n, 4, 3)) for n in (23, 11)]
    system = read(arrays, alignment="none").system
    chunks = list(stream(arrays, system=system, stride=10, chunk=4))
    assert [(part.trajectory, part.frames.tolist()) for part in chunks] == [
        (0, [0]), (0, [10]), (0, [20]), (1, [0]), (1, [10]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("times", "timed"),
    [
        (np.zeros(11), [False] * 3),
        (np.r_[:7, 2:6], [True, False, False]),
        (np.r_[:4, 3:10], [True, False, False]),
        (np.r_[:10, np.nan], [True, True, False]),
        (np.arange(11), [True] * 3),
    ],
)
def test_streamed_times_end_where_they_do_not_increase(times, timed, rng, tmp_path, top):
    path = write(make_peptide(rng, time=times), tmp_path / "run.xtc")
    system = read(path, top=top, alignment="none").system
    chunks = list(stream([path, path], system=system, chunk=4))
    assert [part.time is not None for part in chunks] == 2 * timed
    for part in chunks:
        if part.time is not None:
            np.testing.assert_allclose(part.time, times[part.frames])


def test_atoms_on_one_line_need_no_orientation(rng):
    direction = rng.normal(size=(50, 1, 3))
    frames = read(direction * np.array([[-0.5], [0.5]]), alignment="none")
    assert frames.report.n_jumps > 0
    assert frames.report.better_alignment is None


@pytest.mark.parametrize("times", [np.zeros(11), np.arange(11)[::-1], np.full(11, np.nan)])
def test_useless_times_are_none(times, rng, tmp_path, top):
    path = write(make_peptide(rng, time=times), tmp_path / "run.xtc")
    assert read(path, top=top, alignment="none").time is None


def test_trajectory_in_memory(trajectory):
    frames = read([trajectory, trajectory[:4]], alignment="none", center="geometry")
    assert frames.lengths == (11, 4)
    centered = trajectory.xyz - trajectory.xyz.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(frames.coordinates[:11], centered, atol=1e-6)
    np.testing.assert_allclose(frames.time[:3], [0, 2, 4])


def test_a_source_is_never_changed(trajectory, rng):
    before = trajectory.xyz.copy()
    array = rng.normal(size=(6, 4, 2)).astype(np.float32)
    kept = array.copy()
    read(trajectory, alignment="none")
    read(array, alignment="none")
    np.testing.assert_array_equal(trajectory.xyz, before)
    np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("kind", ["array", "list", "npy", "npz", "integers"])
def test_arrays(kind, dim, rng, tmp_path):
    positions = rng.normal(size=(9, 5, dim))
    expected = positions - positions.mean(axis=1, keepdims=True)
    if kind == "integers":
        positions = np.rint(10 * positions).astype(int)
        expected = positions - positions.mean(axis=1, keepdims=True)
    source = positions
    if kind == "list":
        source = [positions[:4], positions[4:]]
    if kind == "npy":
        np.save(source := tmp_path / "x.npy", positions)
    if kind == "npz":
        np.savez(source := tmp_path / "x.npz", arr=positions, energy=np.zeros(9))
    frames = read(source, alignment="none", length_unit="reduced")
    assert isinstance(frames, Frames)
    assert frames.coordinates.dtype == np.float32
    np.testing.assert_allclose(frames.coordinates, expected, atol=2e-6)
    assert frames.lengths == ((4, 5) if kind == "list" else (9,))
    assert (frames.system.dim, frames.system.unit, frames.time) == (dim, "reduced", None)
    assert frames.system.bonds.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_angstrom_arrays_are_converted_at_the_door(rng, tmp_path):
    positions = rng.normal(size=(4, 5, 3)).astype(np.float32)
    frames = read(10 * positions, length_unit="angstrom", alignment="none")
    np.testing.assert_allclose(frames.coordinates, read(positions, alignment="none").coordinates, atol=1e-6)
    assert (frames.system.length_unit, frames.system.unit) == ("angstrom", "nm")
    again, _ = unposed(10 * positions, system=frames.system)
    np.testing.assert_allclose(again, positions, atol=1e-6)
    # What such a model gives is in nm, as all trajectories are.
    made = to_trajectory(frames.system, frames.coordinates)
    for source in (made, write(made, tmp_path / "made.h5")):
        again, _ = unposed(source, system=frames.system)
        np.testing.assert_array_equal(again, frames.coordinates)


def test_reduced_xyz_numbers_stand_for_themselves(rng, tmp_path, top):
    path = write(make_peptide(rng, n_frames=2), tmp_path / "run.xyz")
    plain, reduced = (read(path, top=top, length_unit=u, alignment="none") for u in (None, "reduced"))
    np.testing.assert_allclose(reduced.coordinates, 10 * plain.coordinates, rtol=1e-5, atol=1e-5)
    assert reduced.system.unit == "reduced"


def test_array_with_a_topology_can_be_selected(trajectory, top):
    frames = read(trajectory.xyz, top=top, select="name CA", alignment="none")
    assert frames.system.n_atoms == 3
    found, _ = unposed(trajectory.xyz, system=frames.system)
    np.testing.assert_array_equal(found, trajectory.xyz[:, [1, 6, 11]])


def test_centers(trajectory):
    by_mass = read(trajectory, alignment="none")
    masses = np.array([atom.element.mass for atom in trajectory.topology.atoms])
    np.testing.assert_allclose(np.einsum("a,fad->fd", masses, by_mass.coordinates), 0, atol=1e-4)
    geometric = read(trajectory, alignment="none", center="geometry")
    np.testing.assert_allclose(geometric.coordinates.mean(axis=1), 0, atol=1e-6)
    assert np.abs(by_mass.coordinates.mean(axis=1)).max() > 1e-4


def test_report_says_what_happened(rng):
    split = wrap(make_peptide(rng, n_frames=30), CELL / 2.5, rng)
    frames = read(split)
    text = str(frames.report)
    assert "30 frames of 15 atoms from 1 trajectory" in text
    assert f"made whole across the periodic box in {frames.report.n_made_whole} frames" in text
    assert frames.report.n_made_whole > 10
    assert frames.report.n_jumps == 0
    assert frames.report.better_alignment is None


def test_report_names_the_better_alignment():
    """A nearly round body: its own axes swap when it becomes oblong the other way."""
    stretch = 1 + 0.2 * np.sin(np.linspace(0, 6 * np.pi, 201))
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1.0], [0.9, 0.005]])
    positions = np.stack([square * [s, 2 - s] for s in stretch])
    frames = read(positions, alignment="principal")
    assert frames.report.n_jumps > 0
    assert frames.report.better_alignment == "superposition"
    assert "'superposition' would make fewer jumps" in str(frames.report)


def test_progress_counts_frames(trajectory):
    seen = []
    read(trajectory, chunk=4, progress=seen.append, alignment="none")
    assert seen == [4, 8, 11]


def test_switching_wholeness_off(rng):
    split = wrap(make_peptide(rng), CELL / 2.5, rng)
    frames = read(split, periodic=False, alignment="none", center="geometry")
    np.testing.assert_allclose(frames.coordinates, split.xyz - split.xyz.mean(axis=1, keepdims=True), atol=1e-6)
    assert frames.report.n_made_whole == 0


def test_split_without_bonds_is_said_once_and_loudly(rng):
    split = wrap(make_peptide(rng, n_frames=30), CELL / 2.5, rng)
    split.topology._bonds = []
    with pytest.warns(UserWarning, match=r"looks split .* no bonds .* topology with bonds.*gmx trjconv") as seen:
        frames = read(split, chunk=3, alignment="none")
    assert len(seen) == 1
    assert frames.report.n_broken > 5
    with pytest.warns(UserWarning, match="looks split"):
        list(stream(split, system=frames.system))
    read(split, periodic=False, alignment="none")


def test_dummy_box_is_mentioned(rng):
    frames = read(make_peptide(rng, cell=0.1 * np.eye(3)), alignment="none")
    assert "the box of 11 frames is smaller than the molecule's bonds allow: ignored" in str(frames.report)


def test_unknown_elements_are_mentioned_only_if_mixed(trajectory):
    next(iter(trajectory.topology.atoms)).element = md.element.virtual
    frames = read(trajectory, alignment="none")
    assert frames.system.masses[0] == 1
    assert "1 of 15 atoms are of unknown element" in str(frames.report)
    assert not read(trajectory.xyz, alignment="none").report.messages


class TestStream:
    def test_needs_no_topology(self, rng, tmp_path, top):
        path = write(wrap(make_peptide(rng), CELL / 2.5, rng), tmp_path / "run.xtc")
        frames = read(path, top=top, select="name CA CB")
        posed = np.concatenate(
            [c.coordinates for c in stream(path, system=frames.system, alignment=frames.alignment, chunk=4)]
        )
        np.testing.assert_array_equal(posed, frames.coordinates)

    def test_takes_the_selection_alone(self, rng, tmp_path, top):
        path = write(make_peptide(rng), tmp_path / "run.xtc")
        frames = read(path, top=top, select="name CA", alignment="none")
        alone = write(to_trajectory(frames.system, frames.coordinates), tmp_path / "alone.xtc")
        found, _ = unposed(alone, system=frames.system)
        np.testing.assert_allclose(found, frames.coordinates, atol=6e-4)
        found, _ = unposed(alone, system=frames.system, top=top)
        np.testing.assert_allclose(found, frames.coordinates, atol=6e-4)

    @pytest.mark.parametrize("ending", ["pdb", "h5", "xtc", "gro"])
    def test_own_output_of_beads_is_read_back(self, ending, rng, tmp_path):
        frames = read(rng.normal(size=(7, 6, 3)), alignment="none")
        path = write(to_trajectory(frames.system, frames.coordinates), tmp_path / f"new.{ending}")
        found, _ = unposed(path, system=frames.system)
        np.testing.assert_allclose(found, frames.coordinates, atol=6e-4)

    def test_selects_again_in_another_file(self, rng, tmp_path, top):
        """The same molecule before and after hydrogens or solvent were stripped."""
        frames = read(write(make_peptide(rng), tmp_path / "run.xtc"), top=top, select="resSeq 1 2", alignment="none")
        smaller = make_peptide(rng, n_residues=2)
        smaller_top = write(smaller[0], tmp_path / "small.pdb")
        found, _ = unposed(write(smaller, tmp_path / "s.xtc"), system=frames.system)
        np.testing.assert_allclose(found, smaller.xyz, atol=6e-4)
        larger = make_peptide(rng, n_residues=4)
        larger_top = write(larger[0], tmp_path / "large.pdb")
        found, _ = unposed(write(larger, tmp_path / "l.xtc"), system=frames.system, top=larger_top)
        np.testing.assert_allclose(found, larger.xyz[:, :10], atol=6e-4)
        assert smaller_top.exists()

    def test_arguments_are_checked_when_called(self, trajectory):
        system = read(trajectory, alignment="none").system
        with pytest.raises(ValueError, match="stride=0"):
            stream(trajectory, system=system, stride=0)


def test_another_topology_is_refused(trajectory, rng):
    """Even where the number of atoms in the file is right: the user says that it is something else."""
    frames = read(trajectory)
    other = make_peptide(rng, n_residues=2)
    with pytest.raises(ValueError, match="15 atoms a frame, but the topology has 10"):
        next(stream(trajectory.xyz, system=frames.system, top=other.topology))


def test_a_plane_in_a_file_is_a_plane(rng, tmp_path):
    """Written with z = 0, read back with two coordinates, by `read` and by `stream`."""
    flat = rng.normal(size=(12, 5, 2)).astype(np.float32)
    frames = read(flat, length_unit="reduced")
    trajectory = to_trajectory(frames.system, flat)
    trajectory[0].save(str(tmp_path / "flat.pdb"))
    trajectory.save(str(tmp_path / "flat.dcd"))
    again = read(tmp_path / "flat.dcd", top=tmp_path / "flat.pdb", length_unit="reduced")
    assert again.system.dim == 2
    assert "every z is 0: read as a system in the plane" in again.report.messages
    np.testing.assert_allclose(again.coordinates, frames.coordinates, atol=1e-5)
    (chunk,) = stream(tmp_path / "flat.dcd", system=frames.system, alignment=frames.alignment)
    np.testing.assert_allclose(chunk.coordinates, frames.coordinates, atol=1e-5)
    with pytest.raises(ValueError, match="leaves the plane z = 0"):
        next(stream(rng.normal(size=(12, 5, 3)), system=frames.system))


@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not here")
def test_shared_files():
    paths = sorted((DATA / "adk/ANMP").glob("*.dcd"))
    frames = read(paths, top=DATA / "adk/ANMP/top.pdb", alignment="none")
    assert (frames.lengths, frames.time) == ((107, 107, 107), None)
    polymer = read(DATA / "polymer/paths.npz", length_unit="reduced")
    assert (polymer.coordinates.shape, polymer.report.n_jumps) == ((2048, 12, 2), 0)
