"""Milliseconds per score of every indicator, as a search computes it.

    OMP_NUM_THREADS=1 python benchmarks/indicator_costs.py

Processor time of one thread per random candidate of AutoFormer-Tiny at 224x224, with eight images
where images are seen. Exact scores take one candidate after the other, collapsed ones a whole
pass; norms of weights, computed once in a study, are left out. Indicators that are asked for
together share passes and cost less than their sum. Results go to
``benchmarks/results/indicator_costs.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import metadata
from pathlib import Path
from statistics import median

import numpy as np
import torch

from tftas_optuna import Scorer, get_space
from tftas_optuna.indicators import CompositeIndicator
from tftas_optuna.metrics import get_indicator, indicator_names

RESULTS = Path(__file__).parent / "results" / "indicator_costs.json"
PASS = 64


def milliseconds(scorer: Scorer, count: int, rounds: int) -> float:
    """Take the median of some rounds of so many candidates each."""
    rng = np.random.default_rng(0)
    times = []
    for _ in range(rounds + 1):
        archs = [scorer.space.sample(rng) for _ in range(count)]
        before = time.process_time()
        scorer.batch(archs)
        times.append(1000 * (time.process_time() - before) / count)
    return median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)

    first = Scorer(get_space(args.space), device="cpu")
    seen = [first.space.sample(np.random.default_rng(seed)) for seed in range(PASS)]
    found: dict[str, dict[str, float]] = {}
    for name in indicator_names():
        indicator = get_indicator(name)
        if isinstance(indicator, CompositeIndicator):
            continue
        found[name] = {}
        for fidelity in indicator.fidelities:
            scorer = first.sharing(name, fidelity)
            count = 1 if fidelity == "exact" else PASS
            if fidelity == "collapsed":
                # Then the norms of the weights are known.
                scorer.batch(seen)
            found[name][fidelity] = milliseconds(scorer, count, args.rounds)
        print(name, {how: round(ms, 2) for how, ms in found[name].items()}, flush=True)
    versions = {name: metadata.version(name) for name in ("torch", "timm")}
    result = {"space": args.space, "versions": versions, "ms_per_score": found}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
