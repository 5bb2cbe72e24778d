"""How fast, beside others who do the same: timed in turns in one run, medians, as ratios.

    python tests/benchmarks/speed.py posing decoding reading training encoding ensemble starting larger growth

Each section is a module here, whose first lines say what it measures. Peers are in `peers.txt`; one that is not
installed leaves a dash.
"""

import argparse
import importlib
import os
import platform
import sys
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parent))
SECTIONS = ("posing", "decoding", "reading", "training", "encoding", "ensemble", "starting", "larger", "growth")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=SECTIONS)
    chosen = parser.parse_args().sections
    print(f"{platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__} on {jax.default_backend()}")
    for name in chosen:
        print(f"\n== {name}", flush=True)
        getattr(importlib.import_module(name), name)()


if __name__ == "__main__":
    main()
