"""Scoring tasks: plain values that any process can carry out.

Floating-point sums depend on which candidates share a pass and on the number of threads. So the
candidates alone decide how they are divided into passes, and on a CPU every pass runs on one
thread: scores are the same to the last digit in one process or in many.
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
from tftas_optuna.scoring.fidelity import check_family_fidelity
from tftas_optuna.scoring.panel import Panel, Scores

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Indicator
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.scoring.panel import PanelEntry

# What this process holds for open pools. A pool releases its own when it is closed, but a killed
# search cannot release anything on the workers of a cluster: they keep only the newest ones.
_MAX_HELD = 8
_held: OrderedDict[BasisKey, _Panels] = OrderedDict()
_held_lock = threading.Lock()


class ScoringTask(NamedTuple):
    """The indicators to compute, with everything that their scores depend on.

    Attributes:
        conditions: The conditions.
        indicators: The indicators, all on the same supernets: names, or the indicator itself if
            it is made of others.
        fidelity: The fidelity of indicators that support it; the others are computed exactly.
        reference: Values of the reference sample for relative indicators, as JSON; empty if there
            are none.
    """

    conditions: Conditions
    indicators: tuple[str | Indicator, ...]
    fidelity: str = "exact"
    reference: str = ""

    @classmethod
    def of(cls, conditions: Conditions, names: Sequence[str], fidelity: str) -> ScoringTask:
        """Make a task for indicators given by name."""
        return cls(conditions, tuple(get_indicator(name).sent for name in names), fidelity)

    def only(self, names: Collection[str]) -> ScoringTask:
        """Return the same task with only the named indicators."""
        kept = [i for i in self.indicators if (i if isinstance(i, str) else i.name) in names]
        return self._replace(indicators=tuple(kept))

    def looking_at(self, reference: Reference) -> ScoringTask:
        """Return the same task with the values of a reference sample for its fusions, if any."""
        return self._replace(reference=json.dumps(reference)) if reference else self

    def entries(self) -> list[PanelEntry]:
        """Return the indicators, each with the fidelity that it is computed at."""
        indicators = [get_indicator(i) if isinstance(i, str) else i for i in self.indicators]
        return [(indicator, indicator.fidelity_for(self.fidelity)) for indicator in indicators]


class BasisKey(NamedTuple):
    """The key by which every process of a pool makes and finds its supernets and images.

    Attributes:
        conditions: The conditions.
        device: The device, as the scoring process names it.
        n_checked: Number of batches of pictures to compare with the digest of the conditions, as
            another machine may have other pictures in a folder of the same name.
        pool: Id of the pool; see :func:`release`.
    """

    conditions: Conditions
    device: str
    n_checked: int = 0
    pool: str = ""


class Worker(NamedTuple):
    """A process that scores.

    Attributes:
        version: Version of this package in it.
        device: Type of its device, ``"cpu"`` or ``"cuda"``.
    """

    version: str
    device: str


def describe_worker(key: BasisKey) -> Worker:
    """Describe the process that runs this function.

    Raises:
        TftasError: The device does not exist.
    """
    return Worker(metadata.version("tftas-optuna"), resolve_device(key.device).type)


def divide(
    task: ScoringTask, worker: Worker, archs: Sequence[Architecture]
) -> list[list[Architecture]]:
    """Divide candidates into groups that share a pass."""
    supernet = get_family(task.conditions.space.family).supernet
    limit = supernet.at_once[task.fidelity, worker.device]
    if limit == 1 or not all(indicator.sums_layers for indicator, _ in task.entries()):
        return [[arch] for arch in archs]
    return [
        [archs[i] for i in group[start : start + limit]]
        for group in supernet.groups(archs, worker.device)
        for start in range(0, len(group), limit)
    ]


def score(key: BasisKey, task: ScoringTask, archs: Sequence[Architecture]) -> list[Scores]:
    """Score candidates that share a pass, in their order.

    Raises:
        TftasError: A candidate does not fit the supernet.
    """
    with _computing(key):
        panels = _panels_of(key)
        panel = panels.get(task)
        with panels.turn(panel):
            return panel.scores(archs)


def prepare(key: BasisKey, task: ScoringTask) -> None:
    """Draw the supernets of a task now, so that its first scores do not wait for them.

    Raises:
        TftasError: The indicators cannot be computed.
    """
    with _computing(key):
        _panels_of(key).get(task).prepare()


def release(pool: str) -> None:
    """Free the supernets that this process holds for a pool."""
    with _held_lock:
        for key in [key for key in _held if key.pool == pool]:
            del _held[key]


@contextlib.contextmanager
def _computing(key: BasisKey) -> Iterator[None]:
    with one_thread(resolve_device(key.device)), matmul_precision("highest"):
        yield


def _panels_of(key: BasisKey) -> _Panels:
    """Return the panels of a pool in this process."""
    with _held_lock:
        if key not in _held:
            _held[key] = _Panels(key)
        _held.move_to_end(key)
        while len(_held) > _MAX_HELD:
            _held.popitem(last=False)
        return _held[key]


class _Panels:
    """Panels on the same supernets and images, one for each task, made when first needed.

    Args:
        key: The key of the supernets and images.

    Raises:
        UnavailableError: The pictures differ from those of the conditions.
    """

    def __init__(self, key: BasisKey) -> None:
        self.basis = Basis(key.conditions, key.device)
        images = key.conditions.images
        if images is not None and key.n_checked:
            if self.basis.images(0, key.n_checked).digest != images.digest:
                raise UnavailableError(
                    f"data_dir {images.data_dir!r} holds other pictures on {platform.node()} than"
                    " where this began; copy them there"
                )
        self._panels: dict[Hashable, tuple[list[PanelEntry], Panel]] = {}
        self._panels_lock = threading.Lock()
        self._turn = threading.Lock()

    def get(self, task: ScoringTask) -> Panel:
        """Return the panel of a task."""
        with self._panels_lock:
            entries = task.entries()
            # Names, since the user's indicators need not be hashable.
            key = tuple(indicator.name for indicator, _ in entries), task.fidelity, task.reference
            # Another indicator may have been registered under one of the names since.
            if key not in self._panels or self._panels[key][0] != entries:
                for indicator, fidelity in entries:
                    indicator.check_fidelity(fidelity)
                    check_family_fidelity(task.conditions.space.family, fidelity)
                reference = json.loads(task.reference) if task.reference else None
                panel = Panel(self.basis, entries, reference=reference)
                self._panels[key] = entries, panel
            return self._panels[key][1]

    def turn(self, panel: Panel) -> AbstractContextManager[object]:
        """Return a lock for panels that must not run in several threads at the same time.

        User functions may not be thread-safe, second derivatives choose kernels for the whole
        process, and all threads share the memory of a GPU.
        """
        parallel = stays_on_one_thread() and self.basis.device.type == "cpu" and panel.side_by_side
        return contextlib.nullcontext() if parallel else self._turn
