"""Cost and memory of restoring against the number of atoms: real frames with noise, restored once compiled.

    python tests/benchmarks/restoring.py

Systems from the folder of real trajectories (MDVAE_DATA, or ../shared/data): alanine dipeptide (22 atoms),
heptaglutamate (80), adenylate kinase as Cα (214) and as whole protein (3341). Each has a process of its own, so that
its peak memory is its own (Linux counts it in kB); the last line is the slope of the logarithms. Valid
is what one pass makes so: of the whole protein there are ten frames, whose bounds hardly any structure can keep.
"""

import argparse
import gzip
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import mdtraj as md
import numpy as np

import mdvae
from mdvae.local_geometry import find_links, fit_local_geometry
from mdvae.restoration import Restorer, restore_frames
from mdvae.validity import check

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
N_REPEATS = 5


def ala2():
    files = sorted(path for path in (DATA / "ala2").iterdir() if path.suffix in (".xtc", ".dcd", ".h5", ".nc"))
    return mdvae.read(files[0], top=next((DATA / "ala2").glob("*.pdb")), stride=5)


def glu7():
    return mdvae.read(DATA / "glu7" / "glu7.xtc", top=DATA / "glu7" / "glu7.pdb", stride=4)


def adk_alphas():
    top = md.load(DATA / "adk" / "adk1AKE.pdb")
    files = sorted(path for path in (DATA / "adk").rglob("*") if path.suffix in (".dcd", ".xtc", ".trr"))
    return mdvae.read(files, top=top.atom_slice(top.topology.select("name CA")))


def adk():
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "top.gro"
        top.write_bytes(gzip.decompress(next((DATA / "adk_pbc").glob("*.gro.gz")).read_bytes()))
        return mdvae.read(next((DATA / "adk_pbc").glob("*.xtc")), top=top, select="protein")


# Noise in nm: of the size that decoders are off by, where atoms are bonded; Cα are further apart.
SYSTEMS = {"ala2": (ala2, 0.05), "glu7": (glu7, 0.05), "adk CA": (adk_alphas, 0.1), "adk": (adk, 0.05)}


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name):
    read, noise = SYSTEMS[name]
    frames = read()
    x, system = frames.coordinates, frames.system
    n_atoms = x.shape[1]
    n = max(128, 300_000 // n_atoms)
    rng = np.random.default_rng(0)
    raw = x[rng.integers(len(x), size=n)]
    raw = (raw + noise * rng.normal(size=raw.shape)).astype(np.float32)
    geometry = fit_local_geometry(x, find_links(x, system.links, system.bonds), system.masses)
    restorer = Restorer(geometry)
    times = []
    for _ in range(N_REPEATS + 1):
        started = time.perf_counter()
        restored = restore_frames(restorer, raw)
        times.append(time.perf_counter() - started)
    cost = float(np.median(times[1:])) / n
    valid = check(geometry, restored).valid.mean()
    print(f"{n_atoms} {cost}")
    print(
        f"{name:8s}{n_atoms:6d} atoms  {len(geometry.pairs):6d} pairs  {restorer.near.shape[1]:3d} near an atom at most"
        f"  {1e3 * cost:8.3f} ms a structure  {1e6 * cost / n_atoms:5.1f} us an atom  {1 / cost:7.0f} a second"
        f"  {peak():5.0f} MB at peak, reading and compiling included  {100 * valid:5.1f} % valid",
        file=sys.stderr,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", nargs="?", choices=SYSTEMS)
    chosen = parser.parse_args().system
    warnings.simplefilter("ignore")
    if chosen:
        measure(chosen)
        return
    lines = [
        subprocess.run([sys.executable, __file__, name], stdout=subprocess.PIPE, text=True, check=True).stdout
        for name in SYSTEMS
    ]
    atoms, costs = np.array([line.splitlines()[-1].split() for line in lines], float).T
    print(f"cost grows with the power {np.polyfit(np.log(atoms), np.log(costs), 1)[0]:.2f} of the atoms")


if __name__ == "__main__":
    main()
