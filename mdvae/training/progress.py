"""One line that shows how training goes, on a terminal only."""

import sys
import threading
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Progress bar with loss, reconstruction, KL and time left.

    It draws on standard error, and nothing at all where that is not a terminal.

    Parameters
    ----------
    enabled : bool
    n_models : int
        How many are trained at once; their epochs are counted together.
    """

    def __init__(self, enabled: bool = True, n_models: int = 1) -> None:
        self._epochs, self._lock = [0] * n_models, threading.Lock()
        self._progress = Progress(
            TextColumn("training" if n_models == 1 else f"training {n_models} models"),
            BarColumn(bar_width=24),
            TextColumn("epoch {task.completed}/{task.total}"),
            TextColumn("{task.fields[terms]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not (enabled and sys.stderr.isatty()),
        )
        self._task = None

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def __call__(self, epoch: int, n_epochs: int, terms: Mapping[str, float], model: int = 0) -> None:
        """Show the state after an epoch.

        Parameters
        ----------
        epoch, n_epochs : int
            Epochs done, and planned.
        terms : mapping
            The epoch's terms, as in `History`.
        model : int
            Which of them it is of.
        """
        shown = f"loss {terms['validation_loss']:.2f}"
        if "validation_kl" in terms:
            shown += f", reconstruction {terms['validation_reconstruction']:.2f}, KL {terms['validation_kl']:.2f}"
        if "validation_penalty" in terms:
            shown += f", strain {terms['validation_penalty']:.2f}"
        if "validation_vamp" in terms:
            shown += f", VAMP-2 {terms['validation_vamp']:.3f}"
        with self._lock:
            self._epochs[model] = epoch
            total = n_epochs * len(self._epochs)
            if self._task is None:
                self._task = self._progress.add_task("", total=total, terms=shown)
            self._progress.update(self._task, completed=sum(self._epochs), total=total, terms=shown)
