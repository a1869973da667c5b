"""The work for a generation is for its own trials: it does not grow with those before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import grouped

from tftas_optuna import get_space, search
from tftas_optuna.architecture import Architecture
from tftas_optuna.samplers import Child
from tftas_optuna.samplers.genes import Genes
from tftas_optuna.samplers.problem import Problem
from tftas_optuna.scoring import pool
from tftas_optuna.scoring.panel import Scores
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.search.proposals import Generation
from tftas_optuna.spaces import AutoFormerSpace

SIZE = 20


def free(*arguments: Any) -> list[Scores]:
    """Take the place of scores: grow with the number of heads."""
    archs: list[Any] = arguments[-1]
    return [Scores({"dss": (1000.0 + sum(arch.num_heads) ** 2 + arch.depth,)}) for arch in archs]


def count_rows(
    counts: Counter[str], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    method = getattr(owner, name)

    def counting(self: Any, rows: Any) -> Any:
        counts[name] += len(rows)
        return method(self, rows)

    monkeypatch.setattr(owner, name, counting)


@pytest.mark.parametrize("objectives", [("dss", "n_params"), ("dss", "macs", "n_params")])
def test_as_many_are_decoded_and_described_after_400_trials_as_after_100(
    objectives: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts: Counter[str] = Counter()
    monkeypatch.setattr(pool, "score", free)
    count_rows(counts, monkeypatch, Genes, "encode")
    count_rows(counts, monkeypatch, Problem, "describe")
    from_params = AutoFormerSpace.from_params

    def decode(self: AutoFormerSpace, params: Any) -> Any:
        counts["decode"] += 1
        return from_params(self, params)

    monkeypatch.setattr(AutoFormerSpace, "from_params", decode)
    after: dict[int, Counter[str]] = {}

    def mark(progress: SearchProgress) -> None:
        after.setdefault(progress.n_done, Counter(counts))

    search(
        get_space("autoformer-tiny"),
        **grouped({"n_trials": 400, "objectives": objectives, "callback": mark, "n_exact": 0}),
        storage=f"sqlite:///{tmp_path}/study.db",
    )
    early, late = after[120] - after[100], after[400] - after[380]
    assert early["encode"] == late["encode"] == SIZE
    # One for each trial, and a few for children that are not new.
    assert SIZE <= late["decode"] < 1.5 * SIZE
    assert 1000 < late["describe"] < 1.1 * early["describe"]


class Unwalked(Container[Architecture]):
    """Architectures that may be looked up, but not listed."""

    def __init__(self, archs: set[Architecture]) -> None:
        self._archs = archs

    def __contains__(self, arch: object) -> bool:
        return arch in self._archs


def test_to_propose_nobody_walks_through_all_that_was_tried(small_space: AutoFormerSpace) -> None:
    rng = np.random.default_rng(0)
    archs = [small_space.sample(rng) for _ in range(12)]
    tried, new = set(archs[::2]), archs[1::2]
    made = Generation(
        small_space,
        lambda arch: 0.0,
        (),
        (Child(small_space.encode(arch)) for arch in archs),
        rng,
        {},
        len(new),
    )
    assert [proposal.architecture for proposal in made.propose(Unwalked(tried))] == new
