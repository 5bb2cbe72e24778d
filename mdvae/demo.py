"""The main job on embedded data: simulate a polymer, learn it, generate from it, find its most compact shape."""

import os
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mdvae import toys
from mdvae.evaluation import Evaluation, evaluate
from mdvae.latent import Minimum, generate, minimize
from mdvae.model import Model, build
from mdvae.observables import radius_of_gyration
from mdvae.pipeline import draw_figures, write_latents
from mdvae.saving import load, save
from mdvae.training import train
from mdvae.trajectory import Frames, read, save_trajectory, system_of_array, to_trajectory

# The last fifth of the run is never trained on.
_N_TRAINING, _N_HELD_OUT = 4000, 1000
# A first look should not take long; and soft beads have a noise that is worth sampling, of its own for each bead.
_NETWORK = {"hidden": (128, 128, 128), "likelihood": "gaussian"}


def run(folder: str | os.PathLike, *, seed: int = 0, progress: bool = True) -> str:
    """Run the demonstration and leave everything it makes in a folder.

    A bead-spring chain in the plane is simulated, written to a trajectory file, read back, posed, trained on,
    encoded, generated from and minimized.

    Parameters
    ----------
    folder : path
        Made if need be. Files in it of the same names are replaced.
    seed : int
    progress : bool
        Show a progress bar (on a terminal only).

    Returns
    -------
    str
        A table of what came out, and where it is.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    _simulate(folder, seed)
    frames = read(folder / "polymer.xtc", top=folder / "polymer.pdb", length_unit="reduced")
    model = train(build(frames, latent_dim=4, **_NETWORK, seed=seed), frames, epochs=120, seed=seed, progress=progress)
    save(model, folder / "polymer.mdvae")
    model = load(folder / "polymer.mdvae")
    write_latents(model, folder / "polymer.xtc", folder / "latent.csv")
    save_trajectory(generate(model, 1000, noise=True, seed=seed), folder / "generated.xtc", unit="reduced")
    held_out = evaluate(model, folder / "polymer-held-out.xtc", n_generated=2000, noise=True, seed=seed)
    compact = minimize(model, radius_of_gyration, seed=seed)
    if compact.found:
        save_trajectory(compact.trajectory, folder / "compact.pdb", unit="reduced")
    draw_figures(model, frames, folder, noise=True, compact=compact)
    return _table(frames, model, held_out, compact, folder, time.perf_counter() - started)


def _simulate(folder: Path, seed: int) -> None:
    """Leave the chain as trajectory files, split in time, with a topology beside them."""
    chain = toys.bead_spring_chain(_N_TRAINING + _N_HELD_OUT, seed=seed)
    system = system_of_array(chain.shape[1], np.arange(chain.shape[1]), chain.shape[2], "reduced")
    trajectory = to_trajectory(system, chain)
    save_trajectory(trajectory[0], folder / "polymer.pdb", unit="reduced")
    save_trajectory(trajectory[:_N_TRAINING], folder / "polymer.xtc", unit="reduced")
    save_trajectory(trajectory[_N_TRAINING:], folder / "polymer-held-out.xtc", unit="reduced")


def _table(frames: Frames, model: Model, held_out: Evaluation, compact: Minimum, folder: Path, seconds: float) -> str:
    """What came out, for people."""
    assert model.history is not None
    assert held_out.reconstruction is not None
    table = Table(
        title="mdvae demo: a bead-spring chain of 12 beads in the plane",
        title_justify="left",
        caption="RMSD: deviation from the frames, should be below that of PCA. Rg: radius of gyration, what the search "
        "minimizes. Valid: bonds and contacts that two of three training frames keep.",
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("reduced units", justify="right")
    rows = {
        "training frames": str(frames.n_frames),
        "jumps made by the alignment": str(frames.report.n_jumps),
        "latent coordinates": str(model.latent_dim),
        "epochs (best)": f"{model.history.n_epochs} ({model.history.best_epoch + 1})",
        "held-out reconstruction RMSD": f"{held_out.reconstruction.rmsd.mean():.3f}",
        "PCA of the same size": f"{held_out.reconstruction.rmsd_pca.mean():.3f}",
        "most compact training frame, Rg": f"{compact.best_training_value:.3f}",
        "most compact valid training frame, Rg": f"{compact.best_valid_training_value:.3f}",
        "optimized structure, Rg": f"{compact.value:.3f}" if compact.found else "none valid",
        "starts that ended in a valid structure": f"{compact.valid.sum()} of {len(compact.valid)}",
        "seconds": f"{seconds:.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    made = "\n".join(f"  {path}" for path in sorted(folder.iterdir()) if path.is_file())
    return f"{capture.get()}\n{held_out.verdict}\n\n{made}"
