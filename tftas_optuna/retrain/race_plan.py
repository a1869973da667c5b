"""The plan of a race, which the same race goes on by: its conditions and its epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tftas_optuna._given import shown
from tftas_optuna._writing import replacing
from tftas_optuna.architecture import read_yaml
from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.folder import writing

if TYPE_CHECKING:
    from pathlib import Path

PLAN = "race.yaml"
# What makes another race of one, in words.
_OTHERS = {
    "networks": "of other networks",
    "baselines": "with other baselines",
    "weights": "from other weights",
    "images": "on other images",
}


def read_plan(path: Path, conditions: dict[str, Any], *, least: int) -> int:
    """Return the epochs of a plan.

    Args:
        path: The file.
        conditions: ``networks``, ``baselines``, ``weights``, ``images`` and the ``recipe`` of the
            race that is to go on, as plain data.
        least: The fewest epochs that such a race takes.

    Raises:
        UnavailableError: It is the plan of another race, or damaged.
    """
    plan = read_yaml(path)
    epochs = plan.get("epochs") if isinstance(plan, dict) else None
    recipe = plan.get("recipe") if isinstance(plan, dict) else None
    if type(epochs) is not int or epochs < 1 or not isinstance(recipe, dict):
        raise UnavailableError(f"{path} is damaged; give another --out")
    for name, others in _OTHERS.items():
        if plan.get(name) != conditions[name]:
            raise UnavailableError(
                f"{path.parent} holds a race {others}; give the same to go on with it, or another"
                " --out"
            )
    for name, value in conditions["recipe"].items():
        if recipe.get(name) != value and name != "name":
            raise UnavailableError(
                f"{path.parent} holds a race with {name} {shown(recipe.get(name))}, not"
                f" {shown(value)}; use the same to go on with it, or give another --out"
            )
    if epochs < least:
        raise UnavailableError(f"{path} is damaged; give another --out")
    return epochs


def write_plan(path: Path, conditions: dict[str, Any], epochs: int) -> None:
    """Write the plan of a race.

    Raises:
        UnavailableError: It cannot be written.
    """
    text = yaml.safe_dump({"epochs": epochs, **conditions}, sort_keys=False, width=99)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            scratch.write_text(f"# The plan of this race.\n{text}", encoding="utf-8")
