"""How near a frame comes back after encoding and decoding, beside PCA of the same size."""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from mdvae._files import replacing
from mdvae.latent.encoding import encode_chunks
from mdvae.latent.generation import decode_coordinates
from mdvae.model import Model
from mdvae.validity import check


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of encoding and decoding every frame of a source.

    Parameters
    ----------
    unit : str
        Of length: "nm" or "reduced".
    latent_dim, n_training : int
    rmsd : (n_frames,)
        Between each posed frame and its reconstruction, over atoms; not superposed once more.
    rmsd_pca : (n_frames,)
        The same for principal components, as many as latent dimensions, of the model's training frames.
    rmsd_per_atom : (n_atoms,)
        Root mean square over frames.
    share_valid : float
        Of reconstructions: bonds within the range of the training data and no overlaps.
    share_valid_source : float
        Of the frames themselves, by the same check.
    """

    unit: str
    latent_dim: int
    n_training: int
    rmsd: Float[np.ndarray, " n_frames"]
    rmsd_pca: Float[np.ndarray, " n_frames"]
    rmsd_per_atom: Float[np.ndarray, " n_atoms"]
    share_valid: float
    share_valid_source: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, then lists; lengths in `unit`. Ready for JSON."""
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in dataclasses.asdict(self).items()}
        summary = {"n_frames": len(self.rmsd), "rmsd_mean": float(self.rmsd.mean())}
        summary |= {name: value for name, value in plain.items() if not isinstance(value, list)}
        return summary | {name: value for name, value in plain.items() if isinstance(value, list)}

    def save(self, path: str | os.PathLike) -> None:
        """Write `to_dict` as JSON."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict()))

    def __str__(self) -> str:
        angstrom = self.unit == "nm"
        factor, unit = (10.0, "Å") if angstrom else (1.0, "reduced units")
        lines = [
            f"{len(self.rmsd)} frames, {self.latent_dim} latent dimensions",
            f"{'reconstruction RMSD (' + unit + ')':32s}{'mean':>9s}{'median':>9s}{'95 %':>9s}",
        ]
        for name, values in (("this model", self.rmsd), ("PCA of the same size", self.rmsd_pca)):
            row = (values.mean(), np.median(values), np.quantile(values, 0.95))
            lines.append(f"  {name:30s}" + "".join(f"{factor * value:9.4f}" for value in row))
        lines.append(
            f"structures that `minimize` would accept: {100 * self.share_valid:.1f} % of the reconstructions, "
            f"{100 * self.share_valid_source:.1f} % of the frames themselves"
        )
        return "\n".join(lines)


def evaluate(model: Model, source: Any, **reading) -> Evaluation:
    """Encode and decode every frame of a source, chunk by chunk.

    Parameters
    ----------
    model : Model
        Trained.
    source : path, mdtraj.Trajectory, array (n_frames, n_atoms, dim), or a list of any of these
        Best frames that the model was not trained on.
    **reading
        ``top``, ``stride``, ``chunk``, ``length_unit``, ``periodic``: see `read`.

    Returns
    -------
    Evaluation
        Prints as a table.

    Raises
    ------
    ValueError, OSError
        For an untrained model, and for a source that cannot be read or is another molecule.
    """
    if model.data is None:
        raise ValueError("this model has not been trained")
    project = _pca(model.data.frames, model.latent_dim)
    rmsd, rmsd_pca, squares, valid, valid_source = [], [], 0.0, [], []
    for chunk, z in encode_chunks(model, source, **reading):
        again = decode_coordinates(model, z)
        deviation = ((again - chunk.coordinates) ** 2).sum(axis=2)
        rmsd.append(np.sqrt(deviation.mean(axis=1)))
        rmsd_pca.append(_rmsd(project(chunk.coordinates), chunk.coordinates))
        squares = squares + deviation.sum(axis=0, dtype=np.float64)
        valid.append(check(model.data.geometry, again).valid)
        valid_source.append(check(model.data.geometry, chunk.coordinates).valid)
    n_frames = sum(map(len, rmsd))
    return Evaluation(
        unit=model.system.unit,
        latent_dim=model.latent_dim,
        n_training=model.data.n_frames,
        rmsd=np.concatenate(rmsd),
        rmsd_pca=np.concatenate(rmsd_pca),
        rmsd_per_atom=np.sqrt(squares / n_frames),
        share_valid=float(np.concatenate(valid).mean()),
        share_valid_source=float(np.concatenate(valid_source).mean()),
    )


def _rmsd(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " n_frames"]:
    return np.sqrt(((a - b) ** 2).sum(axis=2).mean(axis=1))


def _pca(frames: Float[np.ndarray, "n_frames n_atoms dim"], n_components: int) -> Callable[[np.ndarray], np.ndarray]:
    """Projection of frames on the leading principal components of these."""
    flat = frames.reshape(len(frames), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    # The smaller of the two products has the same components as the data, at the price of its cube only.
    if flat.shape[0] >= flat.shape[1]:
        axes = np.linalg.eigh((flat - mean).T @ (flat - mean))[1][:, ::-1][:, :n_components]
    else:
        axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:n_components].T
    return lambda x: ((x.reshape(len(x), -1) - mean) @ axes @ axes.T + mean).reshape(x.shape)
