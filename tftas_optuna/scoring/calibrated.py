"""Indicators that were calibrated on trained networks, and the files that hold them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from tftas_optuna._writing import check_ours, replacing
from tftas_optuna.architecture import read_yaml
from tftas_optuna.architecture.shape import depth_of, width_of
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.metrics import (
    get_indicator,
    indicator_names,
    metric_names,
    register_indicator,
)
from tftas_optuna.metrics.base import is_name
from tftas_optuna.scoring.conditions import Conditions
from tftas_optuna.spaces import space_from_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace

ENDING = ".calibration.yaml"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class CalibratedIndicator(CompositeIndicator):
    """The accuracy that a linear model predicts, from the shape and from other metrics.

    Attributes:
        logs: Of each part whether its logarithm counts.
        means: Means where it was calibrated: of the features of the shape, its depth and its
            width, then of the parts.
        weights: Weight of each of them.
        constant: What is predicted where all are at their means.
        conditions: What it was calibrated under: the space, whose features describe the shape,
            and what the parts were computed with.
    """

    replaceable: ClassVar[bool] = True
    logs: tuple[bool, ...] = dataclasses.field(kw_only=True)
    means: tuple[float, ...] = dataclasses.field(kw_only=True)
    weights: tuple[float, ...] = dataclasses.field(kw_only=True)
    constant: float = dataclasses.field(kw_only=True)
    conditions: Conditions = dataclasses.field(kw_only=True)

    def combine(
        self,
        arch: Architecture,
        values: Mapping[str, float],
        reference: Mapping[str, Sequence[float]],
    ) -> float:
        """Compute its value; see :meth:`CompositeIndicator.combine`."""
        columns = [
            math.log(max(values[part], math.ulp(0.0))) if log else values[part]
            for part, log in zip(self.parts, self.logs, strict=True)
        ]
        inputs = [*shape_inputs(self.conditions.space, arch), *columns]
        terms = zip(self.weights, inputs, self.means, strict=True)
        return self.constant + math.fsum(w * (x - mean) for w, x, mean in terms)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that it is made of, as plain data."""
        conditions = self.conditions.key(self)
        return {
            "name": self.name,
            "space": conditions.pop("space_definition"),
            "conditions": conditions,
            "constant": self.constant,
            "parts": [
                {"name": part, "log": log} for part, log in zip(self.parts, self.logs, strict=True)
            ],
            "means": list(self.means),
            "weights": list(self.weights),
        }

    def check_conditions(self, conditions: Conditions) -> None:
        """Check that it would be computed as it was calibrated.

        Raises:
            TftasError: Not: another space, seed, size, or other images. What is None is not known.
        """
        ours = self.conditions
        if conditions.space.to_dict() != ours.space.to_dict():
            raise TftasError(
                f"{self.name!r} was calibrated in space {ours.space.name!r}, not"
                f" {conditions.space.name!r}; calibrate it there"
            )
        differs = ours.differs_from(conditions, self)
        if differs is not None:
            raise TftasError(f"{self.name!r} was calibrated with {differs}; use the same")

    def save(self, path: Path, learned_from: Mapping[str, Any]) -> None:
        """Write it into a file, from which :func:`load_calibration` registers it.

        Args:
            path: The file, ``NAME.calibration.yaml``; another calibration is replaced.
            learned_from: What to say in it of how it came to be.

        Raises:
            UnavailableError: A file is in the way that is no calibration.
        """
        check_calibration_file(path)
        recipe = self.recipe
        document = {
            "calibration": _VERSION,
            "name": recipe.pop("name"),
            "learned_from": dict(learned_from),
            **recipe,
        }
        with replacing(path) as scratch:
            scratch.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def check_calibration_file(path: Path) -> None:
    """Check that a calibration can be written to a file, before there is one.

    Raises:
        UnavailableError: A file is in the way that is no calibration.
    """
    begin = f"calibration: {_VERSION}\nname: ".encode()
    check_ours(path, begin, within=len(begin))


def load_calibration(path: Path) -> CalibratedIndicator:
    """Read a calibrated indicator, and register it under its name.

    Raises:
        UnavailableError: The file is none, or damaged.
        TftasError: Its name is taken, or a part of it does not exist here.
    """
    data = read_yaml(path)
    try:
        if data["calibration"] != _VERSION:
            raise UnavailableError(f"{path} was made by a later release; upgrade tftas-optuna")
        space = space_from_dict(data["space"])
        # One that is made of costs alone has no conditions but its space.
        told = {"supernet_seed": 0, "n_seeds": 1, **dict(data["conditions"])}
        told = {"img_size": space.img_size, "num_classes": space.num_classes, **told}
        found = CalibratedIndicator(
            str(data["name"]),
            parts=tuple(str(part["name"]) for part in data["parts"]),
            logs=tuple(bool(part["log"]) for part in data["parts"]),
            means=tuple(map(float, data["means"])),
            weights=tuple(map(float, data["weights"])),
            constant=float(data["constant"]),
            conditions=Conditions.from_dict({"space_definition": data["space"], **told}),
        )
        n_inputs = len(shape_inputs(space, space.smallest())) + len(found.parts)
        numbers = (*found.means, *found.weights, found.constant)
        if {len(found.means), len(found.weights)} != {n_inputs}:
            raise ValueError(f"expected {n_inputs} means and weights")
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number is not finite")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(f"{path} is no calibration, or damaged: {error}") from error
    found.check()
    register_calibration(found)
    return found


def shape_inputs(space: SearchSpace, arch: Architecture) -> tuple[float, ...]:
    """Describe a shape by the features of its space, its depth and its width."""
    return *space.features(arch), depth_of(arch) or 0.0, width_of(arch) or 0.0


def find_calibrations(names: Iterable[str], directory: Path) -> None:
    """Register those of some names that are no metrics but have a file of that name.

    Raises:
        UnavailableError: A file is damaged.
        TftasError: A part of one does not exist here.
    """
    known = metric_names()
    for name in names:
        path = directory / f"{name}{ENDING}"
        if name not in known and is_name(name) and path.is_file():
            load_calibration(path)


def register_calibration(indicator: CalibratedIndicator) -> None:
    """Register a calibrated indicator; a later one takes the place of an earlier one.

    Raises:
        TftasError: Another metric has its name.
    """
    name = indicator.name
    register_indicator(name, indicator, replace=is_replaceable(name))


def is_replaceable(name: str) -> bool:
    """Tell whether the metric of a name is an indicator that a later one may replace."""
    return name in indicator_names() and get_indicator(name).replaceable
