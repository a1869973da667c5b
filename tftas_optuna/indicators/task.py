"""The scoring of a study as plain values that any process can carry out.

What is computed in one pass is divided by the candidates alone, and on a CPU every pass runs on
one thread: sums of floating-point numbers depend on both. So scores are the same to the last digit
in one process or in many.
"""

from __future__ import annotations

import contextlib
import json
import threading
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.devices import one_thread, resolve_device, stays_on_one_thread
from tftas_optuna.families import get_family
from tftas_optuna.indicators.base import LayerIndicator
from tftas_optuna.indicators.scorer import Scorer
from tftas_optuna.metrics import get_indicator
from tftas_optuna.spaces import space_from_dict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tftas_optuna.architecture import Architecture

# Scores of one candidate: by indicator, the score of every seed.
Scores = dict[str, tuple[float, ...]]


class ScoringTask(NamedTuple):
    """Everything that scores depend on.

    Attributes:
        space: The search space as JSON.
        indicators: Names of the indicators, at least one; all are computed on the same supernets.
        fidelity: How they are computed, those that know it; the others are computed exactly.
        seed: Seed of the first supernet.
        n_seeds: Supernets.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        device: Where it is computed, as the process that computes it sees its devices.
    """

    space: str
    indicators: tuple[str, ...]
    fidelity: str
    seed: int
    n_seeds: int
    img_size: int
    num_classes: int
    device: str


class Site(NamedTuple):
    """Where a task is carried out.

    Attributes:
        version: Version of this package there.
        device: Type of the device, ``"cpu"`` or ``"cuda"``.
    """

    version: str
    device: str


def fidelity_of(indicator: str, fidelity: str) -> str:
    """Tell how an indicator is computed where a fidelity is asked for: so, or exactly."""
    return fidelity if fidelity in get_indicator(indicator).fidelities else "exact"


def visit(task: ScoringTask) -> Site:
    """Look at where a task would be carried out.

    Raises:
        TftasError: Its device is not there.
    """
    return Site(metadata.version("tftas-optuna"), resolve_device(task.device).type)


def divide(
    task: ScoringTask, site: Site, archs: Sequence[Architecture]
) -> list[list[Architecture]]:
    """Divide candidates into those that run together."""
    supernet = get_family(json.loads(task.space)["family"]).supernet
    limit = supernet.at_once[task.fidelity, site.device]
    if limit == 1:
        return [[arch] for arch in archs]
    return [
        [archs[i] for i in group[start : start + limit]]
        for group in supernet.groups(archs)
        for start in range(0, len(group), limit)
    ]


def score(task: ScoringTask, archs: Sequence[Architecture]) -> list[Scores]:
    """Score candidates that run together.

    Returns:
        The scores of each one.

    Raises:
        TftasError: One does not fit the supernet, or its score is not finite.
    """
    found = _shared(task)
    scorers = found.scorers(task)
    with found.turn(scorers), one_thread(scorers[0].device):
        tables = [scorer.by_seed(archs) for scorer in scorers]
    return [dict(zip(task.indicators, row, strict=True)) for row in zip(*tables, strict=True)]


def prepare(task: ScoringTask) -> None:
    """Draw the supernets of a task, which its first scores would wait for.

    Raises:
        TftasError: Its scorers cannot be made.
    """
    for scorer in _shared(task).scorers(task):
        scorer.prepare()


def _shared(task: ScoringTask) -> _Scorers:
    """Find the scorers on the supernets of a task, whatever it computes and how."""
    return _scorers(task._replace(indicators=(), fidelity=""))


@lru_cache(maxsize=1)
def _scorers(site: ScoringTask) -> _Scorers:
    return _Scorers(site)


class _Scorers:
    """Scorers on the same supernets, each made when it is first asked for.

    Args:
        site: What they have in common: a task of no indicators and no fidelity.
    """

    def __init__(self, site: ScoringTask) -> None:
        self._site = site
        self._made: dict[tuple[str, str], Scorer] = {}
        self._making = threading.Lock()
        self._turn = threading.Lock()

    def scorers(self, task: ScoringTask) -> list[Scorer]:
        """Return the scorers of a task, one for each of its indicators."""
        with self._making:
            return [self._scorer(n, fidelity_of(n, task.fidelity)) for n in task.indicators]

    def turn(self, scorers: Sequence[Scorer]) -> AbstractContextManager[object]:
        """Wait for other threads, where scorers cannot compute side by side.

        Functions of users might not bear it, and a GPU has one memory.
        """
        beside = stays_on_one_thread() and all(
            scorer.device.type == "cpu" and isinstance(scorer.indicator, LayerIndicator)
            for scorer in scorers
        )
        return contextlib.nullcontext() if beside else self._turn

    def _scorer(self, indicator: str, fidelity: str) -> Scorer:
        key = indicator, fidelity
        if key not in self._made:
            first = next(iter(self._made.values()), None)
            if first is not None:
                self._made[key] = first.sharing(indicator, fidelity)
            else:
                site = self._site
                self._made[key] = Scorer(
                    space_from_dict(json.loads(site.space)),
                    indicator=indicator,
                    fidelity=fidelity,
                    seed=site.seed,
                    n_seeds=site.n_seeds,
                    device=site.device,
                    img_size=site.img_size,
                    num_classes=site.num_classes,
                )
        return self._made[key]
