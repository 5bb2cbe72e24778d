"""Chains that we simulate ourselves.

One integrator, `langevin`, moves any system; a system is data: masses and a tuple of energy terms. The
terms are those of a linear chain, in which each atom is bonded to the next.

The bead-spring chain is in reduced units (length, kT and mass are 1); the alkane in nm, ps, kJ/mol and
atomic mass units, which belong together: 1 kJ/mol = 1 amu nm^2/ps^2.
"""

import math
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdvae._types import Frame, Key, Scalar, Weights
from mdvae.geometry.safe import safe_angle, safe_norm

BOLTZMANN = 0.00831446261815324
"""Boltzmann's constant in kJ/mol/K."""


@runtime_checkable
class Term(Protocol):
    """Part of a potential energy: its parameters, and the energy of one frame."""

    def energy(self, frame: Frame) -> Scalar:
        """Energy of a frame ``(n_atoms, dim)``."""
        ...


class Bonds(NamedTuple):
    """Harmonic bonds between consecutive atoms, ``k/2 (r - r0)^2``."""

    length: float
    constant: float

    def energy(self, frame: Frame) -> Scalar:
        """Energy of a frame ``(n_atoms, dim)``, in units of `constant` times length squared."""
        lengths = safe_norm(frame[1:] - frame[:-1])
        return self.constant / 2 * jnp.sum((lengths - self.length) ** 2)


class Angles(NamedTuple):
    """Harmonic angles of three consecutive atoms, ``k/2 (theta - theta0)^2``, radians."""

    angle: float
    constant: float

    def energy(self, frame: Frame) -> Scalar:
        """Energy of a frame ``(n_atoms, dim)``, in units of `constant`."""
        steps = frame[1:] - frame[:-1]
        return self.constant / 2 * jnp.sum((safe_angle(-steps[:-1], steps[1:]) - self.angle) ** 2)


class Torsions(NamedTuple):
    """Torsions of four consecutive atoms, ``c1 (1 + cos f) + c2 (1 - cos 2f) + c3 (1 + cos 3f)``.

    Trans is f = pi.
    """

    c1: float
    c2: float
    c3: float

    def energy(self, frame: Frame) -> Scalar:
        """Energy of a frame ``(n_atoms, 3)``, in the unit of the constants."""
        # The potential is even, so the cosine is enough: no inverse function, and nothing special at cis
        # and trans.
        cosines = _torsion_cosines(frame)
        double, triple = 2 * cosines**2 - 1, 4 * cosines**3 - 3 * cosines
        return jnp.sum(self.c1 * (1 + cosines) + self.c2 * (1 - double) + self.c3 * (1 + triple))


class LennardJones(NamedTuple):
    """Pairs of atoms, ``4 epsilon ((sigma/r)^12 - (sigma/r)^6)``; a pair with zero epsilon is left out."""

    sigma: Float[Array | np.ndarray, "n_atoms n_atoms"] | float
    epsilon: Float[Array | np.ndarray, "n_atoms n_atoms"]
    """Upper triangle only: each pair once."""

    def energy(self, frame: Frame) -> Scalar:
        """Energy of a frame ``(n_atoms, dim)``, in the unit of `epsilon`."""
        included = self.epsilon != 0
        squares = jnp.sum((frame[:, None, :] - frame[None, :, :]) ** 2, axis=-1)
        sixth = (self.sigma**2 / jnp.where(included, squares, 1)) ** 3
        return jnp.sum(4 * self.epsilon * (sixth**2 - sixth))


def _torsion_cosines(frame: Float[Array, "n_atoms 3"]) -> Float[Array, " n_torsions"]:
    steps = frame[1:] - frame[:-1]
    normals = jnp.cross(steps[:-1], steps[1:])
    lengths = safe_norm(normals, keepdims=True)
    # Each normal is divided by its own length: the product of two small ones would leave the range of 32
    # bits.
    units = normals / jnp.where(lengths > 0, lengths, 1)
    return jnp.sum(units[:-1] * units[1:], axis=1)


