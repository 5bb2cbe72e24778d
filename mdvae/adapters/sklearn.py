"""Models as estimators of scikit-learn: of vectors, and of conformations.

Both fit, transform to latent points and back, and score by the log-likelihood of what they are given, so that pipelines
and grid searches work. A list of arrays stands for separate trajectories, and what comes out is a list then, too.
"""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

import mdvae
from mdvae._chunks import map_rows
from mdvae._keys import key_for
from mdvae.evaluation import log_likelihood
from mdvae.latent import decode, encode
from mdvae.saving import load, save
from mdvae.training import train_vae
from mdvae.vae import build_vae
from mdvae.vae import log_likelihood as log_likelihood_of_vectors

__all__ = ["TrajectoryVAE", "VectorVAE"]

# Latent points that the log-likelihood of each example is estimated with.
_N_SAMPLES = 20


class VectorVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Variational auto-encoder of plain vectors.

    What precedes it in a pipeline may scale, but need not: the networks start from the means and standard deviations of
    the data.

    Parameters
    ----------
    latent_dim : int
    beta : float
        Weight of the KL divergence.
    hidden : sequence of int
        Widths of the encoder's hidden layers.
    activation : {"silu", "tanh", "softplus", "gelu"}
    epochs, batch_size : int, optional
        Chosen by the number of samples if left out.
    learning_rate : float
    validation_fraction : float
        Share of samples that training holds out, in blocks: rows that follow one another may be alike.
    random_state : int, RandomState or None

    Attributes
    ----------
    vae_ : mdvae.vae.VAE
    history_ : mdvae.History
    n_features_in_ : int
    feature_names_in_ : array of str
        Where samples came with names.
    """

    # Scikit-learn wants constructors to take anything, and to look at it in `fit`.
    def __init__(
        self,
        latent_dim: Any = 2,
        *,
        beta: Any = 1.0,
        hidden: Any = (128, 128, 128),
        activation: Any = "silu",
        epochs: Any = None,
        batch_size: Any = None,
        learning_rate: Any = 1e-3,
        validation_fraction: Any = 0.1,
        random_state: Any = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.beta = beta
        self.hidden = hidden
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "VectorVAE":
        """Train on samples (n_samples, n_features), or on a list of such arrays, one a trajectory; y is not used."""
        lengths = [len(x) for x in X] if _is_list(X) else None
        given: Any = np.concatenate(X) if lengths else X
        x: Any = validate_data(self, given, dtype=np.float64, ensure_min_samples=2)
        seed = _seed(self.random_state)
        shape = {"latent_dim": self.latent_dim, "hidden": self.hidden, "activation": self.activation}
        vae = build_vae(x, **shape, key=key_for("build", seed))
        trained = train_vae(
            vae,
            x,
            lengths=lengths,
            seed=seed,
            progress=False,
            beta=self.beta,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            validation_fraction=self.validation_fraction,
        )
        self.vae_, self.history_, self._seed, self._shape = trained.vae, trained.history, seed, shape
        return self

    def transform(self, X: Any) -> Any:
        """Latent points (n_samples, latent_dim), float32: posterior means; of a list a list."""
        check_is_fitted(self)
        return _each(X, lambda x: map_rows(self.vae_.encode, self._checked(x)))

    def inverse_transform(self, X: Any) -> Any:
        """Means of what is decoded of latent points (n_samples, latent_dim); of a list a list."""
        check_is_fitted(self)

        def decoded(z: Any) -> np.ndarray:
            z = check_array(z, dtype="float32")
            if z.shape[1] != self._n_features_out:
                raise ValueError(f"X has {z.shape[1]} columns, expected {self._n_features_out} latent coordinates")
            return map_rows(self.vae_.decode, z)

        return _each(X, decoded)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of samples, nats, by importance sampling: the higher the better; y is not used."""
        check_is_fitted(self)
        x = self._checked(np.concatenate(X) if _is_list(X) else X)
        found = log_likelihood_of_vectors(self.vae_, x, _N_SAMPLES, key=key_for("score", self._seed))
        return float(found.estimate.mean())

    def _checked(self, x: Any) -> Any:
        return validate_data(self, x, dtype="float32", reset=False)

    @property
    def _n_features_out(self) -> int:
        return int(self._shape["latent_dim"])

    def __getstate__(self) -> dict[str, Any]:
        given: Any = super().__getstate__()
        state = dict(given)
        if "vae_" in state:
            # Activations are JAX's compiled functions, which cannot be pickled: numbers only.
            eqx.tree_serialise_leaves(file := io.BytesIO(), state["vae_"])
            state["vae_"] = file.getvalue()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "vae_" in state:
            like = build_vae(np.zeros((1, state["n_features_in_"])), **self._shape, key=key_for("build", 0))
            self.vae_ = eqx.tree_deserialise_leaves(io.BytesIO(state["vae_"]), like)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Networks compute in single precision, whatever they are given.
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class TrajectoryVAE(TransformerMixin, BaseEstimator):
    """Variational auto-encoder of conformations: `mdvae.fit` as an estimator.

    Samples are frames: an array (n_frames, n_atoms, 2 or 3), or anything else that `mdvae.fit` takes. Scikit-learn can
    only divide arrays into training and held-out frames; its default folds are blocks of time, as they should be.

    Parameters
    ----------
    latent_dim, beta, epochs, hidden, alignment, representation, select, top, length_unit
        See `mdvae.fit`.
    options : dict, optional
        Further arguments of `mdvae.fit`.
    random_state : int, RandomState or None

    Attributes
    ----------
    model_ : mdvae.Model
        For everything else that `mdvae` does.
    """

    def __init__(
        self,
        latent_dim: Any = 2,
        *,
        beta: Any = 1.0,
        epochs: Any = None,
        hidden: Any = (256,) * 6,
        alignment: Any = "superposition",
        representation: Any = "cartesian",
        select: Any = None,
        top: Any = None,
        length_unit: Any = None,
        options: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.beta = beta
        self.epochs = epochs
        self.hidden = hidden
        self.alignment = alignment
        self.representation = representation
        self.select = select
        self.top = top
        self.length_unit = length_unit
        self.options = options
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "TrajectoryVAE":
        """Train on frames; members of a list are separate trajectories; y is not used."""
        named = {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}
        self._seed = _seed(self.random_state)
        self.model_ = mdvae.fit(X, **named, **(self.options or {}), seed=self._seed, progress=False)
        return self

    def transform(self, X: Any) -> Any:
        """Latent points (n_frames, latent_dim), posterior means; of a list a list."""
        check_is_fitted(self)
        if isinstance(X, list | tuple):
            return [encode(self.model_, x) for x in X]
        return encode(self.model_, X)

    def inverse_transform(self, X: Any) -> Any:
        """Restored structures of latent points, (n_frames, n_atoms, dim), in nm or reduced units; of a list a list."""
        check_is_fitted(self)
        dim = self.model_.system.dim
        return _each(X, lambda z: np.asarray(decode(self.model_, np.asarray(z)).xyz)[..., :dim])

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of frames, nats, by importance sampling: the higher the better; y is not used.

        It is the density of the features, so that models of the same features can be compared, and no others.
        """
        check_is_fitted(self)
        return float(log_likelihood(self.model_, X, _N_SAMPLES, seed=self._seed).estimate.mean())

    def __getstate__(self) -> dict[str, Any]:
        given: Any = super().__getstate__()
        state = dict(given)
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                save(state["model_"], Path(folder) / "model.mdvae")
                state["model_"] = (Path(folder) / "model.mdvae").read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "model.mdvae").write_bytes(state["model_"])
                self.model_ = load(Path(folder) / "model.mdvae")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the latent coordinates, trajectoryvae0, trajectoryvae1, ..."""
        check_is_fitted(self)
        return np.array([f"trajectoryvae{i}" for i in range(self.model_.latent_dim)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


_OWN = ("options", "random_state")


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _is_list(X: Any) -> bool:
    """Whether these are trajectories, and not one array written as a list."""
    return isinstance(X, list | tuple) and len(X) > 0 and all(np.ndim(x) == 2 for x in X)


def _each(X: Any, function: Callable) -> Any:
    return [function(x) for x in X] if _is_list(X) else function(X)
