"""The whole evaluation of models of real trajectories, with time and memory; and controls that it must see through.

    python tests/benchmarks/evaluating.py ala2 glu7 adk polymer
    python tests/benchmarks/evaluating.py controls
    python tests/benchmarks/evaluating.py ala2 --options '{"latent_dim": 8}' --report FOLDER

Real trajectories are in the folder that MDVAE_DATA names, or ../shared/data; what is held out of each is said in
structures.py. The controls are made of alanine dipeptide: what the verdict says of each is printed, and the exit code
is 1 if one is not named, or one that is right is not at the noise floor.
"""

import argparse
import json
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from structures import adk, ala2, glu7, polymer

import mdvae
from mdvae.report.writing import document

SYSTEMS = {"ala2": ala2, "glu7": glu7, "adk": adk, "polymer": polymer}


def trained(runs, *, beta=1.0, **options):
    unit = {} if hasattr(runs[0], "topology") else {"length_unit": "reduced"}
    return mdvae.fit(runs, beta=beta, seed=0, progress=False, **unit, **options)


def whole(name, options, folder):
    training, held_out, _, _ = SYSTEMS[name]()
    noise = options.pop("noise", False)
    model = trained(training, **{"latent_dim": 2} | options)
    before, start = peak(), time.perf_counter()
    found = mdvae.evaluate(model, held_out, noise=noise)
    seconds = time.perf_counter() - start
    print(f"\n=== {name}: {seconds:.0f} s, peak memory {peak():.0f} MB ({before:.0f} MB before)\n\n{found}", flush=True)
    if folder is not None:
        path = folder / f"{name}.html"
        path.write_text(document(model, found))
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def controls():
    """What must be seen through, each with words that must be in the verdict and the uses that it must forbid."""
    training, held_out, _, _ = ala2()
    model = trained(training)
    heavy = training[0].topology
    made = mdvae.generate(model, 5000, seed=1).xyz
    frames = np.concatenate([run.xyz for run in training])
    rng = np.random.default_rng(0)
    shuffled = frames[:20_000].copy()
    for column in shuffled.reshape(len(shuffled), -1).T:
        rng.shuffle(column)
    mixed = trained([type(training[0])(shuffled, heavy)])
    decane = mdvae.toys.alkane(5000, n_carbons=10, seed=0)
    mirrored = made * np.array([-1, 1, 1], np.float32)
    both, uses = ("generation", "optimization"), ("coordinate", "generation", "optimization")
    return {
        "trained on shuffled coordinates": (mixed, held_out, {}, "shuffled coordinates", uses),
        "collapsed, beta = 100": (trained(training, beta=100.0, epochs=30), held_out, {}, "collapsed", uses),
        "another molecule, as many atoms": (model, decane, {}, "another molecule", uses),
        "training frames as generated": (
            model,
            held_out,
            {"generated": frames[::8]},
            "copies of training",
            ("generation",),
        ),
        "mirror images as generated": (model, held_out, {"generated": mirrored}, "mirror images", both),
        "one held-out run as generated": (model, held_out[:1], {"generated": held_out[1]}, "at the noise floor", ()),
    }


def judged():
    failed = False
    for name, (model, source, options, words, forbidden) in controls().items():
        found = mdvae.evaluate(model, source, **options)
        uses = found.verdict.uses
        named = words in str(found.verdict) and all(uses[use] == "no" for use in forbidden)
        if not forbidden:
            named = named and uses["generation"] == "yes" and all(row[2].at_floor for row in found.ensemble.rows)
        failed |= not named
        print(f"\n=== {name}: {'as it must be' if named else 'NOT SEEN'}\n{found.verdict}", flush=True)
        if not forbidden:
            n_at_floor = sum(row[2].at_floor for row in found.ensemble.rows)
            print(f"at the noise floor: {n_at_floor} of {len(found.ensemble.rows)} rows")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=[*SYSTEMS, "controls"])
    parser.add_argument("--options", type=json.loads, default={}, help="of mdvae.fit, and noise, as JSON")
    parser.add_argument("--report", type=Path, help="folder for a report of each")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    wrong = False
    for what in arguments.what:
        if what == "controls":
            wrong |= judged()
        else:
            whole(what, dict(arguments.options), arguments.report)
    sys.exit(int(wrong))
