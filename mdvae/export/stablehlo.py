"""The collective variable as a compiled program in a file, which JAX runs without mdvae."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from mdvae._files import replacing
from mdvae._types import Frame, Latent
from mdvae.export.checking import Exported
from mdvae.latent import collective_variable
from mdvae.latent.agreement import check_agreement, moved_frames
from mdvae.model import Model

# What JAX can compile for.
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# Rounding of float32 grows along the layers; of float64 nothing is left.
_TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def export_portable(model: Model, path: str | os.PathLike, *, double: bool = False) -> Exported:
    """Write the collective variable of a model to a file that JAX runs, and differentiates, without mdvae.

    The file holds what `jax.export` makes of it: a StableHLO program with the weights as its constants, for CPU and
    for accelerators, without calls of other libraries. It is a function of one frame (n_atoms, dim) in nm, whole,
    wherever it stands, of the atoms of the model's selection in their order; it gives z (latent_dim,). It can be
    differentiated once. JAX promises to read it for half a year; keep the model file as well.

    Parameters
    ----------
    model : Model
        Trained.
    path : path
        Replaced only once the file is whole and was checked.
    double : bool
        Take and give float64, which programs must then have enabled (``jax.enable_x64``); else float32.

    Returns
    -------
    Exported

    Raises
    ------
    ValueError
        If the program that was written gives other values or derivatives than the model on training frames that were
        moved and turned, and for a model that keeps none.
    OSError
        If the file cannot be written.

    Notes
    -----
    Needs flatbuffers (``pip install "mdvae[export]"``).

    Examples
    --------
    >>> mdvae.export.export_portable(model, "cv.jax")  # doctest: +SKIP

    Elsewhere, where there is JAX but no mdvae:

    >>> import jax, pathlib  # doctest: +SKIP
    >>> cv = jax.export.deserialize(bytearray(pathlib.Path("cv.jax").read_bytes())).call  # doctest: +SKIP
    >>> z, gradient = cv(frame), jax.grad(lambda frame: cv(frame)[0])(frame)  # doctest: +SKIP

    It knows no `jax.vmap`, and so no `jax.jacobian`; `jax.lax.map` takes it over many frames.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(serialized(model, double=double))
        errors = _check(model, temporary, double)
    return Exported((Path(path),), len(moved_frames(model)), *errors)


def serialized(model: Model, *, double: bool) -> bytes:
    """The collective variable as `export_portable` writes it.

    Parameters
    ----------
    model : Model
    double : bool
    """
    cv, dim = collective_variable(model), model.system.dim
    dtype = np.float64 if double else np.float32
    with jax.enable_x64(double):
        shape = jax.ShapeDtypeStruct((cv.n_atoms, dim), dtype)
        return bytes(export.export(jax.jit(cv), platforms=_PLATFORMS)(shape).serialize(vjp_order=1))


def _check(model: Model, path: Path, double: bool) -> tuple[float, float]:
    """Run the file as its users will."""
    dtype = np.dtype(np.float64 if double else np.float32)
    with jax.enable_x64(double):
        program = export.deserialize(bytearray(path.read_bytes()))
        both = jax.jit(partial(_value_and_jacobian, program.call))
        return check_agreement(
            model, lambda frame: both(frame.astype(dtype)), name=path.name, tolerance=_TOLERANCE[dtype.name]
        )


def _value_and_jacobian(call: Callable[[Frame], Latent], frame: Frame) -> tuple[Latent, Array]:
    """Row by row, since a program that was read back knows no `jax.vmap`."""
    z, pull_back = jax.vjp(call, frame)
    return z, jnp.stack([pull_back(row)[0] for row in jnp.eye(len(z), dtype=z.dtype)])
