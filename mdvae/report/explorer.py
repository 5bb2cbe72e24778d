"""The latent explorer of a report: an HTML fragment that decodes latent points by itself, in the reader's browser.

Weights, frames and names go into the page; `explorer.js` does there what `latent.decode_coordinates` does here, and
draws it. It knows the networks, likelihoods, representations and alignments of this package and no others.
"""

import base64
import json
from importlib import resources
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from mdvae.alignment import PrincipalAxes, Superposition, Unaligned
from mdvae.local_geometry import LocalGeometry
from mdvae.model import Model, TrainingData
from mdvae.networks import MLPDecoder
from mdvae.report.page import inline
from mdvae.representations import Cartesian, Internal
from mdvae.trajectory import System
from mdvae.vae import Gaussian, GaussianVonMises, LowRankGaussian, SquaredError

Points = Float[np.ndarray, "n_frames latent_dim"]
Numbers = Int[np.ndarray, " n_frames"]

# Frames that a page shows: points enough for a plane, and some 100 kB.
_MOST_FRAMES = 4000
_ACTIVATIONS = {"silu": jax.nn.silu, "tanh": jnp.tanh, "softplus": jax.nn.softplus, "gelu": jax.nn.gelu}
_ALIGNMENTS = {"superposition": Superposition, "principal": PrincipalAxes, "none": Unaligned}
# Their mean is what the decoder gives, or has the same angles.
_LIKELIHOODS = (Gaussian, LowRankGaussian, SquaredError, GaussianVonMises)
# The box of the drawing is larger than any training frame, so that most of what lies outside of the data is in it, too.
_ROOM = 1.5
# As many of 100 frames fit into the view.
_SEEN = 98
# A point is in a crowd where this share of all points is near it. A walk leads farther away than so many of 100 points.
_CROWD, _FAR = 0.02, 80


def explorer(model: Model, z: ArrayLike, *, trajectory: ArrayLike | None = None) -> str:
    """Latent plane and, beside it, the structure under the pointer; an HTML fragment for one place in a `page`.

    Parameters
    ----------
    model : Model
        Trained.
    z : (n_frames, latent_dim)
        Latent points of the frames to show; of more than 4000 evenly spaced ones are shown.
    trajectory : (n_frames,), int, optional
        Which trajectory each frame is from.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For a model that cannot be explored (see `explorable`), for points of another shape, or none, or not finite.
    """
    if reason := explorable(model):
        raise ValueError(f"the model cannot be explored in a page: {reason}")
    assert model.data is not None
    content = {
        "latentDim": model.latent_dim,
        "dim": model.system.dim,
        "nAtoms": model.system.n_atoms,
        "unit": "nm" if model.system.unit == "nm" else "",
        "decoder": _decoder(model),
        "references": _references(model),
        "alignment": _alignment(model),
        "molecule": _molecule(model.system),
        "bonds": _bonds(model.data.geometry),
        "view": _view(model.data),
        "frames": _frames(_checked(model, z), trajectory),
    }
    # Nothing in it may look like a tag.
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return "\n".join(
        [
            f"<style>\n{_file('explorer.css')}</style>",
            _file("explorer.html"),
            f'<script type="application/json" id="mdvae-explorer-data">{text}</script>',
            f"<script>\n{inline(_file('explorer.js'))}</script>",
        ]
    )


def explorable(model: Model) -> str | None:
    """Why a model cannot be explored in a page, in a few words; None where it can.

    Parameters
    ----------
    model : Model
    """
    if model.data is None:
        return "it is not trained, so that nothing is known about its bonds; train it first"
    decoder, vae = model.vae.decoder, model.vae
    if not isinstance(decoder, MLPDecoder):
        return f"its decoder is a {type(decoder).__name__}; expected an MLPDecoder"
    if _activation(decoder) is None:
        return f"its activation is not known; expected one of {', '.join(_ACTIVATIONS)}"
    if any(type(layer) is not eqx.nn.Linear or layer.bias is None for layer in decoder.layers):
        return "its decoder has layers of another kind; expected eqx.nn.Linear with a bias"
    if type(vae.likelihood) not in _LIKELIHOODS:
        return f"its likelihood is a {type(vae.likelihood).__name__}; expected a Gaussian or a squared error"
    return _unknown_coordinates(model)


def _unknown_coordinates(model: Model) -> str | None:
    representation, likelihood = model.representation, model.vae.likelihood
    if not representation.invertible:
        return "it only encodes: its features have no way back to positions"
    if not isinstance(representation, Cartesian | Internal):
        return f"its representation is a {type(representation).__name__}; expected Cartesian or Internal"
    if isinstance(likelihood, GaussianVonMises) and len(likelihood.linear.scale) != representation.n_linear:
        return "its likelihood takes other features for angles than its representation"
    if type(model.alignment) not in _ALIGNMENTS.values():
        return f"its alignment is a {type(model.alignment).__name__}; expected one of {', '.join(_ALIGNMENTS)}"
    return None


def _activation(decoder: MLPDecoder) -> str | None:
    return next((name for name, function in _ACTIVATIONS.items() if function is decoder.activation), None)


