"""What a cost is: a number that an architecture has for a target, counted or measured."""

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
    """What costs are taken for.

    Attributes:
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        in_chans: Channels of the input.
        device: Where latency is measured: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        batch_size: Images at once, for latency and peak memory.
        threads: Threads of the CPU while latency is measured; None for torch's default.

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
        """Take the cost of one architecture."""

    @property
    def record(self) -> dict[str, Any]:
        """Plain data that makes the same meter again; empty where there is nothing to keep."""

    @property
    def closed_form(self) -> bool:
        """Whether it takes microseconds, and thousands of candidates may be asked for."""


class CountedMeter:
    """A meter of a plain function.

    Args:
        count: Returns the cost of an architecture.
        closed_form: Whether it takes microseconds.
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
        name: What objectives and bounds call it.
        open: Makes a meter for a space and a target, from a record of an earlier one if there
            is one.
        direction: What is better.
        unit: Unit of its values, empty for counts.
        measured: Whether it is measured on a device, and so differs from one time to the next.
        grows: Whether the smallest and the largest architecture of a space bound it.
        deployed: Whether it depends on the device, the batch size or the threads.
        refuses: Raises a ``TftasError`` for the name of a family that does not have it; None
            where every family has it.
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
        """Check that the architectures of a family have it.

        Raises:
            TftasError: They do not.
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
    """Make a cost of a plain function of an architecture and a target.

    Args:
        name: See :class:`Cost`, as of those below.
        count: The function.
        direction: What is better.
        unit: Unit of its values.
        grows: Whether the smallest and the largest architecture of a space bound it.
        deployed: Whether it depends on the device, the batch size or the threads.
        closed_form: Whether it takes microseconds: then a sampler may ask for thousands of
            candidates that are never tried.
        refuses: Raises for a family that has no such cost.
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