def potential_energy(frame: Frame, terms: tuple[Term, ...]) -> Scalar:
    """Sum of the energies of all terms, a pure function of the frame.

    Parameters
    ----------
    frame
        Positions ``(n_atoms, dim)``.
    terms
        What the energy consists of.

    Returns
    -------
    Scalar
        In the unit of energy of the terms.
    """
    return sum((term.energy(frame) for term in terms), start=jnp.zeros((), frame.dtype))


class Run(NamedTuple):
    """What `langevin` returns."""

    frames: Float[Array, "n_frames n_atoms dim"]
    acceptance: Scalar
    """Fraction of steps that were accepted; well below 0.99 the time step is too long."""


class _State(NamedTuple):
    position: Frame
    velocity: Frame
    energy: Scalar
    force: Frame


@partial(jax.jit, static_argnames=("n_frames", "stride"))
def langevin(
    start: Frame,
    masses: Weights,
    terms: tuple[Term, ...],
    *,
    thermal_energy: float | Scalar,
    time_step: float | Scalar,
    friction: float | Scalar,
    n_frames: int,
    stride: int,
    key: Key,
) -> Run:
    """Langevin dynamics with exact sampling of the Boltzmann distribution, compiled.

    Each step first lets friction and noise act on the velocities, exactly. Then it makes one velocity
    Verlet step, which a Metropolis test accepts, or else the atoms stay where they are and turn back (the
    generalized hybrid Monte Carlo of Horowitz, DOI 10.1016/0370-2693(91)90812-5; that it follows Langevin
    dynamics: DOI 10.1002/cpa.20306). So the sampled distribution is right for any time step, and no
    collision, however hard, makes a coordinate infinite or NaN.

    Without the test it is not so. BAOAB (DOI 10.1063/1.4802990) lost 61 of 64 bead-spring chains to NaN
    within 500 units of time at a time step of 0.01, and 4 at 0.005: their bonds are soft enough to shrink
    to nothing, where the force of an angle has no bound.

    Parameters
    ----------
    start
        First positions ``(n_atoms, dim)``; not part of the result.
    masses
        ``(n_atoms,)``.
    terms
        What the potential energy consists of.
    thermal_energy
        kT, in the unit of the energy.
    time_step, friction
        In the unit of time, and in its inverse.
    n_frames, stride
        Frames to return, and steps from one to the next.
    key
        Source of all noise.

    Returns
    -------
    Run
        Frames ``(n_frames, n_atoms, dim)`` in order of time, and the fraction of accepted steps.
    """
    # All in the precision of the start, so that 64-bit mode does not change the trajectory.
    masses, terms, thermal_energy, time_step, friction = jax.tree.map(
        lambda number: jnp.asarray(number, start.dtype),
        (masses[:, None], terms, thermal_energy, time_step, friction),
    )
    kept = jnp.exp(-friction * time_step)
    # What the velocities lose in kept * velocity, the noise brings back.
    spread = jnp.sqrt(thermal_energy / masses)
    added = jnp.sqrt(1 - kept**2) * spread

    def energy_and_force(position: Frame) -> tuple[Scalar, Frame]:
        energy, gradient = jax.value_and_grad(potential_energy)(position, terms)
        return energy, -gradient

    def total(energy: Scalar, velocity: Frame) -> Scalar:
        return energy + jnp.sum(masses * velocity**2) / 2

    def step(state: _State, noise: tuple[Frame, Scalar]) -> tuple[_State, Array]:
        kick, exponential = noise
        velocity = kept * state.velocity + added * kick
        half = velocity + time_step / 2 * state.force / masses
        position = state.position + time_step * half
        energy, force = energy_and_force(position)
        moved = _State(position, half + time_step / 2 * force / masses, energy, force)
        stayed = state._replace(velocity=-velocity)
        # An exponential variate exceeds the rise with probability exp(-rise / kT); a NaN is never exceeded.
        rise = total(energy, moved.velocity) - total(state.energy, velocity)
        accepted = thermal_energy * exponential > rise
        return jax.tree.map(partial(jnp.where, accepted), moved, stayed), accepted

    def interval(state: _State, key: Key) -> tuple[_State, tuple[Frame, Scalar]]:
        # Without this the molecule would drift away to where 32 bits resolve its bonds less and less.
        state = state._replace(position=_centered(state.position))
        kicks, exponentials = jax.random.split(key)
        noise = (
            jax.random.normal(kicks, (stride, *start.shape), start.dtype),
            jax.random.exponential(exponentials, (stride,), start.dtype),
        )
        state, accepted = jax.lax.scan(step, state, noise)
        return state, (state.position, jnp.mean(accepted, dtype=start.dtype))

    first, others = jax.random.split(key)
    velocity = spread * jax.random.normal(first, start.shape, start.dtype)
    state = _State(start, velocity, *energy_and_force(start))
    _, (frames, acceptance) = jax.lax.scan(interval, state, jax.random.split(others, n_frames))
    return Run(frames, jnp.mean(acceptance))


