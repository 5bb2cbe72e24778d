"""decoding: an XTC file of about 500 MB (decoded), a chunk at a time, nothing kept. mdtraj is its file object; mdvae is
the decoder of its own that it has with numba, in one thread and in two, and for the first hundredth of the atoms alone.
Frames: finding where frames start, which comes once before. In seconds; in brackets how many times as fast as mdtraj.
Cores: how much more than one thread two threads get done here, in loops that share nothing.
"""

import tempfile
import threading
from pathlib import Path
from unittest.mock import patch

import numba
import numpy as np
from reading import decoded
from synthetic import tumbling, written
from timing import in_turns

from mdvae.trajectory import xtc


def decoding():
    print(f"{'':20}{'mdtraj':>8}{'1 thread':>16}{'2 threads':>16}{'1 % of atoms':>16}{'frames':>8}{'cores':>8}")
    for n_atoms in (214, 3341):
        n_frames = 5 * 10**8 // (12 * n_atoms)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.xtc"
            written(path, tumbling(min(n_frames, 5000), n_atoms)[0], n_frames)
            print(decoded_by_all(path, n_frames, n_atoms), flush=True)


def decoded_by_all(path, n_frames, n_atoms):
    starts, size, few = xtc.frame_starts(path), 2**23 // (12 * n_atoms), np.arange(max(4, n_atoms // 100))

    def ours(n_threads, atoms=None):
        with patch.object(xtc, "_MOST_THREADS", n_threads):
            for _ in xtc.xtc_frames(path, starts, atoms, size):
                pass

    seconds, _ = in_turns(
        {
            "mdtraj": lambda: decoded(path, n_atoms),
            "one": lambda: ours(1),
            "two": lambda: ours(2),
            "few": lambda: ours(1, few),
            "frames": lambda: xtc.frame_starts(path),
            "alone": lambda: together(1),
            "both": lambda: together(2),
        }
    )
    shown = (f"{seconds[name]:9.2f} ({seconds['mdtraj'] / seconds[name]:4.1f})" for name in ("one", "two", "few"))
    return (
        f"xtc ({n_frames:6d}, {n_atoms:4d})  {seconds['mdtraj']:7.2f}" + "".join(shown) + f"{seconds['frames']:8.2f}"
        f"{2 * seconds['alone'] / seconds['both']:8.1f}"
    )


@numba.njit("int64(int64)", nogil=True)
def counted(n):
    total = 1
    for i in range(n):
        total = (total * 6364136223846793005 + i) ^ (total >> 7)
    return total


def together(n_threads):
    threads = [threading.Thread(target=counted, args=(10**8,)) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
