"""What made a study: written into it, read back from it, and compared before going on."""

from __future__ import annotations

import dataclasses
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

from optuna.exceptions import ExperimentalWarning

from tftas_optuna.errors import UnavailableError
from tftas_optuna.spaces import SearchSpace, space_from_dict
from tftas_optuna.study.metrics import DIRECTIONS, Bounds, Direction, check_metrics

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture

_MARK = "space_definition"
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

    @property
    def directions(self) -> list[Direction]:
        """Optuna directions of the objectives."""
        return [DIRECTIONS[name] for name in self.metrics]

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
                metrics=check_metrics(
                    "dss" if name.startswith("dss_") else name for name in metrics
                ),
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
