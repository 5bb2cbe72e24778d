"""How near a frame comes back after encoding and decoding, beside PCA of the same size and no latent space at all."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mdvae.latent.encoding import encode_posed
from mdvae.latent.generation import decode_coordinates, restore_decoded
from mdvae.model import Model
from mdvae.validity import Validity, check

Coordinates = Float[np.ndarray, "n_frames n_atoms dim"]

# Coordinates that are decoded together.
_TOGETHER = 2**20
ASPECTS = ("lengths", "centers", "torsions", "contacts", "valid")


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction:
    """What came of encoding and decoding frames.

    Parameters
    ----------
    unit : str
        Of length: "nm" or "reduced".
    rmsd : (n_restored,)
        Between posed frame and restored reconstruction, over atoms; not superposed once more. Of evenly spaced frames,
        since restoring takes time.
    rmsd_raw : (n_frames,)
        The same for the decoder's own output.
    rmsd_pca : (n_frames,)
        The same for principal components, as many as latent dimensions, of the model's training frames.
    rmsd_mean : (n_frames,)
        The same for the mean of the training frames, which needs no latent coordinate.
    rmsd_per_atom : (n_atoms,)
        Of the restored reconstructions, root mean square over frames.
    moved : (n_restored,)
        Root mean square displacement of the atoms by restoring.
    thermal : float
        The same of the training frames from their mean structure.
    validity : dict
        For "frames", "decoded" and "restored" structures the share of those that are "valid", and of those with all
        "lengths", all "centers", all flat "torsions", and all "contacts" within the bounds of the training data.
    """

    unit: str
    rmsd: Float[np.ndarray, " n_restored"]
    rmsd_raw: Float[np.ndarray, " n_frames"]
    rmsd_pca: Float[np.ndarray, " n_frames"]
    rmsd_mean: Float[np.ndarray, " n_frames"]
    rmsd_per_atom: Float[np.ndarray, " n_atoms"]
    moved: Float[np.ndarray, " n_restored"]
    thermal: float
    validity: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists; lengths in `unit`."""
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in dataclasses.asdict(self).items()}
        return plain | {"rmsd_mean_of_frames": float(self.rmsd.mean())}


class Reconstructing:
    """Gathers a `Reconstruction` chunk by chunk.

    Parameters
    ----------
    model : Model
        Trained.
    """

    def __init__(self, model: Model) -> None:
        assert model.data is not None
        self._model, self._geometry = model, model.data.geometry
        self._project = principal_components(model.data.frames, model.latent_dim)
        self._mean = model.data.frames.mean(axis=0, dtype=np.float64)
        self._columns: dict[str, list[np.ndarray]] = {}
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, frames: Coordinates, z: Float[np.ndarray, "n_frames latent_dim"]) -> None:
        """Decode.

        Parameters
        ----------
        frames : (n_frames, n_atoms, dim), posed
        z : (n_frames, latent_dim)
        """
        self._waiting.append((frames, z))
        if sum(part.size for part, _ in self._waiting) > _TOGETHER:
            self._work()

    def _work(self) -> None:
        """Together, since every call is filled up to whole batches: runs may be many and short."""
        frames, z = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        columns = {"rmsd_raw": rmsd(decode_coordinates(self._model, z), frames)}
        columns |= {"rmsd_pca": rmsd(self._project(frames), frames), "rmsd_mean": rmsd(self._mean[None], frames)}
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def result(self, some: Coordinates) -> Reconstruction:
        """Of everything that was added; restored are the reconstructions of these.

        Parameters
        ----------
        some : (n_restored, n_atoms, dim), posed
        """
        if self._waiting:
            self._work()
        raw = decode_coordinates(self._model, encode_posed(self._model, some))
        restored, restoration = restore_decoded(self._model, raw)
        structures = {"frames": some, "decoded": raw, "restored": restored}
        shares = {name: _aspects(check(self._geometry, x)).mean(axis=0) for name, x in structures.items()}
        return Reconstruction(
            unit=self._model.system.unit,
            rmsd=rmsd(restored, some),
            rmsd_per_atom=np.sqrt(((restored - some) ** 2).sum(axis=2).mean(axis=0, dtype=np.float64)),
            moved=restoration.moved,
            thermal=self._geometry.thermal,
            validity={name: dict(zip(ASPECTS, map(float, row), strict=True)) for name, row in shares.items()},
            **{name: np.concatenate(parts) for name, parts in self._columns.items()},
        )


def _aspects(found: Validity) -> Bool[np.ndarray, "n_frames n_aspects"]:
    counts = (found.n_broken, found.n_wrong, found.n_twisted, found.n_overlaps)
    return np.stack([*(n == 0 for n in counts), found.valid], axis=1)


def rmsd(a: Float[np.ndarray, "_ n_atoms dim"], b: Coordinates) -> Float[np.ndarray, " n_frames"]:
    """Root mean square deviation of each frame from its partner, as they stand."""
    return np.sqrt(((a - b) ** 2).sum(axis=2).mean(axis=1))


def principal_components(frames: Coordinates, n_components: int) -> Callable[[np.ndarray], np.ndarray]:
    """Projection of frames on the leading principal components of these."""
    mean, axes = principal_directions(frames.reshape(len(frames), -1), n_components)
    return lambda x: ((x.reshape(len(x), -1) - mean) @ axes @ axes.T + mean).reshape(x.shape)


def principal_directions(
    flat: Float[np.ndarray, "n n_features"], n_components: int
) -> tuple[Float[np.ndarray, " n_features"], Float[np.ndarray, "n_features n_components"]]:
    """Mean of vectors and their leading principal axes, in float64.

    Parameters
    ----------
    flat : (n, n_features)
    n_components : int
        As many as there are if there are fewer.
    """
    flat = flat.astype(np.float64)
    mean = flat.mean(axis=0)
    # The smaller of the two products has the same components as the data, at the price of its cube only.
    if flat.shape[0] >= flat.shape[1]:
        return mean, np.linalg.eigh((flat - mean).T @ (flat - mean))[1][:, ::-1][:, :n_components]
    return mean, np.linalg.svd(flat - mean, full_matrices=False)[2][:n_components].T
