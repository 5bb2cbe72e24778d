"""Posed frames in a folder, so that they are read and posed once."""

import dataclasses
import hashlib
import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mdvae._files import replacing
from mdvae.alignment import ALIGNMENTS, alignment_name
from mdvae.trajectory.frames import Frames, Report
from mdvae.trajectory.system import System

# Raised when files of older programs would be misread.
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Cache:
    """Posed frames in a folder, to be found again.

    Parameters
    ----------
    folder : Path
        Made if need be.
    fingerprint : str
        Of all that the frames depend on.
    """

    folder: Path
    fingerprint: str
    _mark: str = dataclasses.field(default_factory=lambda: secrets.token_hex(4))

    @property
    def draft_path(self) -> Path:
        """Where coordinates are written: others may write the same at the same time, or have it mapped."""
        return self.folder / f".{self.fingerprint}-{self._mark}.frames"

    def discard(self) -> None:
        """Leave nothing half-written."""
        self.draft_path.unlink(missing_ok=True)

    @property
    def frames_path(self) -> Path:
        """Coordinates: bare numbers, float32."""
        return self.folder / f"{self.fingerprint}.frames"

    @property
    def record_path(self) -> Path:
        """Everything else; written last, so that frames without it are not whole."""
        return self.folder / f"{self.fingerprint}.safetensors"

    def load(self) -> Frames | None:
        """Frames, mapped; None where there are none, or not all of them."""
        try:
            with safetensors.safe_open(self.record_path, framework="numpy") as file:
                record = json.loads(file.metadata()["mdvae"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
            lengths, system = tuple(record["lengths"]), System.from_dict(record["system"])
            shape = (sum(lengths), system.n_atoms, system.dim)
            if self.frames_path.stat().st_size != 4 * math.prod(shape):
                return None
            coordinates = np.memmap(self.frames_path, np.float32, "r", shape=shape)
            pose = {name[5:]: jnp.asarray(array) for name, array in arrays.items() if name.startswith("pose.")}
            alignment, report = ALIGNMENTS[record["alignment"]](**pose), Report(**record["report"])
        except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
            return None
        return Frames(coordinates, lengths, arrays.get("time"), system, alignment, report)

    def save(self, frames: Frames) -> Frames:
        """Write what says that the frames in the folder are whole; the same frames, which nobody can change now."""
        # Of what was flat from the start on, a third is left over.
        os.truncate(self.draft_path, frames.coordinates.nbytes)
        self.draft_path.replace(self.frames_path)
        record = {
            "lengths": frames.lengths,
            "system": frames.system.to_dict(),
            "alignment": alignment_name(frames.alignment),
            "report": dataclasses.asdict(frames.report),
        }
        pose = dataclasses.fields(frames.alignment)
        arrays = {f"pose.{field.name}": np.asarray(getattr(frames.alignment, field.name)) for field in pose}
        if frames.time is not None:
            arrays["time"] = frames.time
        with replacing(self.record_path) as temporary:
            temporary.write_bytes(safetensors.numpy.save(arrays, {"mdvae": json.dumps(record)}))
        found = np.memmap(self.frames_path, np.float32, "r", shape=frames.coordinates.shape)
        return dataclasses.replace(frames, coordinates=found)


def fingerprint(sources: list[Any], system: System, **options: Any) -> str:
    """Short name of everything that posed frames depend on.

    Parameters
    ----------
    sources : list
        What each source says of its content.
    system : System
    **options
        How they are read.
    """
    known = {"format": _FORMAT, "sources": sources, "system": system.to_dict(), **options}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
