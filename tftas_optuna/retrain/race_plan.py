"""The plan of a race: its rounds, and the file that the same race goes on by."""

from __future__ import annotations

import dataclasses
import math
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
SEEDS = 3
HALF = 2
_FINALISTS = 3
# What makes another race of one, in words.
_OTHERS = {
    "networks": "of other networks",
    "baselines": "with other baselines",
    "weights": "from other weights",
    "images": "on other images",
}


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Successive halving: the better half of the networks is trained for twice as many epochs.

    Attributes:
        n_members: Number of networks that may be dropped.
        n_baselines: Number of networks that are never dropped.
    """

    n_members: int
    n_baselines: int

    @property
    def count(self) -> int:
        """Number of rounds, after each of which the worse half is dropped."""
        return math.ceil(math.log2(max(1, self.n_members / _FINALISTS)))

    @property
    def fewest_epochs(self) -> int:
        """The fewest epochs that such a race takes."""
        return HALF**self.count

    def ends(self, epochs: int) -> list[int]:
        """Return the epochs after which networks are dropped.

        Args:
            epochs: Epochs of a whole training.
        """
        first = epochs // self.fewest_epochs
        return [first * HALF**number for number in range(self.count)]

    def epochs(self, epochs: int, number: int = 0, place: int = 0, alive: int = 0) -> int:
        """Return the epochs that a race takes, all networks and seeds together.

        Args:
            epochs: Epochs of a whole training.
            number: The round from which to count.
            place: How many networks are done in that round.
            alive: Networks that are in that round; 0 for all.
        """
        ends = [0, *self.ends(epochs), epochs]
        count = alive or self.n_members
        total = -place * (ends[number + 1] - ends[number])
        for begin, end in zip(ends[number:-1], ends[number + 1 :], strict=True):
            total += count * (end - begin)
            if end != epochs:
                count = (count + 1) // HALF
        return total + (SEEDS - 1) * count * epochs + SEEDS * self.n_baselines * epochs

    def trainings(self) -> int:
        """Return the number of trainings, whole ones and others."""
        finalists = self.n_members
        for _ in range(self.count):
            finalists = (finalists + 1) // HALF
        return self.n_members + (SEEDS - 1) * finalists + SEEDS * self.n_baselines


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
