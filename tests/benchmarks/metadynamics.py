"""Metadynamics of alanine dipeptide along the latent coordinates of a model, in OpenMM, beside plain dynamics.

    pip install openmm
    python tests/benchmarks/metadynamics.py MODEL.mdvae FOLDER --ns 4 --seeds 0 1 2
    python tests/benchmarks/metadynamics.py MODEL.mdvae FOLDER --speed

The model is of alanine dipeptide, such as `mdvae fit` makes of ala2/trajectory-[0-3].dcd with --select "symbol != H".
What is simulated is what the stored runs are (see further_ala2.py): Amber ff99SB-ILDN in the implicit solvent of
Onufriev, Bashford and Case, 300 K, Langevin dynamics at 91/ps in steps of 2 fs, on the reference platform, a frame
every ps. Each seed is run without and with a well-tempered bias, for equally long; each run is kept in a file of FOLDER
and is not made again.

- Crossings are counted between cores, αR at ψ from -80 to 0 degrees and β at ψ above 100 or below -160, so that
  whoever comes back from the barrier has not crossed it.
- Frames of biased runs weigh exp((V - c(t)) / kT), the first fifth left out (doi:10.1021/jp504920s); αR is ψ from -125
  to 50 degrees, β the rest, both at φ below 0. G(αR) - G(β) is compared with the six stored runs of 10 ns
  (``MDVAE_DATA``) and with the plain ones; errors are standard errors over runs (jackknife).
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

import mdvae

DATA = Path(os.environ.get("MDVAE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ala2"
TEMPERATURE = 300.0
KT = 0.00831446261815324 * TEMPERATURE
STRIDE = 500
STEPS_PER_NS = 500_000
# Hills of 1 kJ/mol at first, one a ps; the coordinate is sampled as if at 6 times the temperature.
HEIGHT, BIAS_FACTOR = 1.0, 6.0
BURN_IN = 0.2
PHI, PSI = (4, 6, 8, 14), (6, 8, 14, 16)


def prepared(model=None, components=None, seed=0):
    """Simulation of a molecule that has been heated, and its metadynamics if there is a model."""
    start = app.PDBFile(str(DATA / "ala2.pdb"))
    field = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")
    system = field.createSystem(start.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)
    bias = None
    if model is not None:
        variables = mdvae.adapters.openmm.bias_variables(model, system)
        chosen = [variables[i] for i in components]
        bias = app.Metadynamics(system, chosen, TEMPERATURE, BIAS_FACTOR, HEIGHT, STRIDE)
    integrator = openmm.LangevinIntegrator(TEMPERATURE * unit.kelvin, 91 / unit.picosecond, 2 * unit.femtosecond)
    integrator.setRandomNumberSeed(seed + 100)
    run = app.Simulation(start.topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    run.context.setPositions(start.positions)
    run.minimizeEnergy()
    run.context.setVelocitiesToTemperature(TEMPERATURE, seed + 1)
    run.step(25_000)
    # Metadynamics deposits by the count of steps.
    run.currentStep = 0
    return run, bias


def dihedral(positions, atoms):
    a, b, c = np.diff(positions[list(atoms)], axis=0)
    n, m = np.cross(a, b), np.cross(b, c)
    return np.arctan2(np.linalg.norm(b) * a @ m, n @ m)


def offset(bias):
    """c(t) in kJ/mol, over the part of the grid that the bias has reached."""
    free = bias.getFreeEnergy().value_in_unit(unit.kilojoule_per_mole)
    v = -(BIAS_FACTOR - 1) / BIAS_FACTOR * free
    v = v[v > 0.01 * v.max()] if v.max() > 0 else v
    above, below = BIAS_FACTOR / (BIAS_FACTOR - 1) * v / KT, v / (BIAS_FACTOR - 1) / KT
    return KT * (np.logaddexp.reduce(above.ravel()) - np.logaddexp.reduce(below.ravel()))


def simulate(run, bias, n_frames):
    """Torsions (n_frames, 2), coordinates, bias energy and c(t) in kJ/mol, a frame every ps."""
    found = {"torsions": [], "z": [], "v": [], "c": []}
    for _ in range(n_frames):
        # Before the hill that is put down where the frame is.
        run.step(STRIDE - 1)
        positions = run.context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        found["torsions"].append([dihedral(positions, atoms) for atoms in (PHI, PSI)])
        if bias is None:
            run.step(1)
            continue
        group = run.system.getForces()[-1].getForceGroup()
        energy = run.context.getState(energy=True, groups={group}).getPotentialEnergy()
        found["v"].append(energy.value_in_unit(unit.kilojoule_per_mole))
        found["c"].append(offset(bias))
        found["z"].append(bias.getCollectiveVariables(run))
        bias.step(run, 1)
    return {name: np.array(values) for name, values in found.items()}


def crossings(psi):
    psi = np.rad2deg(psi)
    core = np.where((psi > -80) & (psi < 0), 1, np.where((psi > 100) | (psi < -160), 2, 0))
    core = core[core > 0]
    return int(np.sum(np.diff(core) != 0))


def difference(torsions, weights=None):
    """G(αR) - G(β), kJ/mol."""
    phi, psi = np.rad2deg(torsions).T
    weights = np.ones(len(phi)) if weights is None else weights
    alpha = (psi > -125) & (psi < 50)
    left = phi < 0
    return -KT * np.log(weights[left & alpha].sum() / weights[left & ~alpha].sum())


def stored():
    import mdtraj as md

    runs = [md.load(path, top=DATA / "ala2.pdb") for path in sorted(DATA.glob("*.dcd"))]
    return [np.stack([md.compute_phi(x)[1][:, 0], md.compute_psi(x)[1][:, 0]], axis=1) for x in runs]


def mean_and_error(values):
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2f}"


def pooled(runs, weights):
    """Difference of all runs together, and its standard error by leaving out one run after another."""
    every = difference(np.concatenate(runs), np.concatenate(weights))
    n = len(runs)
    left = [
        difference(np.concatenate(runs[:i] + runs[i + 1 :]), np.concatenate(weights[:i] + weights[i + 1 :]))
        for i in range(n)
    ]
    return every, np.sqrt((n - 1) / n * np.sum((np.array(left) - np.mean(left)) ** 2))


def measure_speed(model, components):
    for name, made in (("plain", prepared()), ("with the bias", prepared(model, components))):
        run, bias = made
        step = run.step if bias is None else lambda n, bias=bias, run=run: bias.step(run, n)
        step(1000)
        rounds = []
        for _ in range(50):
            start = time.perf_counter()
            step(100)
            rounds.append((time.perf_counter() - start) / 100)
        seconds = min(rounds)
        print(f"{name}: {1e6 * seconds:.0f} µs a step, {86400 / seconds / STEPS_PER_NS:.0f} ns a day", flush=True)


def summarize(folder, ns, seeds):
    plain = [np.load(folder / f"plain-{seed}.npz") for seed in seeds]
    biased = [np.load(folder / f"metadynamics-{seed}.npz") for seed in seeds]
    for name, runs in (("plain", plain), ("metadynamics", biased)):
        counts = [crossings(run["torsions"][:, 1]) / ns for run in runs]
        print(f"{name}: crossings a ns {', '.join(f'{n:.2f}' for n in counts)}; mean {mean_and_error(counts)}")
    first = int(BURN_IN * ns * 1000)
    torsions = [run["torsions"][first:] for run in biased]
    weights = [np.exp((run["v"] - run["c"])[first:] / KT) for run in biased]
    values = [difference(t, w) for t, w in zip(torsions, weights, strict=True)]
    rows = {"metadynamics, reweighted": (torsions, weights)}
    rows["plain runs"] = [run["torsions"] for run in plain], [np.ones(len(run["torsions"])) for run in plain]
    long = stored()
    rows["six stored runs of 10 ns"] = long, [np.ones(len(run)) for run in long]
    print(f"G(αR) - G(β) by seed: {', '.join(f'{value:.2f}' for value in values)} kJ/mol")
    for name, (runs, weight) in rows.items():
        value, error = pooled(list(runs), list(weight))
        print(f"G(αR) - G(β), {name}: {value:.2f} ± {error:.2f} kJ/mol")
    counts = [crossings(run[:, 1]) / (len(run) / 1000) for run in long]
    print(f"six stored runs: crossings a ns {mean_and_error(counts)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ns", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--components", type=int, nargs="+", help="latent coordinates to bias, all if left out")
    parser.add_argument("--speed", action="store_true", help="time a step, at best of 50 rounds, and nothing else")
    chosen = parser.parse_args()
    model = mdvae.load(chosen.model)
    components = list(range(model.latent_dim)) if chosen.components is None else chosen.components
    if chosen.speed:
        measure_speed(model, components)
        return
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for seed in chosen.seeds:
        for name, biased in (("plain", None), ("metadynamics", model)):
            path = chosen.folder / f"{name}-{seed}.npz"
            if path.exists():
                print(f"{path}: already there", flush=True)
                continue
            start = time.perf_counter()
            found = simulate(*prepared(biased, components, seed), int(1000 * chosen.ns))
            np.savez(path, **found)
            line = {"run": path.name, "crossings": crossings(found["torsions"][:, 1]), "s": time.perf_counter() - start}
            print(json.dumps(line), flush=True)
    summarize(chosen.folder, chosen.ns, chosen.seeds)


if __name__ == "__main__":
    main()
