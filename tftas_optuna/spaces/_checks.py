"""Checks that spaces of all families share; the errors carry the key that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tftas_optuna.architecture.checks import check_int, shown
from tftas_optuna.errors import TftasError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tftas_optuna.spaces._base import SearchSpace

# The name of a space that gets none.
UNNAMED = "custom"
INPUT = ("img_size", "in_chans", "num_classes")
_MAX_INPUT = {"img_size": 4096, "in_chans": 1024, "num_classes": 1_000_000}


def check_keys(
    data: dict[str, Any], family: str, *, required: Iterable[str], optional: Iterable[str]
) -> None:
    """Check that the data of a space has all required keys and no unknown ones."""
    article = "an" if family[0] in "aeiou" else "a"
    required = ("name", "family", *required)
    allowed = {*required, *optional}
    for key in data:
        if key not in allowed:
            hint = did_you_mean(key, sorted(allowed))
            raise TftasError(
                f"unknown key {shown(key)} in {article} {family} space{hint}", key=(key,)
            )
    check_given(data, family, required)


def check_given(values: Mapping[str, Any], family: str, required: Iterable[str]) -> None:
    """Check that the values of a space have all that are required."""
    missing = [key for key in required if values.get(key) is None]
    if missing:
        article = "an" if family[0] in "aeiou" else "a"
        raise TftasError(f"{article} {family} space needs {', '.join(missing)}")


def check_name(values: Mapping[str, Any]) -> None:
    """Check the name of a space."""
    name = values.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        problem = f"name is {shown(name)}" if "name" in values else "a space needs a name"
        raise TftasError(f"{problem}; expected text of 1 to 100 characters", key=("name",))


def as_choices(
    name: str, values: Any, *, whole: bool, key: tuple[str | int, ...]
) -> tuple[Any, ...]:
    """Check a list of positive choices, and return it sorted.

    Args:
        name: Name of the list for error messages.
        values: The list.
        whole: Whether choices must be whole numbers.
        key: Key of the list in the data of the space.
    """
    example = "[3, 4]" if whole else "[3.5, 4]"
    if not isinstance(values, list | tuple):
        raise TftasError(
            f"{name} is {shown(values)}, expected a list of choices such as {example}", key=key
        )
    if not values:
        raise TftasError(f"{name} is [], expected a list of at least one choice", key=key)
    kinds = (int,) if whole else (int, float)
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < 1e6:
            allowed = "positive whole numbers" if whole else "positive numbers"
            raise TftasError(f"{name} holds {shown(value)}, allowed are {allowed}", key=(*key, i))
    if len(set(values)) != len(values):
        raise TftasError(f"{name} repeats a choice: {list(values)}", key=key)
    return tuple(sorted(int(value) if whole else float(value) for value in values))


def check_input(space: SearchSpace) -> None:
    """Check that the input sizes of a space are in range."""
    for name in INPUT:
        check_int(name, getattr(space, name), 1, _MAX_INPUT[name])


def input_fields(space: SearchSpace) -> dict[str, int]:
    """Return the input sizes of a space that differ from the defaults of its class."""
    defaults = type(space)
    return {
        name: getattr(space, name)
        for name in INPUT
        if getattr(space, name) != getattr(defaults, name)
    }
