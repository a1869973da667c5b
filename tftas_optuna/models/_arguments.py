"""Checks timm's model arguments against the architecture and its family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tftas_optuna.architecture import Architecture


def check_arguments(
    arch: Architecture,
    arguments: Mapping[str, Any],
    *,
    defined: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> None:
    """Refuse arguments that contradict an architecture or its family.

    Arguments that repeat what is built anyway are allowed, because timm's configurations contain
    them. As in timm, None means that an argument is not given.

    Args:
        arch: The architecture to be built.
        arguments: The arguments by name.
        defined: Arguments that the architecture defines.
        fixed: Arguments that are the same in every network of the family; None if the argument
            has no equivalent there.

    Raises:
        TftasError: An argument is unknown or has another value.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        value = tuple(value) if isinstance(value, list) else value
        if name in defined:
            if value != defined[name]:
                raise TftasError(
                    f"{name} is {value!r}, the architecture has {defined[name]!r}; give another"
                    " architecture"
                )
        elif name not in fixed:
            raise TftasError(f"tftas_{arch.family} has no argument {name}; leave it out")
        elif fixed[name] is None or value != fixed[name]:
            always = "" if fixed[name] is None else f": it is always {fixed[name]!r}"
            raise TftasError(
                f"{name} is {value!r}, but tftas_{arch.family} does not support it{always};"
                " leave it out"
            )


def check_named(
    arch: Architecture,
    arguments: Mapping[str, Any],
    *,
    defined: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> None:
    """Refuse arguments as :func:`check_arguments`, but leave others to timm's own class.

    Raises:
        TftasError: An argument has another value.
    """
    named = {name: arguments[name] for name in arguments if name in defined or name in fixed}
    check_arguments(arch, named, defined=defined, fixed=fixed)


def check_pooling(arch: Architecture, global_pool: str, allowed: Collection[str]) -> None:
    """Check that a family's networks support a pooling.

    Raises:
        TftasError: The pooling is not allowed.
    """
    if global_pool not in allowed:
        names = ", ".join(repr(name) for name in allowed)
        raise TftasError(
            f"global_pool is {global_pool!r}; allowed for tftas_{arch.family}: {names}"
        )
