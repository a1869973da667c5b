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

import torch

from tftas_optuna.devices import one_thread, resolve_device, stays_on_one_thread
from tftas_optuna.errors import UnavailableError
from tftas_optuna.families import get_family
from tftas_optuna.indicators.base import LayerIndicator
from tftas_optuna.indicators.basis import Basis
from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.indicators.images import DEFAULT_N_IMAGES
from tftas_optuna.indicators.panel import Panel, Scores
from tftas_optuna.indicators.precision import matmul_precision
from tftas_optuna.indicators.scorer import check_family_fidelity
from tftas_optuna.indicators.tally import NetworkIndicator
from tftas_optuna.metrics import get_indicator
from tftas_optuna.spaces import space_from_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.panel import Wanted
    from tftas_optuna.metrics import Indicator

# Supernets that one process holds for several pools. A pool lets go of its own; but one whose
# process was killed never does so on the workers of a cluster, and those keep no more than these.
_MOST_HELD = 8
_held: OrderedDict[ScoringTask, _Panels] = OrderedDict()
_holding = threading.Lock()


class ScoringTask(NamedTuple):
    """Everything that scores depend on.

    Attributes:
        space: The search space as JSON.
        indicators: The indicators, at least one, by their names; those that are made of others
            as they are. All are computed on the same supernets.
        fidelity: How they are computed, those that know it; the others are computed exactly.
        seed: Seed of the first supernet.
        n_seeds: Supernets.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        device: Where it is computed, as the process that computes it sees its devices.
        n_images: Images of one batch.
        data_dir: Folder of pictures; None for noise.
        pictures: Digest of the pictures and the number of their batches; None where nobody
            compares.
        reference: What relative indicators look at, as JSON; empty where there are none.
        pool: Whose supernets it is scored on; see :func:`release`.
    """

    space: str
    indicators: tuple[str | CompositeIndicator, ...]
    fidelity: str
    seed: int
    n_seeds: int
    img_size: int
    num_classes: int
    device: str
    n_images: int = DEFAULT_N_IMAGES
    data_dir: str | None = None
    pictures: tuple[str, int] | None = None
    reference: str = ""
    pool: str = ""

    def found(self) -> list[Wanted]:
        """Look the indicators up, each with the fidelity that it is computed at."""
        return [(_indicator(each), fidelity_of(each, self.fidelity)) for each in self.indicators]


class Site(NamedTuple):
    """Where a task is carried out.

    Attributes:
        version: Version of this package there.
        device: Type of the device, ``"cpu"`` or ``"cuda"``.
    """

    version: str
    device: str


def fidelity_of(indicator: str | CompositeIndicator, fidelity: str) -> str:
    """Tell how an indicator is computed where a fidelity is asked for: so, or exactly."""
    return fidelity if fidelity in _indicator(indicator).fidelities else "exact"


def batches_seen(names: Iterable[str]) -> int:
    """Count the batches of images that some indicators see, their parts included."""
    found = [get_indicator(name) for name in names]
    for composite in [each for each in found if isinstance(each, CompositeIndicator)]:
        found += [get_indicator(part) for part in composite.indicators]
    seen = [each.needs for each in found if isinstance(each, NetworkIndicator)]
    return max((needs.batches for needs in seen if needs.events), default=0)


def _indicator(indicator: str | CompositeIndicator) -> Indicator:
    return get_indicator(indicator) if isinstance(indicator, str) else indicator


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
    if not all(isinstance(indicator, LayerIndicator) for indicator, _ in task.found()):
        limit = 1
    if limit == 1:
        return [[arch] for arch in archs]
    return [
        [archs[i] for i in group[start : start + limit]]
        for group in supernet.groups(archs, site.device)
        for start in range(0, len(group), limit)
    ]


def score(task: ScoringTask, archs: Sequence[Architecture]) -> list[Scores]:
    """Score candidates that run together.

    Returns:
        The scores of each one.

    Raises:
        TftasError: One does not fit the supernet.
    """
    with _computing(task):
        panels = _shared(task)
        panel = panels.get(task)
        with panels.turn(panel):
            return panel.scores(archs)


def prepare(task: ScoringTask) -> None:
    """Draw the supernets of a task, which its first scores would wait for.

    Raises:
        TftasError: Its indicators cannot be computed.
    """
    with _computing(task):
        _shared(task).get(task).prepare()


def release(pool: str) -> None:
    """Let go of the supernets that this process holds for a pool."""
    with _holding:
        for site in [site for site in _held if site.pool == pool]:
            del _held[site]


@contextlib.contextmanager
def _computing(task: ScoringTask) -> Iterator[None]:
    with one_thread(resolve_device(task.device)), matmul_precision("highest"):
        yield


def _shared(task: ScoringTask) -> _Panels:
    """Find the panels on the supernets of a task, whatever it computes and how."""
    site = task._replace(indicators=(), fidelity="", reference="")
    with _holding:
        if site not in _held:
            _held[site] = _Panels(site)
        _held.move_to_end(site)
        while len(_held) > _MOST_HELD:
            _held.popitem(last=False)
        return _held[site]


class _Panels:
    """Panels on the same supernets and images, each made when it is first asked for.

    Args:
        site: What they have in common: a task of no indicators and no fidelity.
    """

    def __init__(self, site: ScoringTask) -> None:
        self.basis = Basis(
            space_from_dict(json.loads(site.space)),
            seed=site.seed,
            n_seeds=site.n_seeds,
            device=site.device,
            img_size=site.img_size,
            num_classes=site.num_classes,
            dtype=torch.float32,
            n_images=site.n_images,
            data_dir=site.data_dir,
        )
        if site.pictures is not None:
            digest, batches = site.pictures
            if self.basis.images(0, batches).digest != digest:
                raise UnavailableError(
                    f"data_dir {site.data_dir!r} holds other pictures on {platform.node()} than"
                    " where this began; copy them there"
                )
        self._made: dict[ScoringTask, tuple[list[Wanted], Panel]] = {}
        self._making = threading.Lock()
        self._turn = threading.Lock()

    def get(self, task: ScoringTask) -> Panel:
        """Return the panel of a task."""
        with self._making:
            wanted = task.found()
            # Somebody may have registered another indicator by a name since.
            if task not in self._made or self._made[task][0] != wanted:
                for indicator, fidelity in wanted:
                    indicator.check_fidelity(fidelity)
                    check_family_fidelity(self.basis.space.family, fidelity)
                reference = json.loads(task.reference) if task.reference else None
                self._made[task] = wanted, Panel(self.basis, wanted, reference=reference)
            return self._made[task][1]

    def turn(self, panel: Panel) -> AbstractContextManager[object]:
        """Wait for other threads, where a panel cannot compute beside them.

        Functions of users might not bear it, second derivatives choose kernels for the whole
        process, and a GPU has one memory.
        """
        beside = stays_on_one_thread() and self.basis.device.type == "cpu" and panel.bears_company
        return contextlib.nullcontext() if beside else self._turn