def _centered(frame: Frame) -> Frame:
    return frame - frame.mean(0)[None, :]


def zigzag(n_atoms: int, length: float, angle: float, dim: int) -> Float[Array, "n_atoms dim"]:
    """Build an extended planar chain, all bonds and angles equal, in 32 bits.

    Parameters
    ----------
    n_atoms, dim
        Its shape.
    length
        Of the bonds.
    angle
        Between consecutive bonds, radians.

    Returns
    -------
    Frame
        Positions ``(n_atoms, dim)``, in the unit of `length`.
    """
    index = np.arange(n_atoms)
    frame = np.zeros((n_atoms, dim), np.float32)
    frame[:, 0] = index * length * math.sin(angle / 2)
    frame[:, 1] = index % 2 * length * math.cos(angle / 2)
    return jnp.asarray(frame)


# The bead-spring chain ----------------------------------------------------------------------------

_CHAIN_BONDS = Bonds(length=1 / 3, constant=89.9)
_CHAIN_ANGLES = Angles(angle=math.radians(120), constant=3.55)
_CHAIN_SIGMA, _CHAIN_EPSILON = 1 / 6, 0.325


def chain_terms(n_beads: int) -> tuple[Bonds, Angles, LennardJones]:
    """Energy terms of the bead-spring chain, in kT at temperature 1 and reduced lengths.

    Bonds of length 1/3 (k = 89.9), angles of 120 degrees (k = 3.55), and Lennard-Jones pairs from the second
    neighbor on (sigma = 1/6, epsilon = 0.325).

    Parameters
    ----------
    n_beads
        Number of beads.
    """
    return (
        _CHAIN_BONDS,
        _CHAIN_ANGLES,
        LennardJones(_CHAIN_SIGMA, _CHAIN_EPSILON * _pairs_from(n_beads, 2)),
    )


def chain_energy(frame: Frame) -> Scalar:
    """Potential energy of the bead-spring chain.

    Parameters
    ----------
    frame
        Positions ``(n_beads, dim)``, reduced units.

    Returns
    -------
    Scalar
        In kT at temperature 1.
    """
    return potential_energy(frame, chain_terms(frame.shape[0]))


