"""What made a study: written into it, read back from it, and compared before going on."""

from __future__ import annotations

import dataclasses
import warnings
from functools import cached_property, partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

from optuna.exceptions import ExperimentalWarning

from tftas_optuna.costs import Target, cost_names, get_cost
from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics.bounds import (
    COSTS,
    Bounds,
    CostName,
    check_reachable,
    direction_of,
    violations,
)
from tftas_optuna.spaces import SearchSpace, space_from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.costs import Meter
    from tftas_optuna.plugins import Direction

_MARK = "space_definition"
_RECORDS = "cost_records"
_RECORDED = ("tftas-optuna", "optuna", "torch", "timm")


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Everything that the values of a study depend on.

    Attributes:
        space: The search space.
        metrics: Names of the objectives, in order.
        indicator: Name of the indicator.
        fidelity: How the indicator is computed.
        seed: Seed of the supernet and of the sampler.
        n_seeds: Supernets that a score is averaged over.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        head_weight: Factor of the classifier in the indicator.
        bounds: Bounds on the costs.
        population_size: Trials of one generation; None outside :func:`tftas_optuna.search`.
        sampler: Name of the sampler; None outside :func:`tftas_optuna.search`.
        deployment: Device, hardware, batch size and threads of the costs that depend on them;
            None where none does.
        records: What was measured for costs, by name, such as the latency table.
    """

    space: SearchSpace
    metrics: tuple[str, ...]
    indicator: str
    fidelity: str
    seed: int
    n_seeds: int
    img_size: int
    num_classes: int
    head_weight: float
    bounds: Bounds = dataclasses.field(default_factory=dict)
    population_size: int | None = None
    sampler: str | None = None
    deployment: dict[str, Any] | None = None
    records: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def directions(self) -> list[Direction]:
        """Optuna directions of the objectives."""
        return [direction_of(name) for name in self.metrics]

    @cached_property
    def costs(self) -> tuple[CostName, ...]:
        """Costs that are known of every candidate."""
        used = [name for name in (*self.metrics, *self.bounds) if name in cost_names()]
        return tuple(dict.fromkeys((*COSTS, *used)))

    @cached_property
    def own_indicators(self) -> tuple[str, ...]:
        """Objectives that are indicators of the user."""
        return tuple(name for name in self.metrics if name not in ("dss", *self.costs))

    def cost(self, name: CostName, arch: Architecture) -> float:
        """Give a cost of an architecture."""
        if name not in self._meters:
            told: dict[str, Any] = {**self.input, **(self.deployment or {})}
            told.pop("hardware", None)
            target = Target(**told)
            self._meters[name] = get_cost(name).open(self.space, target, self.records.get(name))
        return self._meters[name](arch)

    @cached_property
    def _meters(self) -> dict[CostName, Meter]:
        return {}

    def violations(self, arch: Architecture) -> dict[str, float]:
        """Give the relative excess of an architecture over each bound."""
        return violations(lambda name: self.cost(name, arch), self.bounds)

    def measured(self, study: Study | None) -> StudySettings:
        """Measure what costs need before the first candidate, unless a study has it already.

        Raises:
            TftasError: No architecture of the space can meet a bound on what was measured.
        """
        known = study.user_attrs.get(_RECORDS, {}) if study is not None else {}
        settings = dataclasses.replace(self, records=known)
        for name in settings.costs:
            if get_cost(name).measured:
                if name in self.bounds:
                    cost = partial(settings.cost, name)
                    check_reachable(name, self.bounds[name], self.space, cost)
                else:
                    settings.cost(name, self.space.smallest())
        records = {name: meter.record for name, meter in settings._meters.items() if meter.record}
        return dataclasses.replace(self, records={**known, **records})

    def keep_records(self, study: Study) -> StudySettings:
        """Write what was measured into a study, unless another search has done so meanwhile."""
        if self.records and not study.user_attrs.get(_RECORDS):
            study.set_user_attr(_RECORDS, dict(self.records))
        return dataclasses.replace(self, records=study.user_attrs.get(_RECORDS, {}))

    @property
    def input(self) -> dict[str, int]:
        """Sizes that costs depend on, as arguments of :meth:`Architecture.costs`."""
        return {
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            "in_chans": self.space.in_chans,
        }

    def attributes(self) -> dict[str, Any]:
        """Give the user attributes of a study made with these settings."""
        return {
            "space": self.space.name,
            "space_definition": self.space.to_dict(),
            "indicator": self.indicator,
            "fidelity": self.fidelity,
            "seed": self.seed,
            "n_seeds": self.n_seeds,
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            "head_weight": self.head_weight,
            "bounds": {name: list(bound) for name, bound in self.bounds.items()},
            "population_size": self.population_size,
            "sampler": self.sampler,
            "deployment": self.deployment,
        }

    def _label(self, metric: str) -> str:
        approximate = metric == "dss" and self.fidelity != "exact"
        return f"dss_{self.fidelity}" if approximate else metric

    def write(self, study: Study) -> None:
        """Record the settings and the versions of what runs in a study.

        An approximation of DSS carries its name as a metric, such as ``dss_collapsed``.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([self._label(name) for name in self.metrics])
        record = {**self.attributes(), "versions": {name: _version(name) for name in _RECORDED}}
        # The last one marks the record as complete.
        record[_MARK] = record.pop(_MARK)
        for name, value in record.items():
            study.set_user_attr(name, value)

    @staticmethod
    def recorded(study: Study) -> bool:
        """Tell whether a study holds a complete record."""
        return _MARK in study.user_attrs and study.metric_names is not None

    @classmethod
    def read(cls, study: Study) -> StudySettings:
        """Read the settings back from a study.

        Raises:
            UnavailableError: The study was not made by this package, or its record is damaged.
        """
        attributes = study.user_attrs
        foreign = f"study {study.study_name!r} holds no architectures of tftas-optuna"
        metrics = study.metric_names
        if not cls.recorded(study) or metrics is None:
            raise UnavailableError(f"{foreign}; make one with `tftas-optuna run`")
        try:
            return cls(
                space=space_from_dict(attributes["space_definition"]),
                metrics=tuple("dss" if name.startswith("dss_") else name for name in metrics),
                indicator=str(attributes["indicator"]),
                fidelity=str(attributes["fidelity"]),
                seed=int(attributes["seed"]),
                n_seeds=int(attributes["n_seeds"]),
                img_size=int(attributes["img_size"]),
                num_classes=int(attributes["num_classes"]),
                head_weight=float(attributes["head_weight"]),
                bounds={name: (low, high) for name, (low, high) in attributes["bounds"].items()},
                population_size=attributes["population_size"],
                sampler=attributes["sampler"],
                deployment=attributes.get("deployment"),
                records=attributes.get(_RECORDS, {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnavailableError(f"{foreign}, or its record is damaged ({error})") from error

    def check_continues(self, study: Study) -> None:
        """Make sure that new trials would mean the same as those already in a study.

        Raises:
            UnavailableError: A setting differs; names it and both values.
        """
        theirs = StudySettings.read(study)
        if theirs.metrics != self.metrics:
            raise UnavailableError(
                f"study {study.study_name!r} optimises {', '.join(theirs.metrics)}, not"
                f" {', '.join(self.metrics)}; give another --study-name"
            )
        old, new = theirs.attributes(), self.attributes()
        for name in new:
            # A study from elsewhere has no sampler of its own.
            if old[name] is not None and old[name] != new[name]:
                what = name.replace("_", " ")
                raise UnavailableError(
                    f"study {study.study_name!r} was made with {what} {_brief(old[name])}, not"
                    f" {_brief(new[name])}; use the same to continue it, or give another"
                    " --study-name"
                )


def deployment_for(
    settings: StudySettings, device: str, *, batch_size: int = 1, threads: int | None = None
) -> dict[str, Any] | None:
    """Describe what costs are measured on, where one of a study's costs depends on it.

    Args:
        settings: The study.
        device: Name of the device; it must be there only if a cost depends on it.
        batch_size: Images at once.
        threads: Threads of the CPU; None for torch's own number.

    Raises:
        TftasError: The device is needed and is not there.
    """
    if not any(get_cost(name).deployed for name in settings.costs):
        return None
    from tftas_optuna.costs.latency import default_threads, device_name
    from tftas_optuna.indicators.device import resolve_device

    target = Target(device=str(resolve_device(device)), batch_size=batch_size, threads=threads)
    return {
        "device": target.device,
        "hardware": device_name(target.device),
        "batch_size": target.batch_size,
        "threads": target.threads or default_threads(),
    }


def architecture_of(trial: FrozenTrial, settings: StudySettings) -> Architecture:
    """Decode the architecture of a trial.

    Raises:
        UnavailableError: Its parameters are not of the study's space.
    """
    return settings.space.decode(trial.params)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
