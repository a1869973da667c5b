"""Indicators calibrated on trained networks, and the files they are saved in."""

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
    from tftas_optuna.metrics import Target
    from tftas_optuna.spaces import SearchSpace

ENDING = ".calibration.yaml"
_VERSION = 1
# What a shape tells beside the features of its space.
SHAPES = ("depth", "width")


@dataclasses.dataclass(frozen=True)
class CalibratedIndicator(CompositeIndicator):
    """The accuracy that a linear model predicts from the shape and from other metrics.

    Attributes:
        logs: Whether to take the logarithm, for each part.
        means: Means of the inputs over the networks it was calibrated on: the features of the
            shape, its depth and its width, then the parts.
        weights: Weights of the inputs, in the same order.
        constant: The prediction when every input equals its mean.
        conditions: The conditions of the calibration: the space, whose features describe the
            shape, and what the parts were computed with.
        ranges: The least and the most, over the networks it was calibrated on, of depth, width
            and the parts; empty if a release before 0.3 calibrated it, which did not keep them.
    """

    replaceable: ClassVar[bool] = True
    logs: tuple[bool, ...] = dataclasses.field(kw_only=True)
    means: tuple[float, ...] = dataclasses.field(kw_only=True)
    weights: tuple[float, ...] = dataclasses.field(kw_only=True)
    constant: float = dataclasses.field(kw_only=True)
    conditions: Conditions = dataclasses.field(kw_only=True)
    ranges: tuple[tuple[float, float], ...] = dataclasses.field(default=(), kw_only=True)

    def combine(
        self,
        arch: Architecture,
        values: Mapping[str, float],
        reference: Mapping[str, Sequence[float]],
    ) -> float:
        """Compute the value of a candidate; see :meth:`CompositeIndicator.combine`."""
        columns = [
            math.log(max(values[part], math.ulp(0.0))) if log else values[part]
            for part, log in zip(self.parts, self.logs, strict=True)
        ]
        inputs = [*shape_inputs(self.conditions.space, arch), *columns]
        terms = zip(self.weights, inputs, self.means, strict=True)
        return self.constant + math.fsum(w * (x - mean) for w, x, mean in terms)

    @property
    def recipe(self) -> dict[str, Any]:
        """The calibration as plain data."""
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
        """Check that the conditions are those of the calibration.

        Raises:
            TftasError: The space, a seed, a size or the images differ.
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

    @property
    def calibrated_on(self) -> dict[str, tuple[float, float]]:
        """The least and the most of what tells the size of its networks, by name.

        These are ``n_params``, ``macs``, ``depth`` and ``width``; none if they were not kept.
        """
        ranges = dict(zip((*SHAPES, *self.parts), self.ranges, strict=False))
        return {name: ranges[name] for name in ("n_params", "macs", *SHAPES) if name in ranges}

    def save(self, path: Path, learned_from: Mapping[str, Any]) -> None:
        """Write the calibration to a file that :func:`load_calibration` reads.

        Args:
            path: The file, ``NAME.calibration.yaml``; an older calibration is replaced.
            learned_from: How it was calibrated, to be kept in the file.

        Raises:
            UnavailableError: The file exists and is not a calibration.
        """
        check_calibration_file(path)
        recipe = self.recipe
        document = {
            "calibration": _VERSION,
            "name": recipe.pop("name"),
            "learned_from": dict(learned_from),
            **recipe,
        }
        if self.ranges:
            names = (*SHAPES, *self.parts)
            document["ranges"] = {n: list(r) for n, r in zip(names, self.ranges, strict=True)}
        with replacing(path) as scratch:
            scratch.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def check_calibration_file(path: Path) -> None:
    """Check that a calibration may be written to a path.

    Raises:
        UnavailableError: The file exists and is not a calibration.
    """
    begin = f"calibration: {_VERSION}\nname: ".encode()
    check_ours(path, begin, within=len(begin))


def load_calibration(path: Path) -> CalibratedIndicator:
    """Read a calibrated indicator from a file and register it under its name.

    Raises:
        UnavailableError: The file is not a calibration, or is damaged.
        TftasError: Its name is taken, or one of its parts is not registered.
    """
    data = read_yaml(path)
    try:
        if data["calibration"] != _VERSION:
            raise UnavailableError(f"{path} was made by a later release; upgrade tftas-optuna")
        space = space_from_dict(data["space"])
        # A calibration on costs alone records no conditions besides its space.
        recorded = {
            "supernet_seed": 0,
            "n_seeds": 1,
            "img_size": space.img_size,
            "num_classes": space.num_classes,
            **dict(data["conditions"]),
        }
        indicator = CalibratedIndicator(
            str(data["name"]),
            parts=tuple(str(part["name"]) for part in data["parts"]),
            logs=tuple(bool(part["log"]) for part in data["parts"]),
            means=tuple(map(float, data["means"])),
            weights=tuple(map(float, data["weights"])),
            constant=float(data["constant"]),
            conditions=Conditions.from_dict({"space_definition": data["space"], **recorded}),
            ranges=_read_ranges(data),
        )
        n_inputs = len(shape_inputs(space, space.smallest())) + len(indicator.parts)
        ends = (end for ends in indicator.ranges for end in ends)
        numbers = (*indicator.means, *indicator.weights, indicator.constant, *ends)
        if {len(indicator.means), len(indicator.weights)} != {n_inputs}:
            raise ValueError(f"expected {n_inputs} means and weights")
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number is not finite")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(f"{path} is no calibration, or damaged: {error}") from error
    indicator.check()
    needed = indicator.conditions.key(indicator).keys() - {"space_definition"}
    missing = [name for name in sorted(needed) if data["conditions"].get(name) is None]
    if missing:
        raise UnavailableError(f"{path} is damaged: its conditions do not tell {missing[0]}")
    register_calibration(indicator)
    return indicator


def _read_ranges(data: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    if "ranges" not in data:
        return ()
    by_name = dict(data["ranges"])
    pairs = (by_name[name] for name in (*SHAPES, *(part["name"] for part in data["parts"])))
    return tuple((float(least), float(most)) for least, most in pairs)


def calibrations(names: Iterable[str]) -> list[CalibratedIndicator]:
    """Return the calibrated ones among the named indicators."""
    indicators = map(get_indicator, names)
    return [one for one in indicators if isinstance(one, CalibratedIndicator)]


def shape_inputs(space: SearchSpace, arch: Architecture) -> tuple[float, ...]:
    """Return the features of an architecture in its space, its depth and its width."""
    return *space.features(arch), depth_of(arch) or 0.0, width_of(arch) or 0.0


def sizes_of(arch: Architecture, target: Target) -> dict[str, float]:
    """Return what tells the size of an architecture; see `CalibratedIndicator.calibrated_on`."""
    costs = arch.costs(**target.input)
    depth, width = depth_of(arch) or 0.0, width_of(arch) or 0.0
    return {"n_params": costs.n_params, "macs": costs.macs, "depth": depth, "width": width}


def find_calibrations(names: Iterable[str], directory: Path) -> None:
    """Load the calibration file of every name that is not a metric yet.

    Args:
        names: Names of metrics; names without a file are ignored.
        directory: The folder of the files.

    Raises:
        UnavailableError: A file is damaged.
        TftasError: A part of a calibration is not registered.
    """
    registered = metric_names()
    for name in names:
        path = directory / f"{name}{ENDING}"
        if name not in registered and is_name(name) and path.is_file():
            load_calibration(path)


def register_calibration(indicator: CalibratedIndicator) -> None:
    """Register a calibrated indicator; it replaces an earlier calibration of the same name.

    Raises:
        TftasError: A metric that is not a calibration has its name.
    """
    name = indicator.name
    register_indicator(name, indicator, replace=is_replaceable(name))


def is_replaceable(name: str) -> bool:
    """Return whether a name belongs to an indicator that may be replaced."""
    return name in indicator_names() and get_indicator(name).replaceable