def bead_spring_chain(
    n_frames: int = 2000,
    *,
    n_beads: int = 12,
    dim: int = 2,
    seed: int = 0,
    stride: int = 300,
    temperature: float = 1.0,
) -> Float[np.ndarray, "n_frames n_beads dim"]:
    """Simulate a chain of beads in the plane or in space.

    The energy is that of `chain_terms`; the chain starts extended and is equilibrated before the first
    frame. Its center is kept near the origin, its orientation is free.

    Parameters
    ----------
    n_frames
        Frames to return.
    n_beads, dim
        Shape of a frame; `dim` is 2 or 3.
    seed
        Same seed, same trajectory (on the same machine).
    stride
        Steps from one frame to the next.
    temperature
        kT, in units of the energy at which the constants are given.

    Returns
    -------
    numpy.ndarray
        ``(n_frames, n_beads, dim)``, 32-bit, in order of time, reduced units.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    _check_at_least(2, n_beads=n_beads)
    _check_run(n_frames, stride, temperature)
    if dim not in (2, 3):
        raise ValueError(f"Expected dim 2 or 3, got {dim}; choose the plane or space.")
    # Measured for 12 beads in 2-D: the end-to-end distance, 0.16 to 4.3, has a statistical inefficiency 1 +
    # 2 sum C(t) of 3.3 time units (mean of four runs of 4000) to 4.7 (5000 frames, seed 0). With neighbors
    # 0.75 apart (300 steps), correlated by 0.69, that is 4 to 6 frames a new conformation. 99.95 % of the
    # steps are accepted. Twice the time step turns the velocities back so often that it takes 5.5 time
    # units; frictions from 0.3 to 1 are alike.
    return _equilibrated(
        zigzag(n_beads, *_CHAIN_BONDS[:1], *_CHAIN_ANGLES[:1], dim),
        jnp.ones(n_beads, jnp.float32),
        chain_terms(n_beads),
        thermal_energy=float(temperature),
        time_step=0.0025,
        friction=0.5,
        n_frames=n_frames,
        stride=stride,
        seed=seed,
    )


# The alkane ---------------------------------------------------------------------------------------

_METHYL, _METHYLENE = (
    {"mass": 15.035, "sigma": 0.375, "epsilon": 98.0},
    {"mass": 14.027, "sigma": 0.395, "epsilon": 46.0},
)
_ALKANE_BONDS = Bonds(length=0.154, constant=224262.4)
_ALKANE_ANGLES = Angles(angle=math.radians(114), constant=62500 * BOLTZMANN)
_ALKANE_TORSIONS = Torsions(355.03 * BOLTZMANN, -68.19 * BOLTZMANN, 791.32 * BOLTZMANN)


def alkane_terms(n_carbons: int) -> tuple[Bonds, Angles, Torsions, LennardJones]:
    """Energy terms of a united-atom n-alkane, in kJ/mol and nm.

    Angles, torsions and Lennard-Jones pairs (from the fifth atom on, Lorentz-Berthelot) are those of
    TraPPE-UA (DOI 10.1021/jp972543+). Its bonds are rigid; ours have its length and the constant of OPLS-AA
    (DOI 10.1021/ja9621760).

    Parameters
    ----------
    n_carbons
        Number of atoms, at least two.
    """
    sigma, epsilon = (
        _per_carbon(n_carbons, "sigma"),
        _per_carbon(n_carbons, "epsilon") * np.float32(BOLTZMANN),
    )
    return (
        _ALKANE_BONDS,
        _ALKANE_ANGLES,
        _ALKANE_TORSIONS,
        LennardJones(
            (sigma[:, None] + sigma[None, :]) / 2,
            np.sqrt(epsilon[:, None] * epsilon[None, :]) * _pairs_from(n_carbons, 4),
        ),
    )


def alkane_masses(n_carbons: int) -> Float[Array, " n_carbons"]:
    """Masses of the united atoms CH3 and CH2 of an n-alkane, ``(n_carbons,)``, atomic mass units.

    Parameters
    ----------
    n_carbons
        Number of atoms, at least two.
    """
    return jnp.asarray(_per_carbon(n_carbons, "mass"))


def alkane(
    n_frames: int = 2000, *, n_carbons: int = 6, seed: int = 0, stride: int = 500, temperature: float = 300.0
) -> Float[np.ndarray, "n_frames n_carbons 3"]:
    """Simulate one n-alkane molecule in vacuum, united atoms.

    The energy is that of `alkane_terms`; the molecule starts all-trans and is equilibrated before the first
    frame. Its center is kept near the origin, its orientation is free.

    Parameters
    ----------
    n_frames
        Frames to return.
    n_carbons
        Carbon atoms, at least two.
    seed
        Same seed, same trajectory (on the same machine).
    stride
        Steps of 2 fs from one frame to the next.
    temperature
        In kelvin.

    Returns
    -------
    numpy.ndarray
        ``(n_frames, n_carbons, 3)``, 32-bit, in order of time, nm.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    _check_at_least(2, n_carbons=n_carbons)
    _check_run(n_frames, stride, temperature)
    # Measured for hexane at 300 K (eight runs of 2 ns): each torsion crosses between trans and gauche about
    # 40 times a ns, so 80 times in the 2000 frames, 1 ps apart, of the default; the end-to-end distance has
    # a statistical inefficiency of 28 ps, and neighboring frames are correlated by 0.8. At 600 K there are
    # five times as many crossings. 98.9 % of the steps are accepted; at 4 fs 91 %, and half the crossings.
    # The friction, from 1 to 10, matters little.
    return _equilibrated(
        zigzag(n_carbons, *_ALKANE_BONDS[:1], *_ALKANE_ANGLES[:1], 3),
        alkane_masses(n_carbons),
        alkane_terms(n_carbons),
        thermal_energy=BOLTZMANN * temperature,
        time_step=0.002,
        friction=3.0,
        n_frames=n_frames,
        stride=stride,
        seed=seed,
    )


