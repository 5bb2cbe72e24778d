"""Further runs of alanine dipeptide, simulated as the stored ones were, for the row ala2-further of chapter.py.

    pip install openmm
    python tests/benchmarks/further_ala2.py FOLDER --seeds 0 1 2 3
    MDVAE_FURTHER_ALA2=FOLDER python tests/benchmarks/chapter.py ala2-further

Amber ff99SB-ILDN in the implicit solvent of Onufriev, Bashford and Case, no cutoff, bonds to hydrogen constrained,
Langevin dynamics at 300 K, 91/ps, in steps of 2 fs; 10 ns a run after 0.1 ns that are not kept, a frame every ps. With
so few atoms OpenMM's reference platform is the fastest on a CPU: three to six minutes a run on a quiet core.
"""

import argparse
import os
from pathlib import Path

import openmm
from openmm import app, unit

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
N_FRAMES = 10_000
STRIDE = 500


def simulate(seed, path):
    start = app.PDBFile(str(DATA / "ala2" / "ala2.pdb"))
    field = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")
    system = field.createSystem(start.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)
    integrator = openmm.LangevinIntegrator(300 * unit.kelvin, 91 / unit.picosecond, 2 * unit.femtosecond)
    integrator.setRandomNumberSeed(seed + 100)
    run = app.Simulation(start.topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    run.context.setPositions(start.positions)
    run.minimizeEnergy()
    run.context.setVelocitiesToTemperature(300, seed + 1)
    run.step(50_000)
    unfinished = path.with_suffix(".part")
    run.reporters.append(app.DCDReporter(str(unfinished), STRIDE))
    run.step(N_FRAMES * STRIDE)
    unfinished.rename(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for seed in chosen.seeds:
        path = chosen.folder / f"further-{seed:02d}.dcd"
        if path.exists():
            print(f"{path}: already there", flush=True)
            continue
        simulate(seed, path)
        print(path, flush=True)


if __name__ == "__main__":
    main()
