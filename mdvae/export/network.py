"""What an engine has to know of a trained encoder: layers of plain numbers, and what they are fed with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mdvae.alignment import PrincipalAxes
from mdvae.model import Model
from mdvae.networks import MLPEncoder
from mdvae.representations import AbstractRepresentation, Cartesian, Chosen, Internal

# In formulas of one variable, which both PLUMED and Colvars read with Lepton. JAX's gelu is the one with tanh.
FORMULAS = {
    "tanh": "tanh({0})",
    "silu": "{0}/(1+exp(-{0}))",
    "softplus": "log(1+exp({0}))",
    "gelu": "0.5*{0}*(1+tanh(0.7978845608028654*({0}+0.044715*{0}^3)))",
}
_NAMES = {jnp.tanh: "tanh", jax.nn.silu: "silu", jax.nn.softplus: "softplus", jax.nn.gelu: "gelu"}


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One dense layer.

    Parameters
    ----------
    weights : (n_out, n_in), float64
    biases : (n_out,), float64
    residual : bool
        Whether what it gives, after the activation, is added to its input.
    """

    weights: Float[np.ndarray, "n_out n_in"]
    biases: Float[np.ndarray, " n_out"]
    residual: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The way from features to the posterior mean.

    Parameters
    ----------
    hidden : tuple of Layer
        Each followed by the activation.
    last : Layer
        Followed by nothing.
    activation : str
        One of `FORMULAS`.
    """

    hidden: tuple[Layer, ...]
    last: Layer
    activation: str

    @property
    def plain(self) -> bool:
        """Whether no layer adds to the one before."""
        return not any(layer.residual for layer in self.hidden)


@dataclasses.dataclass(frozen=True, eq=False)
class Measures:
    """Features that do not depend on where a molecule stands, in the order in which networks see them.

    Parameters
    ----------
    distances : (n, 2)
    angles : (n, 3)
        The middle atom is the vertex.
    contacts : (n, 2)
    torsions : (n, 4)
        First all their cosines, then all their sines.
    contact_radius : float
        Of ``1 / (1 + (r / contact_radius)^6)``, in nm.
    """

    distances: Int[np.ndarray, "_ 2"]
    angles: Int[np.ndarray, "_ 3"]
    contacts: Int[np.ndarray, "_ 2"]
    torsions: Int[np.ndarray, "_ 4"]
    contact_radius: float = 1.0


def check_exportable(model: Model, engine: str) -> None:
    """Refuse what no file of numbers can say.

    Parameters
    ----------
    model : Model
    engine : str
        Its name, for the message.

    Raises
    ------
    ValueError
        With the reason, and what to do.
    """
    encoder, system = model.vae.encoder, model.system
    if system.dim != 3:
        raise ValueError(f"{engine} works in three dimensions, and this model's frames are in the plane")
    if system.unit == "reduced":
        raise ValueError(
            f"{engine} needs lengths in nm or Å, and this model is in reduced units; read the data with "
            "length_unit='nm' or 'angstrom' if that is what they are in"
        )
    if not isinstance(encoder, MLPEncoder):
        raise ValueError(
            f"the encoder is a {type(encoder).__name__}, whose layers {engine} cannot have; use MLPEncoder"
        )
    if encoder.activation not in _NAMES:
        raise ValueError(f"the activation is none of {', '.join(FORMULAS)}, and {engine} has no formula for it")
    if isinstance(model.representation, Cartesian) and isinstance(model.alignment, PrincipalAxes):
        raise ValueError(
            f"{engine} cannot turn a frame onto its own principal axes; train with alignment='superposition', or "
            "representation='internal', or use the coordinate in OpenMM"
        )
    if model.data is None:
        raise ValueError("a model without training frames cannot be checked after export; train it first")


def network(model: Model, offset: Float[np.ndarray, " n_features"] | float = 0.0) -> Network:
    """Layers of the encoder up to the mean, with the scaling of its features folded into the first.

    Parameters
    ----------
    model : Model
        That `check_exportable` lets pass.
    offset : (n_features,), optional
        What the engine's features have more than ours.

    Returns
    -------
    Network
    """
    encoder = model.vae.encoder
    assert isinstance(encoder, MLPEncoder)
    layers = [
        Layer(
            np.asarray(layer.weight, np.float64),
            np.asarray(layer.bias, np.float64),
            encoder.residual and 0 < i < len(encoder.layers) - 1 and layer.in_features == layer.out_features,
        )
        for i, layer in enumerate(encoder.layers)
    ]
    # Only the first outputs are the mean; the others say how wide the posterior is.
    last = layers.pop()
    layers.append(Layer(last.weights[: encoder.latent_dim], last.biases[: encoder.latent_dim]))
    shift, scale = (np.asarray(value, np.float64) for value in (encoder.shift, encoder.scale))
    first = layers[0]
    weights = first.weights / scale
    layers[0] = Layer(weights, first.biases - weights @ (shift + offset))
    *hidden, last = layers
    return Network(tuple(hidden), last, _NAMES[encoder.activation])


def measures(representation: AbstractRepresentation, engine: str) -> Measures:
    """Atoms of the features of a representation that does not keep the pose.

    Parameters
    ----------
    representation : AbstractRepresentation
    engine : str

    Raises
    ------
    ValueError
        For one that is not known.
    """
    if isinstance(representation, Internal):
        rows = np.asarray(representation.references, np.int64)
        return Measures(rows[1:, :2], rows[2:, :3], rows[:0, :2], rows[3:])
    if isinstance(representation, Chosen):
        pairs, contacts, torsions = (
            np.asarray(rows, np.int64)
            for rows in (representation.distances, representation.contacts, representation.torsions)
        )
        return Measures(pairs, np.zeros((0, 3), np.int64), contacts, torsions, representation.contact_radius)
    raise ValueError(f"{engine} has no counterpart of the representation {type(representation).__name__}")


def centering(layers: Network, weights: Float[np.ndarray, " n_atoms"]) -> Network:
    """Network of positions wherever they are, from one of centered positions: subtracting a center is linear.

    Parameters
    ----------
    layers : Network
    weights : (n_atoms,)
        Of the center.
    """
    shares = np.kron(weights / weights.sum(), np.eye(3))
    first, *others = [*layers.hidden, layers.last]
    onto = np.tile(np.eye(3), (len(weights), 1))
    *hidden, last = [Layer(first.weights - (first.weights @ onto) @ shares, first.biases), *others]
    return Network(tuple(hidden), last, layers.activation)
