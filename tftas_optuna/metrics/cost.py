"""Costs: numbers of an architecture for a target, counted or measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics.base import Direction, Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace


@dataclasses.dataclass(frozen=True)
class Target:
    """The input and the deployment that costs refer to.

    Attributes:
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        in_chans: Channels of the input.
        device: Device on which latency is measured: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        batch_size: Images per batch, for latency and peak memory.
        threads: CPU threads while latency is measured; None for torch's default.

    Raises:
        TftasError: A size is below 1.
    """

    img_size: int = 224
    num_classes: int = 1000
    in_chans: int = 3
    device: str = "cpu"
    batch_size: int = 1
    threads: int | None = None

    @property
    def input(self) -> dict[str, int]:
        """The sizes of the input, as keyword arguments for architectures and networks."""
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
    """A function that computes or measures a cost for one space and one target."""

    def __call__(self, arch: Architecture) -> float:
        """Return the cost of one architecture."""

    @property
    def record(self) -> dict[str, Any]:
        """Plain data from which the meter can be restored; empty if there is nothing to store."""

    @property
    def closed_form(self) -> bool:
        """Whether a call takes only microseconds, so that samplers can make thousands of them."""


class CountedMeter:
    """A meter that calls a function.

    Args:
        count: Function that returns the cost of an architecture.
        closed_form: Whether a call takes only microseconds.
    """

    record: dict[str, Any] = {}

    def __init__(self, count: Callable[[Architecture], float], closed_form: bool) -> None:
        self._count = count
        self.closed_form = closed_form

    def __call__(self, arch: Architecture) -> float:
        return self._count(arch)


@dataclasses.dataclass(frozen=True)
class Cost(Metric):
    """A named cost of an architecture.

    Attributes:
        name: Name for objectives and bounds.
        open: Function that returns a meter for a space, a target, and the record of an earlier
            meter or None.
        direction: Direction of optimisation.
        unit: Unit of the values, empty for counts.
        measured: Whether it is measured on a device, so that values vary between measurements.
        grows: Whether the smallest and the largest architecture of a space have its extreme
            values.
        deployed: Whether it depends on the device, the batch size or the threads.
        refuses: Function that raises a ``TftasError`` for the names of families without this
            cost; None if it exists for all families.
    """

    name: str
    open: Callable[[SearchSpace, Target, Mapping[str, Any] | None], Meter]
    direction: Direction = "minimize"
    unit: str = ""
    measured: bool = False
    grows: bool = False
    deployed: bool = False
    refuses: Callable[[str], None] | None = None

    def check_family(self, family: str) -> None:
        """Check that the cost exists for a family.

        Raises:
            TftasError: It does not.
        """
        if self.refuses is not None:
            self.refuses(family)


def counted(
    name: str,
    count: Callable[[Architecture, Target], float],
    *,
    direction: Direction = "minimize",
    unit: str = "",
    grows: bool = False,
    deployed: bool = False,
    closed_form: bool = False,
    refuses: Callable[[str], None] | None = None,
) -> Cost:
    """Return a cost that is a function of an architecture and a target.

    Args:
        name: Name for objectives and bounds.
        count: The function.
        direction: Direction of optimisation.
        unit: Unit of the values.
        grows: Whether the smallest and the largest architecture have its extreme values.
        deployed: Whether it depends on the device, the batch size or the threads.
        closed_form: Whether ``count`` takes only microseconds, so that samplers may compute it
            for thousands of candidates that are never tried.
        refuses: Function that raises an error for families without this cost.
    """
    return Cost(
        name,
        lambda space, target, record: CountedMeter(lambda arch: count(arch, target), closed_form),
        direction=direction,
        unit=unit,
        grows=grows,
        deployed=deployed,
        refuses=refuses,
    )
