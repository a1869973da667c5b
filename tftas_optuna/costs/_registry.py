"""The costs by name: those of the package, of installed packages, and of the user."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.plugins import (
    Direction,
    check_name,
    entry_point_names,
    indicator_names,
    load_entry_point,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace

COSTS_GROUP = "tftas_optuna.costs"


@dataclasses.dataclass(frozen=True)
class Target:
    """What costs are taken for.

    Attributes:
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        in_chans: Channels of the input.
        device: Where latency is measured: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        batch_size: Images at once, for latency and peak memory.
        threads: Threads of the CPU while latency is measured; None for torch's own number.
    """

    img_size: int = 224
    num_classes: int = 1000
    in_chans: int = 3
    device: str = "cpu"
    batch_size: int = 1
    threads: int | None = None

    @property
    def input(self) -> dict[str, int]:
        """Sizes as architectures and networks take them."""
        return {
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
        }

    def __post_init__(self) -> None:
        for name in ("img_size", "batch_size"):
            if getattr(self, name) < 1:
                raise TftasError(f"{name} is {getattr(self, name)}, allowed is 1 or more")
        if self.threads is not None and self.threads < 1:
            raise TftasError(f"threads is {self.threads}, allowed is 1 or more")


class Meter(Protocol):
    """A cost made ready for one space and one target."""

    def __call__(self, arch: Architecture) -> float:
        """Give the cost of one architecture."""

    @property
    def record(self) -> dict[str, Any]:
        """Plain data that makes the same meter again; empty where there is nothing to keep."""


class CountedMeter:
    """A meter of a plain function.

    Args:
        count: Gives the cost of an architecture.
    """

    record: dict[str, Any] = {}

    def __init__(self, count: Callable[[Architecture], float]) -> None:
        self._count = count

    def __call__(self, arch: Architecture) -> float:
        return self._count(arch)


@dataclasses.dataclass(frozen=True)
class Cost:
    """A named cost of an architecture.

    Attributes:
        name: What objectives and bounds call it.
        open: Makes a meter for a space and a target, from a record of an earlier one if there
            is one.
        direction: What is better.
        unit: Unit of its values, empty for counts.
        measured: Whether it is measured on a device, and so differs from one time to the next.
        grows: Whether the smallest and the largest architecture of a space bound it.
        deployed: Whether it depends on the device, the batch size or the threads.
    """

    name: str
    open: Callable[[SearchSpace, Target, Mapping[str, Any] | None], Meter]
    direction: Direction = "minimize"
    unit: str = ""
    measured: bool = False
    grows: bool = False
    deployed: bool = False


def counted(
    name: str,
    count: Callable[[Architecture, Target], float],
    *,
    direction: Direction = "minimize",
    unit: str = "",
    grows: bool = False,
    deployed: bool = False,
) -> Cost:
    """Make a cost of a plain function of an architecture and a target."""
    return Cost(
        name,
        lambda space, target, record: CountedMeter(lambda arch: count(arch, target)),
        direction=direction,
        unit=unit,
        grows=grows,
        deployed=deployed,
    )


def register_cost(
    name: str,
    count: Callable[..., float],
    *,
    direction: Direction = "minimize",
    unit: str = "",
) -> None:
    """Give a cost of your own a name that objectives and bounds know.

    An installed package does the same without any call by an entry point in the group
    ``tftas_optuna.costs``, whose name is the cost's and whose object is such a function or a
    :class:`Cost`.

    Args:
        name: Lower-case letters, digits and underscores.
        count: ``count(arch, *, img_size, num_classes) -> float``. It must give the same value
            for the same architecture.
        direction: What is better.
        unit: Unit of its values, empty for counts.

    Raises:
        TftasError: The name is not allowed or taken, or the direction does not exist.

    Example:
        >>> from tftas_optuna import register_cost
        >>> register_cost("n_heads", lambda arch, **sizes: sum(arch.num_heads))
    """
    check_name(name)
    if direction not in ("minimize", "maximize"):
        raise TftasError(f"direction is {direction!r}, allowed: minimize, maximize")
    if name in _builtin() or name in indicator_names():
        raise TftasError(f"{name!r} exists already; give another name")
    _REGISTERED[name] = _of_function(name, count, direction, unit)


def get_cost(name: str) -> Cost:
    """Give a cost by its name.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    known = {**_builtin(), **_REGISTERED}
    if name in known:
        return known[name]
    found = load_entry_point(COSTS_GROUP, name)
    if found is None:
        raise TftasError(f"cost {name!r} does not exist; known: {', '.join(cost_names())}")
    if isinstance(found, Cost):
        return dataclasses.replace(found, name=name)
    if not callable(found):
        raise UnavailableError(f"cost {name!r}: its entry point is no function and no Cost")
    return _of_function(name, found, "minimize", "")


def cost_names() -> list[str]:
    """Names of all costs: built-in ones first, then registered and installed ones."""
    return list(dict.fromkeys([*_builtin(), *_REGISTERED, *entry_point_names(COSTS_GROUP)]))


def builtin_cost_names() -> list[str]:
    """Names of the costs that come with the package."""
    return list(_builtin())


_REGISTERED: dict[str, Cost] = {}


def _builtin() -> dict[str, Cost]:
    from tftas_optuna.costs import activations, counts, latency, peak_memory

    costs = (*counts.COSTS, activations.COST, peak_memory.COST, latency.COST)
    return {cost.name: cost for cost in costs}


def _of_function(name: str, count: Callable[..., float], direction: Direction, unit: str) -> Cost:
    def value(arch: Architecture, target: Target) -> float:
        return float(count(arch, img_size=target.img_size, num_classes=target.num_classes))

    return counted(name, value, direction=direction, unit=unit)
