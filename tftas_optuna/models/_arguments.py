"""Refuses arguments of timm's that would have no effect, or make another network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tftas_optuna.architecture import Architecture


def refuse_others(
    arch: Architecture,
    given: Mapping[str, Any],
    *,
    told: Mapping[str, Any],
    settled: Mapping[str, Any],
) -> None:
    """Refuse arguments that ask for another network than the one of an architecture.

    An argument that says what is built anyway does no harm: configurations of timm's repeat
    them. None stands for what was not given, as in timm.

    Args:
        arch: What is built.
        given: The arguments.
        told: What the architecture says, by timm's names.
        settled: What is so in every network of the family, by timm's names.

    Raises:
        TftasError: One asks for something else, or is unknown.
    """
    for name, value in given.items():
        if value is None:
            continue
        value = tuple(value) if isinstance(value, list) else value
        if name in told:
            if value != told[name]:
                raise TftasError(
                    f"{name} is {value!r}, the architecture has {told[name]!r}; give another"
                    " architecture"
                )
        elif name not in settled:
            raise TftasError(f"tftas_{arch.family} has no argument {name}; leave it out")
        elif settled[name] is None or value != settled[name]:
            always = "" if settled[name] is None else f": it is always {settled[name]!r}"
            raise TftasError(
                f"{name} is {value!r}, but tftas_{arch.family} leaves no choice of it{always};"
                " leave it out"
            )


def check_pooling(arch: Architecture, global_pool: str, allowed: Collection[str]) -> None:
    """Refuse a pooling that a family's networks do not have.

    Raises:
        TftasError: It is none of those allowed.
    """
    if global_pool not in allowed:
        names = ", ".join(repr(name) for name in allowed)
        raise TftasError(
            f"global_pool is {global_pool!r}; allowed for tftas_{arch.family}: {names}"
        )
