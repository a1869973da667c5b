"""The scoring of a study as plain values that any process can carry out.

What is computed in one pass is divided by the candidates alone, and on a CPU every pass runs on
one thread: sums of floating-point numbers depend on both. So scores are the same to the last digit
in one process or in many.
"""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.families import get_family
from tftas_optuna.indicators.device import one_thread, resolve_device
from tftas_optuna.indicators.scorer import Scorer, most_at_once
from tftas_optuna.spaces import space_from_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture


class ScoringTask(NamedTuple):
    """Everything that scores depend on; the arguments of :class:`tftas_optuna.Scorer`.

    Attributes:
        space: The search space as JSON.
        indicator: Name of the indicator.
        fidelity: How it is computed.
        seed: Seed of the first supernet.
        n_seeds: Supernets.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        head_weight: Factor of the classifier.
        device: Where it is computed, as the process that computes it sees its devices.
        own: Indicators of the user to compute beside it, on the same supernets.
    """

    space: str
    indicator: str
    fidelity: str
    seed: int
    n_seeds: int
    img_size: int
    num_classes: int
    head_weight: float
    device: str
    own: tuple[str, ...] = ()


class Site(NamedTuple):
    """Where a task is carried out.

    Attributes:
        version: Version of this package there.
        device: Type of the device, ``"cpu"`` or ``"cuda"``.
    """

    version: str
    device: str


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
    limit = most_at_once(task.fidelity, site.device)
    if limit == 1:
        return [[arch] for arch in archs]
    family = json.loads(task.space)["family"]
    return [
        [archs[i] for i in group[start : start + limit]]
        for group in get_family(family).supernet.groups(archs)
        for start in range(0, len(group), limit)
    ]


def score(task: ScoringTask, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
    """Score candidates that run together.

    Returns:
        Each one's score of every seed, then its scores by every other indicator of every seed.

    Raises:
        TftasError: One does not fit the supernet, or its score is not finite.
    """
    scorer, lock = _scorer(task)
    with lock, one_thread(scorer.device):
        tables = [scorer.by_seed(archs)]
        tables += [scorer.own_by_seed(name, archs) for name in task.own]
    return [sum(scores, ()) for scores in zip(*tables, strict=True)]


@lru_cache(maxsize=1)
def _scorer(task: ScoringTask) -> tuple[Scorer, threading.Lock]:
    arguments = task._asdict()
    del arguments["own"]
    space = space_from_dict(json.loads(arguments.pop("space")))
    return Scorer(space, **arguments), threading.Lock()