_RESIDUES = {2: "ETH", 3: "PRP", 4: "BUT", 5: "PEN", 6: "HEX", 7: "HEP", 8: "OCT", 9: "NON", 10: "DEC"}


def alkane_pdb(n_carbons: int, frame: Float[np.ndarray | Array, "n_carbons 3"]) -> str:
    """Text of a PDB file of one n-alkane molecule, with its bonds as CONECT records.

    Parameters
    ----------
    n_carbons
        Carbon atoms, 2 to 99.
    frame
        Positions ``(n_carbons, 3)``, nm.

    Returns
    -------
    str
        Atoms C1, C2, ... in one residue, HEX for hexane, say.

    Raises
    ------
    ValueError
        If the shape of the frame is another, or the molecule too large for the atom names.
    """
    if not 2 <= n_carbons <= 99:
        raise ValueError(f"Expected 2 to 99 carbons, got {n_carbons}; longer ones need another file format.")
    if frame.shape != (n_carbons, 3):
        raise ValueError(f"Expected one frame of shape ({n_carbons}, 3), got {frame.shape}; give frames[0], say.")
    residue = _RESIDUES.get(n_carbons, "ALK")
    atoms = [
        f"HETATM{serial:5d}  {f'C{serial}':<3} {residue} A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
        for serial, (x, y, z) in enumerate(10 * np.asarray(frame, float), start=1)
    ]
    bonds = [f"CONECT{serial:5d}{serial + 1:5d}" for serial in range(1, n_carbons)]
    return "\n".join([*atoms, *bonds, "END", ""])


def _per_carbon(n_carbons: int, what: str) -> Float[np.ndarray, " n_carbons"]:
    return np.array([_METHYL[what], *[_METHYLENE[what]] * (n_carbons - 2), _METHYL[what]], np.float32)


# Common to both -----------------------------------------------------------------------------------


def _pairs_from(n_atoms: int, separation: int) -> Float[np.ndarray, "n_atoms n_atoms"]:
    """One for each pair at least so far apart in sequence, else zero."""
    return np.triu(np.ones((n_atoms, n_atoms), np.float32), separation)


def _equilibrated(
    start: Frame,
    masses: Weights,
    terms: tuple[Term, ...],
    *,
    n_frames: int,
    stride: int,
    seed: int,
    **dynamics: float,
) -> Float[np.ndarray, "n_frames n_atoms dim"]:
    # 25 time units of the chain, 20 ps of the alkane: enough to forget the zigzag's bonds, angles and ends.
    n_before = math.ceil(10_000 / stride)
    run = langevin(
        start,
        masses,
        terms,
        n_frames=n_before + n_frames,
        stride=stride,
        key=jax.random.key(seed),
        **dynamics,
    )
    return np.array(run.frames[n_before:])  # a copy: the array of JAX is read-only, and mdtraj refuses such


def _check_run(n_frames: int, stride: int, temperature: float) -> None:
    _check_at_least(1, n_frames=n_frames, stride=stride)
    if not 0 < temperature < math.inf:
        raise ValueError(f"Expected a temperature above zero, got {temperature}.")


def _check_at_least(smallest: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < smallest:
            raise ValueError(f"Expected {name} of at least {smallest}, got {number}.")
