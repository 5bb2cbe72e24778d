"""How near a frame comes back after encoding and decoding, beside PCA of the same size."""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mdvae._files import replacing
from mdvae.latent.encoding import encode_chunks
from mdvae.latent.generation import decode_coordinates, restore_decoded
from mdvae.model import Model
from mdvae.validity import Validity, check

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]

_ASPECTS = ("lengths", "centers", "torsions", "contacts", "valid")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of encoding and decoding every frame of a source.

    Parameters
    ----------
    unit : str
        Of length: "nm" or "reduced".
    latent_dim, n_training : int
    rmsd : (n_frames,)
        Between each posed frame and its restored reconstruction, over atoms; not superposed once more.
    rmsd_raw : (n_frames,)
        The same for the decoder's own output.
    rmsd_pca : (n_frames,)
        The same for principal components, as many as latent dimensions, of the model's training frames.
    rmsd_per_atom : (n_atoms,)
        Of the restored reconstructions, root mean square over frames.
    moved : (n_frames,)
        Root mean square displacement of the atoms by restoring.
    thermal : float
        The same of the training frames from their mean structure.
    validity : dict
        For "frames", "decoded" and "restored" structures the share of those that are "valid", and of those with all
        "lengths", all "centers", all flat "torsions", and all "contacts" within the bounds of the training data.
    """

    unit: str
    latent_dim: int
    n_training: int
    rmsd: Float[np.ndarray, " n_frames"]
    rmsd_raw: Float[np.ndarray, " n_frames"]
    rmsd_pca: Float[np.ndarray, " n_frames"]
    rmsd_per_atom: Float[np.ndarray, " n_atoms"]
    moved: Float[np.ndarray, " n_frames"]
    thermal: float
    validity: dict[str, dict[str, float]]

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
        factor, unit = (10.0, "Å") if self.unit == "nm" else (1.0, "reduced units")
        lines = [
            f"{len(self.rmsd)} frame{'s' * (len(self.rmsd) != 1)}, {self.latent_dim} latent dimensions",
            f"{'reconstruction RMSD (' + unit + ')':32s}{'mean':>9s}{'median':>9s}{'95 %':>9s}",
        ]
        rows = {"decoded and restored": self.rmsd, "decoded": self.rmsd_raw, "PCA of the same size": self.rmsd_pca}
        for name, values in (rows | {"moved by restoring": self.moved}).items():
            row = (values.mean(), np.median(values), np.quantile(values, 0.95))
            lines.append(f"  {name:30s}" + "".join(f"{factor * value:9.4f}" for value in row))
        lines.append(f"{'within the training data (%)':32s}" + "".join(f"{name:>9s}" for name in _ASPECTS))
        names = {"frames": "the frames themselves", "decoded": "decoded", "restored": "decoded and restored"}
        for key, name in names.items():
            shares = [100 * self.validity[key][aspect] for aspect in _ASPECTS]
            lines.append(f"  {name:30s}" + "".join(f"{share:9.1f}" for share in shares))
        far = int(np.sum(self.moved > self.thermal))
        lines.append(f"moved further than the data's thermal spread ({factor * self.thermal:.3g}): {far}")
        return "\n".join(lines)


def evaluate(model: Model, source: Any, **reading) -> Evaluation:
    """Encode, decode and restore every frame of a source, chunk by chunk.

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
    project = principal_components(model.data.frames, model.latent_dim)
    columns: dict[str, list[np.ndarray]] = {"rmsd": [], "rmsd_raw": [], "rmsd_pca": [], "moved": []}
    found: dict[str, list[np.ndarray]] = {"frames": [], "decoded": [], "restored": []}
    squares = np.zeros(model.system.n_atoms)
    for chunk, z in encode_chunks(model, source, **reading):
        raw = decode_coordinates(model, z)
        restored, restoration = restore_decoded(model, raw)
        columns["rmsd"].append(rmsd(restored, chunk.coordinates))
        columns["rmsd_raw"].append(rmsd(raw, chunk.coordinates))
        columns["rmsd_pca"].append(rmsd(project(chunk.coordinates), chunk.coordinates))
        columns["moved"].append(restoration.moved)
        squares += ((restored - chunk.coordinates) ** 2).sum(axis=(0, 2), dtype=np.float64)
        for name, frames in {"frames": chunk.coordinates, "decoded": raw, "restored": restored}.items():
            found[name].append(_aspects(check(model.data.geometry, frames)))
    together = {name: np.concatenate(parts) for name, parts in columns.items()}
    shares = {name: np.concatenate(parts).mean(axis=0) for name, parts in found.items()}
    return Evaluation(
        unit=model.system.unit,
        latent_dim=model.latent_dim,
        n_training=model.data.n_frames,
        rmsd_per_atom=np.sqrt(squares / len(together["rmsd"])),
        thermal=model.data.geometry.thermal,
        validity={name: dict(zip(_ASPECTS, map(float, row), strict=True)) for name, row in shares.items()},
        **together,
    )


def _aspects(found: Validity) -> Bool[np.ndarray, "n_frames n_aspects"]:
    counts = (found.n_broken, found.n_wrong, found.n_twisted, found.n_overlaps)
    return np.stack([*(n == 0 for n in counts), found.valid], axis=1)


def rmsd(a: Coordinates, b: Coordinates) -> Float[np.ndarray, " n_frames"]:
    """Root mean square deviation of each frame from its partner, as they stand."""
    return np.sqrt(((a - b) ** 2).sum(axis=2).mean(axis=1))


def principal_components(frames: Coordinates, n_components: int) -> Callable[[np.ndarray], np.ndarray]:
    """Projection of frames on the leading principal components of these."""
    flat = frames.reshape(len(frames), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    # The smaller of the two products has the same components as the data, at the price of its cube only.
    if flat.shape[0] >= flat.shape[1]:
        axes = np.linalg.eigh((flat - mean).T @ (flat - mean))[1][:, ::-1][:, :n_components]
    else:
        axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:n_components].T
    return lambda x: ((x.reshape(len(x), -1) - mean) @ axes @ axes.T + mean).reshape(x.shape)
