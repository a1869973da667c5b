"""The scoring of a study as plain values that any process can carry out.

What is computed in one pass is divided by the candidates alone, and on a CPU every pass runs on
one thread: sums of floating-point numbers depend on both. So scores are the same to the last digit
in one process or in many.
"""

from __future__ import annotations

import contextlib
import json
import platform
import threading
from collections import OrderedDict
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.devices import one_thread, resolve_device, stays_on_one_thread
from tftas_optuna.errors import UnavailableError
from tftas_optuna.families import get_family
from tftas_optuna.metrics import get_indicator
from tftas_optuna.passes.precision import matmul_precision
from tftas_optuna.scoring.basis import Basis
from tftas_optuna.scoring.panel import Panel, Scores
from tftas_optuna.scoring.scorer import check_family_fidelity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Indicator
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.scoring.panel import Wanted

# Supernets that one process holds for several pools. A pool lets go of its own; but one whose
# process was killed never does so on the workers of a cluster, and those keep no more than these.
_MOST_HELD = 8
_held: OrderedDict[Home, _Panels] = OrderedDict()
_holding = threading.Lock()


class ScoringTask(NamedTuple):
    """What is computed of candidates, and everything that it depends on.

    Attributes:
        conditions: What the scores depend on.
        indicators: The indicators, at least one, by their names; those that are made of others
            as they are. All are computed on the same supernets.
        fidelity: How they are computed, those that know it; the others are computed exactly.
        reference: What relative indicators look at, as JSON; empty where there are none.
    """

    conditions: Conditions
    indicators: tuple[str | Indicator, ...]
    fidelity: str = "exact"
    reference: str = ""

    @classmethod
    def of(cls, conditions: Conditions, names: Sequence[str], fidelity: str) -> ScoringTask:
        """Make the task of some indicators by their names."""
        return cls(conditions, tuple(get_indicator(name).sent for name in names), fidelity)

    def only(self, names: Collection[str]) -> ScoringTask:
        """Return the same task of some of its indicators alone."""
        chosen = [i for i in self.indicators if (i if isinstance(i, str) else i.name) in names]
        return self._replace(indicators=tuple(chosen))

    def looking_at(self, reference: Reference) -> ScoringTask:
        """Return the same task, with the values of a reference sample for its fusions."""
        return self._replace(reference=json.dumps(reference))

    def wanted(self) -> list[Wanted]:
        """Look the indicators up, each with the fidelity that it is computed at."""
        indicators = [get_indicator(i) if isinstance(i, str) else i for i in self.indicators]
        return [(indicator, indicator.fidelity_for(self.fidelity)) for indicator in indicators]


class Home(NamedTuple):
    """The supernets and images of a pool, wherever they are.

    Attributes:
        conditions: What they are.
        device: Where they are, as the process that computes sees its devices.
        pictures: How many batches to compare with the digest of the conditions: machines may
            hold other pictures in a folder of the same name.
        pool: Whose they are; see :func:`release`.
    """

    conditions: Conditions
    device: str
    pictures: int = 0
    pool: str = ""


class Site(NamedTuple):
    """Where a task is carried out.

    Attributes:
        version: Version of this package there.
        device: Type of the device, ``"cpu"`` or ``"cuda"``.
    """

    version: str
    device: str


def visit(home: Home) -> Site:
    """Tell what a process is that is to score.

    Raises:
        TftasError: Its device is not there.
    """
    return Site(metadata.version("tftas-optuna"), resolve_device(home.device).type)


def divide(
    task: ScoringTask, site: Site, archs: Sequence[Architecture]
) -> list[list[Architecture]]:
    """Divide candidates into those that run together."""
    supernet = get_family(task.conditions.space.family).supernet
    limit = supernet.at_once[task.fidelity, site.device]
    if limit == 1 or not all(indicator.sums_layers for indicator, _ in task.wanted()):
        return [[arch] for arch in archs]
    return [
        [archs[i] for i in group[start : start + limit]]
        for group in supernet.groups(archs, site.device)
        for start in range(0, len(group), limit)
    ]


def score(home: Home, task: ScoringTask, archs: Sequence[Architecture]) -> list[Scores]:
    """Score candidates that run together.

    Returns:
        The scores of each one.

    Raises:
        TftasError: One does not fit the supernet.
    """
    with _computing(home):
        panels = _shared(home)
        panel = panels.get(task)
        with panels.turn(panel):
            return panel.scores(archs)


def prepare(home: Home, task: ScoringTask) -> None:
    """Draw the supernets of a task, which its first scores would wait for.

    Raises:
        TftasError: Its indicators cannot be computed.
    """
    with _computing(home):
        _shared(home).get(task).prepare()


def release(pool: str) -> None:
    """Let go of the supernets that this process holds for a pool."""
    with _holding:
        for home in [home for home in _held if home.pool == pool]:
            del _held[home]


@contextlib.contextmanager
def _computing(home: Home) -> Iterator[None]:
    with one_thread(resolve_device(home.device)), matmul_precision("highest"):
        yield


def _shared(home: Home) -> _Panels:
    """Return the panels of a pool in this process, whatever they compute and how."""
    with _holding:
        if home not in _held:
            _held[home] = _Panels(home)
        _held.move_to_end(home)
        while len(_held) > _MOST_HELD:
            _held.popitem(last=False)
        return _held[home]


class _Panels:
    """Panels on the same supernets and images, each made when it is first asked for.

    Args:
        home: Whose they are.

    Raises:
        UnavailableError: The pictures are others than those of the conditions.
    """

    def __init__(self, home: Home) -> None:
        self.basis = Basis(home.conditions, home.device)
        images = home.conditions.images
        if images is not None and home.pictures:
            if self.basis.images(0, home.pictures).digest != images.digest:
                raise UnavailableError(
                    f"data_dir {images.data_dir!r} holds other pictures on {platform.node()} than"
                    " where this began; copy them there"
                )
        self._made: dict[ScoringTask, tuple[list[Wanted], Panel]] = {}
        self._making = threading.Lock()
        self._turn = threading.Lock()

    def get(self, task: ScoringTask) -> Panel:
        """Return the panel of a task."""
        with self._making:
            wanted = task.wanted()
            # Somebody may have registered another indicator by a name since.
            if task not in self._made or self._made[task][0] != wanted:
                for indicator, fidelity in wanted:
                    indicator.check_fidelity(fidelity)
                    check_family_fidelity(task.conditions.space.family, fidelity)
                reference = json.loads(task.reference) if task.reference else None
                self._made[task] = wanted, Panel(self.basis, wanted, reference=reference)
            return self._made[task][1]

    def turn(self, panel: Panel) -> AbstractContextManager[object]:
        """Wait for other threads, where a panel cannot compute beside them.

        Functions of users might not bear it, second derivatives choose kernels for the whole
        process, and a GPU has one memory.
        """
        beside = stays_on_one_thread() and self.basis.device.type == "cpu" and panel.side_by_side
        return contextlib.nullcontext() if beside else self._turn
