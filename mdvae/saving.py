"""One file a model: its description as JSON, then its arrays; data, never code.

The container is the safetensors format. Its metadata hold one JSON document with the format's version, the spec,
the system (topology, masses, unit of length), training settings and history, and a SHA-256 over the document and
every array. Nothing in it is executed at load.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mdvae._files import replacing
from mdvae.history import History
from mdvae.local_geometry import LocalGeometry, fit_local_geometry
from mdvae.model import Model, TrainingData, assemble
from mdvae.spec import Spec
from mdvae.trajectory import System
from mdvae.vae import Diagnostics

# Raised when files of older programs would be misread; newer files are refused by older programs.
# 2: statistics of the local geometry instead of bare ranges. 3: flat torsions and usual contacts among them. 4: learned
# priors, posteriors of any covariance, diagnostics. 5: weights of the kept frames; files without any are still 4.
FORMAT_VERSION = 5
_LIBRARIES = ("mdvae", "jax", "equinox", "numpy", "mdtraj")


def save(model: Model, path: str | os.PathLike) -> None:
    """Write a model to one file, atomically.

    Parameters
    ----------
    model : Model
    path : path
        Usually ending in ``.mdvae``. What stood there before is replaced only once the new file is whole.

    Raises
    ------
    OSError
        If the file cannot be written; nothing half-written is left.
    """
    arrays = _arrays(model)
    document = json.dumps(_document(model))
    metadata = {"mdvae": document, "sha256": _digest(document, arrays)}
    with replacing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata))


def load(path: str | os.PathLike, *, like: Model | None = None) -> Model:
    """Read a model.

    Parameters
    ----------
    path : path
    like : Model, optional
        A model of the same structure; needed only for one that was composed by hand and so has no spec. Arrays come
        from the file, everything else, such as activations, from it.

    Returns
    -------
    Model

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If there is no such file to read.
    ValueError
        If it is not an mdvae model, is cut short or altered, or was written by a newer version.
    """
    path = Path(path)
    document, arrays = _read(path)
    system = System.from_dict(document["system"])
    if like is not None:
        _check_like(document, like, path)
        skeleton = dataclasses.replace(like, system=system)
    elif document["spec"] is not None:
        skeleton = assemble(Spec.from_dict(document["spec"]), system, jax.random.key(0))
    else:
        raise ValueError(
            f"{path} holds a model that was composed by hand; load it with like=, a model of its structure"
        )
    parts = _fill(skeleton, {k: v for k, v in arrays.items() if k.startswith("model.")}, path)
    history, diagnostics = document["history"], document.get("diagnostics")
    return dataclasses.replace(
        skeleton,
        **parts,
        data=_training_data(document, arrays, system),
        history=None if history is None else History.from_dict(history),
        diagnostics=None if diagnostics is None else Diagnostics.from_dict(diagnostics),
        settings=document["settings"],
    )


def _check_like(document: dict[str, Any], like: Model, path: Path) -> None:
    """Refuse a pattern that the file contradicts."""
    if document["spec"] is not None and like.spec is not None and Spec.from_dict(document["spec"]) != like.spec:
        raise ValueError(f"{path} holds a model of another spec than like=; leave like= out, the file describes itself")


def _modules(model: Model) -> dict[str, eqx.Module]:
    return {"alignment": model.alignment, "representation": model.representation, "vae": model.vae}


def _leaves(model: Model) -> dict[str, Any]:
    """Arrays of the model's modules, by their place in it."""
    flat, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(_modules(model), eqx.is_array))
    return {"model." + jax.tree_util.keystr(where, simple=True, separator="."): leaf for where, leaf in flat}


def _arrays(model: Model) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(leaf) for name, leaf in _leaves(model).items()}
    if model.data is not None:
        arrays["data.frames"] = model.data.frames
        if model.data.weights is not None:
            arrays["data.weights"] = model.data.weights
        arrays |= {f"data.geometry.{k}": np.asarray(v) for k, v in model.data.geometry.to_dict().items()}
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _document(model: Model) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION if model.data is not None and model.data.weights is not None else 4,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "spec": None if model.spec is None else model.spec.to_dict(),
        "system": model.system.to_dict(),
        "length_unit": model.system.unit,
        "n_frames": None if model.data is None else model.data.n_frames,
        "settings": model.settings,
        "history": None if model.history is None else model.history.to_dict(),
        "diagnostics": None if model.diagnostics is None else model.diagnostics.to_dict(),
    }


def _training_data(document: dict, arrays: dict[str, np.ndarray], system: System) -> TrainingData | None:
    if document["n_frames"] is None:
        return None
    frames, prefix = arrays["data.frames"], "data.geometry."
    statistics = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    if document["format"] < 3:
        # Not all of today's statistics were kept; the frames that were kept as well have what is missing. The links are
        # those that stood for bonds then.
        fitted = fit_local_geometry(frames, system.links, system.masses).to_dict()
        statistics = fitted | (statistics if document["format"] == 2 else {})
    geometry = LocalGeometry.from_dict(statistics)
    return TrainingData(frames, document["n_frames"], geometry, arrays.get("data.weights"))


def _fill(skeleton: Model, arrays: dict[str, np.ndarray], path: Path) -> dict[str, eqx.Module]:
    """Modules of the skeleton with the arrays of the file in their places."""
    expected = _leaves(skeleton)
    for name, leaf in expected.items():
        if name not in arrays or arrays[name].shape != leaf.shape:
            found = arrays[name].shape if name in arrays else "nothing"
            raise ValueError(f"{path} does not fit its description: at {name} expected {leaf.shape}, found {found}")
    if extra := sorted(set(arrays) - set(expected)):
        raise ValueError(f"{path} does not fit its description: it also holds {', '.join(extra)}")
    dynamic, static = eqx.partition(_modules(skeleton), eqx.is_array)
    _, structure = jax.tree.flatten(dynamic)
    filled = jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in expected])
    return eqx.combine(filled, static)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; expected a model file, such as run.mdvae")
    if not path.exists():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            # A newer format may hold what this program cannot even read: ask for the version first.
            document = _check_version(metadata, path)
            arrays = {name: file.get_tensor(name) for name in names}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not an mdvae model, or is cut short or damaged ({error})") from error
    if metadata.get("sha256") != _digest(metadata["mdvae"], arrays):
        raise ValueError(f"{path} was altered or damaged: its checksum does not fit; use a copy, or train again")
    return document, arrays


def _check_version(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    if "mdvae" not in metadata:
        raise ValueError(f"{path} is not an mdvae model: it is a safetensors file of another program")
    try:
        document = json.loads(metadata["mdvae"])
        version = int(document["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} was altered or damaged: its description cannot be read") from error
    if version > FORMAT_VERSION:
        written_by = document.get("versions", {}).get("mdvae", "a newer version")
        raise ValueError(
            f"{path} was written by mdvae {written_by} in format {version}; this version reads up to "
            f"{FORMAT_VERSION}. Update mdvae"
        )
    return document


def _digest(document: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