def _checked(model: Model, z: ArrayLike) -> Points:
    points = np.asarray(z, np.float32)
    if points.ndim != 2 or points.shape[1] != model.latent_dim or not len(points):
        raise ValueError(f"expected latent points of shape (n_frames, {model.latent_dim}), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("latent points must be finite numbers; some are NaN or infinite")
    return points


def _decoder(model: Model) -> dict[str, Any]:
    decoder = model.vae.decoder
    assert isinstance(decoder, MLPDecoder)
    return {
        "activation": _activation(decoder),
        "residual": decoder.residual,
        "layers": [_layer(layer) for layer in decoder.layers],
        "shift": _packed(decoder.shift),
        "scale": _packed(np.broadcast_to(decoder.scale, np.shape(decoder.shift))),
    }


def _layer(layer: eqx.nn.Linear) -> dict[str, str]:
    assert layer.bias is not None
    return {"weight": _packed(layer.weight), "bias": _packed(layer.bias)}


def _references(model: Model) -> list[list[int]] | None:
    """What each atom is placed against; None where features are positions."""
    representation = model.representation
    return np.asarray(representation.references).tolist() if isinstance(representation, Internal) else None


def _alignment(model: Model) -> dict[str, Any]:
    alignment = model.alignment
    turned = isinstance(alignment, Superposition | PrincipalAxes)
    return {
        "kind": next(name for name, kind in _ALIGNMENTS.items() if type(alignment) is kind),
        "weights": _packed(alignment.weights),
        "reference": _packed(alignment.reference) if turned else None,
    }


def _molecule(system: System) -> dict[str, Any]:
    """Names of chains, residues and atoms; with the number of the chain and of the residue that they are in."""
    chains, residues, atoms = (list(getattr(system.topology, of)) for of in ("chains", "residues", "atoms"))
    return {
        "chains": [getattr(chain, "chain_id", None) or "" for chain in chains],
        "residues": [[residue.name, residue.resSeq, residue.chain.index] for residue in residues],
        "atoms": [
            [atom.name, "" if atom.element is None else atom.element.symbol, atom.residue.index] for atom in atoms
        ],
    }


def _bonds(geometry: LocalGeometry) -> dict[str, Any]:
    bonded, lengths = geometry.separation == 1, geometry.lengths
    numbers = ("mean", "spread", "smallest", "largest")
    return {
        "pairs": geometry.pairs[bonded].tolist(),
        "held": lengths.held[bonded].tolist(),
        **{name: _packed(getattr(lengths, name)[bonded]) for name in numbers},
    }


def _view(data: TrainingData) -> dict[str, float]:
    """How far the box of the drawing reaches from the origin, and how far the view."""
    reach = np.sqrt((data.frames.astype(np.float64) ** 2).sum(axis=2)).max(axis=1)
    return {"box": _ROOM * float(reach.max()), "radius": float(np.percentile(reach, _SEEN))}


def _frames(z: Points, trajectory: ArrayLike | None) -> dict[str, Any]:
    """Frames to show: numbers and points; of which trajectory they are, and which of its frames."""
    rows = np.unique(np.linspace(0, len(z) - 1, min(len(z), _MOST_FRAMES)).astype(int))
    found = {"total": len(z), "numbers": rows.tolist(), "z": _packed(z[rows]), "ends": _ends(z[rows]).tolist()}
    if trajectory is None:
        return found
    of_frames = np.asarray(trajectory)
    if of_frames.shape != (len(z),) or not np.issubdtype(of_frames.dtype, np.integer):
        raise ValueError(
            f"expected the trajectory of each of the {len(z)} frames as a whole number, "
            f"got {of_frames.dtype} of shape {of_frames.shape}"
        )
    return found | {"trajectory": of_frames[rows].tolist(), "within": _within(of_frames)[rows].tolist()}


def _within(trajectory: Numbers) -> Numbers:
    """Which frame of its own trajectory each one is."""
    count = np.zeros(len(trajectory), int)
    for one in np.unique(trajectory):
        mine = trajectory == one
        count[mine] = np.arange(mine.sum())
    return count


def _ends(z: Points) -> Float[np.ndarray, "2 latent_dim"]:
    """Points worth a walk: where frames crowd most, and where they do so among those that are far away."""
    spread = z.std(axis=0)
    scaled = z / np.where(spread > 0, spread, 1)
    n_near = min(len(z), 1 + max(1, round(_CROWD * len(z))))
    reach = np.asarray(KDTree(scaled).query(scaled, k=n_near)[0]).reshape(len(z), -1)[:, -1]
    first = int(np.argmin(reach))
    away = np.linalg.norm(scaled - scaled[first], axis=1)
    second = int(np.argmin(np.where(away >= np.percentile(away, _FAR), reach, np.inf)))
    return z[[first, second]].astype(np.float64)


def _packed(array: ArrayLike) -> str:
    """Numbers as text: base64 of little-endian float32."""
    return base64.b64encode(np.asarray(array, "<f4").tobytes()).decode("ascii")


def _file(name: str) -> str:
    return resources.files("mdvae.report").joinpath(name).read_text("utf-8")
