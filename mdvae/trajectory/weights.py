"""How much each frame counts: numbers, or the bias under which it was simulated."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdvae._types import Number

# kJ/mol/K, the unit of energies in PLUMED unless it is told another; exact since 2019 (doi:10.1088/1681-7575/aa950a).
GAS_CONSTANT = 8.31446261815324e-3
_FORMS = (
    "an array (n_frames,), a list with one for each trajectory, a .npy file, or a column of a COLVAR file, such as "
    "'COLVAR:metad.rbias'"
)

Weights = Float[np.ndarray, "_"]


def is_bias(weights: Any) -> bool:
    """Whether weights are asked for as the column of a file.

    Parameters
    ----------
    weights : as for `frame_weights`
    """
    if isinstance(weights, list | tuple):
        return any(is_bias(one) for one in weights)
    return isinstance(weights, str | os.PathLike) and Path(weights).suffix != ".npy"


def check_temperature(weights: Any, temperature: Number | None) -> None:
    """Refuse a temperature that nothing needs, a bias without one, and a temperature that is none.

    Parameters
    ----------
    weights : as for `frame_weights`
    temperature : float, optional

    Raises
    ------
    ValueError, TypeError
    """
    if temperature is None:
        if is_bias(weights):
            raise ValueError(f"weights={weights!r} are energies; give the temperature, in K")
        return
    if not hasattr(temperature, "__float__"):
        raise TypeError(f"temperature must be a number of kelvins, got {temperature!r}")
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be above 0 K, got {temperature}")
    if not is_bias(weights):
        raise ValueError(f"temperature={temperature} belongs to weights from a COLVAR file; leave it out")


def frame_weights(
    weights: Any, lengths: Sequence[int], *, stride: int = 1, temperature: Number | None = None
) -> Weights:
    """Weight of each frame, from what a user gives.

    Parameters
    ----------
    weights : array, path or column of a file, or list of these
        An array (n_frames,) or a ``.npy`` file with one holds weights. ``"FILE:COLUMN"`` is a column of a PLUMED COLVAR
        file, a bias energy in kJ/mol, of which the weight is ``exp(bias / kT)``: ``metad.rbias``, or ``metad.bias`` of
        a run whose bias has stopped to grow. ``"FILE:COLUMN:10"`` takes every tenth row, from the first on. A list has
        one of these for each trajectory.
    lengths : sequence of int
        Frames that were read of each trajectory.
    stride : int
        Every how many frames one was read. Weights are those of all frames, and are thinned in the same way.
    temperature : float, optional
        In K, of the bias; needed for that only.

    Returns
    -------
    (n_frames,)
        Up to a factor: the largest weight of a bias is 1, whatever it was, so that nothing overflows.

    Raises
    ------
    ValueError, TypeError, OSError
        For weights that are as many as no frames, negative, not finite, or all zero; for a file without that column.
    """
    check_temperature(weights, temperature)
    several = isinstance(weights, list | tuple) and not all(np.ndim(one) == 0 and _is_number(one) for one in weights)
    given = [_numbers(one, temperature) for one in (weights if several else [weights])]
    if not several and len(lengths) > 1:
        given = _shared(given[0], lengths, stride)
    if len(given) != len(lengths):
        raise ValueError(f"weights are of {len(given)} trajectories, expected {len(lengths)}: a list with one for each")
    found = np.concatenate([_thinned(one, n, stride, i) for i, (one, n) in enumerate(zip(given, lengths, strict=True))])
    if temperature is not None:
        if not np.isfinite(found).all():
            raise ValueError(f"{np.sum(~np.isfinite(found))} of {len(found)} bias energies are not finite")
        # One factor for all trajectories: their bias may differ.
        found = np.exp(found - found.max())
    return checked_weights(found, len(found))


def checked_weights(weights: Any, n: int) -> Weights:
    """Weights as numbers of 64 bits.

    Parameters
    ----------
    weights : (n,)
    n : int

    Raises
    ------
    ValueError, TypeError
    """
    found = _as_array(weights)
    if found.shape != (n,):
        raise ValueError(f"expected weights of {n} frames, an array ({n},), got one of shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{np.sum(~np.isfinite(found))} of {n} weights are NaN or infinite; give finite ones")
    if (found < 0).any():
        raise ValueError(
            f"{np.sum(found < 0)} of {n} weights are negative, the least {found.min():.3g}; give 0 or more"
        )
    if not found.any():
        raise ValueError(f"all {n} weights are 0: there is nothing to learn from")
    return found


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__")


def _as_array(weights: Any) -> np.ndarray:
    try:
        return np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"weights must be {_FORMS}, got {weights!r}") from None


def _numbers(one: Any, temperature: Number | None) -> Weights:
    """Weights, or what they are the exponential of, of one trajectory or of all."""
    if not isinstance(one, str | os.PathLike):
        found = _as_array(one)
    elif Path(one).suffix == ".npy":
        try:
            found = _as_array(np.load(one, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise ValueError(f"{one} holds no array of weights ({error})") from error
    else:
        assert temperature is not None
        return _column(str(one)) / (GAS_CONSTANT * float(temperature))
    if temperature is not None:
        raise ValueError("weights are numbers for some trajectories and energies for others; give the same for all")
    if found.ndim != 1:
        raise ValueError(f"weights must be {_FORMS}; got an array of shape {found.shape}")
    return found


def _column(name: str) -> Weights:
    """Rows of one column of a COLVAR file."""
    rest, every = name, 1
    if (last := name.rpartition(":"))[2].isdigit():
        rest, every = last[0], max(1, int(last[2]))
    path, _, column = rest.rpartition(":")
    if not path:
        raise ValueError(f"weights={name!r} names no column; expected {_FORMS}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no COLVAR file at {path}")
    with Path(path).open() as file:
        header = next((line.split()[2:] for line in file if line.startswith("#! FIELDS")), None)
        if header is None:
            raise ValueError(f"{path} is no COLVAR file: no line '#! FIELDS' names its columns")
        if column not in header:
            raise ValueError(f"{path} has no column {column!r}; it has {', '.join(header)}")
        file.seek(0)
        try:
            found = np.loadtxt(file, comments="#", usecols=header.index(column), ndmin=1)
        except ValueError as error:
            raise ValueError(f"{path}: column {column!r} cannot be read ({error})") from error
    return found[::every]


def _shared(weights: Weights, lengths: Sequence[int], stride: int) -> list[Weights]:
    """One array for all trajectories in order."""
    if stride > 1:
        raise ValueError("weights of several trajectories read with a stride must be a list, one array for each")
    if len(weights) != sum(lengths):
        raise ValueError(_counts(len(weights), sum(lengths), "of all trajectories together"))
    return np.split(weights, np.cumsum(lengths)[:-1])


def _thinned(weights: Weights, n_frames: int, stride: int, trajectory: int) -> Weights:
    kept = weights[::stride]
    if len(kept) != n_frames:
        read = f"read of trajectory {trajectory}" + (f", every {stride}th of its frames" if stride > 1 else "")
        raise ValueError(_counts(len(weights), n_frames, read))
    return kept


def _counts(n_weights: int, n_frames: int, which: str) -> str:
    times = round(n_weights / n_frames) if n_frames else 0
    hint = "give one for each frame"
    if times > 1:
        hint = f"of a COLVAR file written {times} times as often, take 'FILE:COLUMN:{times}'"
    return f"{n_weights} weights do not belong to {n_frames} frames {which}; {hint}"
