"""Latent coordinates, new conformations and latent optimization from molecular-dynamics trajectories."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdvae import adapters, augmentation, export, observables, plots, toys, vae
    from mdvae.evaluation import Evaluation, Evaluations, Thresholds, evaluate, evaluate_ensemble, log_likelihood
    from mdvae.history import History
    from mdvae.latent import (
        CollectiveVariable,
        FreeEnergy,
        Minimum,
        Undersampled,
        collective_variable,
        decode,
        encode,
        free_energy,
        generate,
        minimize,
        reconstruct,
        undersampled,
    )
    from mdvae.model import Model, build
    from mdvae.pipeline import fit, read_latents, write_latents
    from mdvae.report import write_report
    from mdvae.saving import load, save
    from mdvae.spec import Spec
    from mdvae.training import (
        Settings,
        TrainedVAE,
        fit_noise,
        fit_prior,
        fit_vae_prior,
        train,
        train_ensemble,
        train_vae,
    )
    from mdvae.trajectory import Frames, System, read, save_trajectory, stream, to_trajectory

# Importing mdvae costs nothing: what a name needs (JAX, mdtraj, ...) is imported when the name is first used.
_HOMES = {
    "adapters": "",
    "augmentation": "",
    "export": "",
    "observables": "",
    "plots": "",
    "toys": "",
    "vae": "",
    "Evaluation": "evaluation",
    "Evaluations": "evaluation",
    "Thresholds": "evaluation",
    "evaluate": "evaluation",
    "evaluate_ensemble": "evaluation",
    "log_likelihood": "evaluation",
    "History": "history",
    "CollectiveVariable": "latent",
    "FreeEnergy": "latent",
    "Minimum": "latent",
    "Undersampled": "latent",
    "collective_variable": "latent",
    "decode": "latent",
    "encode": "latent",
    "free_energy": "latent",
    "generate": "latent",
    "minimize": "latent",
    "reconstruct": "latent",
    "undersampled": "latent",
    "Model": "model",
    "build": "model",
    "fit": "pipeline",
    "read_latents": "pipeline",
    "write_latents": "pipeline",
    "write_report": "report",
    "load": "saving",
    "save": "saving",
    "Spec": "spec",
    "Settings": "training",
    "TrainedVAE": "training",
    "fit_noise": "training",
    "fit_prior": "training",
    "fit_vae_prior": "training",
    "train": "training",
    "train_ensemble": "training",
    "train_vae": "training",
    "Frames": "trajectory",
    "System": "trajectory",
    "read": "trajectory",
    "save_trajectory": "trajectory",
    "stream": "trajectory",
    "to_trajectory": "trajectory",
}

__all__ = [
    "CollectiveVariable",
    "Evaluation",
    "Evaluations",
    "Frames",
    "FreeEnergy",
    "History",
    "Minimum",
    "Model",
    "Settings",
    "Spec",
    "System",
    "Thresholds",
    "TrainedVAE",
    "Undersampled",
    "adapters",
    "augmentation",
    "build",
    "collective_variable",
    "decode",
    "encode",
    "evaluate",
    "evaluate_ensemble",
    "export",
    "fit",
    "fit_noise",
    "fit_prior",
    "fit_vae_prior",
    "free_energy",
    "generate",
    "load",
    "log_likelihood",
    "minimize",
    "observables",
    "plots",
    "read",
    "read_latents",
    "reconstruct",
    "save",
    "save_trajectory",
    "stream",
    "to_trajectory",
    "toys",
    "train",
    "train_ensemble",
    "train_vae",
    "undersampled",
    "vae",
    "write_latents",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mdvae' has no attribute {name!r}")
    if not _HOMES[name]:
        return importlib.import_module(f"mdvae.{name}")
    return getattr(importlib.import_module(f"mdvae.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
