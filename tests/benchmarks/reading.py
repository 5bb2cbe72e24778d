"""reading: a file of about 1 GB (decoded) to an array of superposed frames. mdvae is `read`, with what it reports of
jumps and gaps; mdtraj is `load`, then `Trajectory.superpose`. Both superpose on the mean structure that `read` has
found, and neither makes molecules whole. Floor: decoding alone, by mdtraj's file objects, a chunk at a time, nothing
kept. In seconds. Largest difference: of mdvae and of mdtraj, in a thousand of the frames, from what NumPy's singular
value decomposition gives in float64. Peak: memory of a process of its own that reads and does
nothing else; in brackets what of it is more than the result and what the process holds once it has read a single frame.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import mdtraj as md
import numpy as np
from posing import superposed_by_numpy
from synthetic import carbons, tumbling, written
from timing import in_turns

import mdvae

READ = """
import json, sys
import mdtraj, mdvae

def peak():
    # What getrusage says is its parent's, if that was more.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

path, top, select = sys.argv[1:]
options = {"top": top, "select": select or None, "periodic": False, "center": "geometry"}
mdvae.read(mdtraj.load_frame(path, 0, top=top), **options | {"top": None})
before = peak()
frames = mdvae.read(path, **options)
print(json.dumps([peak(), before, frames.coordinates.nbytes / 2**20]))
"""


def peak_of_reading(path, top, select=""):
    done = subprocess.run([sys.executable, "-c", READ, path, top, select], check=True, capture_output=True, text=True)
    # Chatter of mdtraj's DCD reader comes first.
    peak, before, result = json.loads(done.stdout.splitlines()[-1])
    return f"{peak:8.0f} MB ({peak - before - result:.0f})"


def decoded(path, n_atoms):
    with md.open(str(path)) as file:
        while len(file.read(n_frames=max(1, 2**23 // (12 * n_atoms)))[0]):
            pass


def reading():
    print(
        f"{'':22}{'floor':>8}{'mdvae':>8}{'mdtraj':>8}{'ratio':>7}   largest difference/nm, peak, of 1 % of the atoms"
    )
    for n_atoms in (214, 3341):
        n_frames = 10**9 // (12 * n_atoms)
        frames, structure = tumbling(min(n_frames, 5000), n_atoms)
        with tempfile.TemporaryDirectory() as folder:
            top = str(Path(folder) / "top.pdb")
            md.Trajectory(structure[None], carbons(n_atoms)).save_pdb(top)
            for ending in ("xtc", "dcd"):
                path = Path(folder) / f"run.{ending}"
                written(path, frames, n_frames)
                print(read_by_all(path, top, n_frames, n_atoms), flush=True)
                path.unlink()


def read_by_all(path, top, n_frames, n_atoms):
    results = {}

    def ours():
        results.pop("mdvae", None)
        results["mdvae"] = mdvae.read(path, top=top, periodic=False, center="geometry")

    def theirs():
        results.pop("mdtraj", None)
        target = md.Trajectory(np.asarray(results["mdvae"].alignment.reference)[None], carbons(n_atoms))
        results["mdtraj"] = md.load(str(path), top=top).superpose(target)

    seconds, _ = in_turns({"mdvae": ours, "mdtraj": theirs, "floor": lambda: decoded(path, n_atoms)})
    every = max(1, n_frames // 1000)
    some = md.load(str(path), top=top, stride=every).xyz
    expected = superposed_by_numpy(some, np.asarray(results["mdvae"].alignment.reference))
    ours, theirs = results["mdvae"].coordinates[::every], results["mdtraj"].xyz[::every]
    apart = ", ".join(f"{np.abs(found - expected).max():.1e}" for found in (ours, theirs))
    few = f"index < {max(4, n_atoms // 100)}"
    return (
        f"{path.suffix[1:]} ({n_frames:6d}, {n_atoms:4d})  "
        + "".join(f"{seconds[name]:8.2f}" for name in ("floor", "mdvae", "mdtraj"))
        + f"{seconds['mdtraj'] / seconds['mdvae']:7.1f}   {apart}"
        + f"{peak_of_reading(path, top)}{peak_of_reading(path, top, few)}"
    )
