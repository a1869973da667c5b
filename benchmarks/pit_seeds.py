"""How steady DSS ranks PiTs between seeds: slices of one supernet against weights of their own.

    python benchmarks/pit_seeds.py --space pit-tiny --candidates 100 --seeds 6

Three ways to give candidates weights, each with several seeds:

- ``scaled``: slices of one supernet, scaled to the fan-in of the candidate (the product's way),
- ``slices``: slices of one supernet as they are,
- ``alone``: weights of their own, drawn from the seed and the architecture.

For each: Kendall's tau between two seeds, and between one seed and the mean score of all seeds of
networks with weights of their own (for ``alone``, of the other seeds).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tftas_optuna import Scorer, get_space
from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.families import get_family, register_family
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.supernet.pit import PiTSupernet


class Unscaled(PiTSupernet):
    """Slices as they are."""

    rescaled = False


class Alone(PiTSupernet):
    """Every candidate has weights of its own."""

    def __init__(self, largest: PiTArchitecture, *, seed: int = 0, **kwargs: Any) -> None:
        self._own_seed, self._kwargs = seed, kwargs
        super().__init__(largest, seed=seed, **kwargs)

    @staticmethod
    def groups(archs: Sequence[PiTArchitecture]) -> list[list[int]]:
        return [[i] for i in range(len(archs))]

    def traces(self, archs: list[PiTArchitecture], fidelity: str) -> Any:
        seed = zlib.crc32(f"{self._own_seed}/{archs[0]!r}".encode())
        with torch.inference_mode(False):
            own = PiTSupernet(archs[0], seed=seed, **self._kwargs)
        return own.run(archs, fidelity=fidelity)


KINDS: dict[str, Any] = {"scaled": PiTSupernet, "slices": Unscaled, "alone": Alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="pit-tiny")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--fidelity", default="collapsed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    space = get_space(options.space)
    rng = np.random.default_rng(0)
    archs: dict[PiTArchitecture, None] = {}
    while len(archs) < options.candidates:
        archs[space.sample(rng)] = None  # type: ignore[index]
    scores = {}
    for kind, supernet in KINDS.items():
        register_family(
            dataclasses.replace(get_family("pit"), supernet_class=supernet), replace=True
        )
        rows = []
        for seed in range(options.seeds):
            scorer = Scorer(space, fidelity=options.fidelity, seed=seed)
            if kind == "alone":
                # Norms of weights are kept by shape; here every candidate has others.
                rows.append([fresh_norms(scorer)(arch) for arch in archs])
            else:
                rows.append(scorer.batch(list(archs)))
        scores[kind] = np.array(rows)
    alone = scores["alone"]
    results = {"space": options.space, "candidates": len(archs), "seeds": options.seeds}
    print(f"{options.space}, {len(archs)} candidates, {options.seeds} seeds, {options.fidelity}")
    for kind, rows in scores.items():
        between = [kendall_tau(a, b) for a, b in itertools.combinations(rows, 2)]
        to_mean = [
            kendall_tau(row, (np.delete(alone, i, 0) if kind == "alone" else alone).mean(axis=0))
            for i, row in enumerate(rows)
        ]
        results[kind] = {
            "tau_between_seeds": float(np.mean(between)),
            "tau_between_seeds_worst": float(min(between)),
            "tau_with_mean_of_own_weights": float(np.mean(to_mean)),
        }
        print(kind, json.dumps(results[kind]))
    path = options.out / f"pit_seeds_{options.space}.json"
    path.write_text(json.dumps({**results, "fidelity": options.fidelity}, indent=2) + "\n")


def fresh_norms(scorer: Scorer) -> Scorer:
    for engine in scorer._engines:
        engine._norms.clear()
    return scorer


if __name__ == "__main__":
    main()
