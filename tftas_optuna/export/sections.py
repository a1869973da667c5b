"""The ``search`` section of an exported file: the settings of its scores."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import InputFileError
from tftas_optuna.scoring.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.study.settings import StudySettings

# Settings that a file has elsewhere, or that are not needed to compute its scores again.
_LEFT_OUT = (
    "space",
    "space_definition",
    "img_size",
    "num_classes",
    "data_dir",
    "labelled_dir",
    "population_size",
    "sampler",
    "recipes",
)


@dataclasses.dataclass(frozen=True)
class SearchSection:
    """The settings that scores were computed with.

    Attributes:
        conditions: The conditions of the scores; the sizes are the space's own.
        fidelity: The fidelity of approximated indicators.
        options: Options of indicators that differ from their defaults, by indicator.
    """

    conditions: Conditions
    fidelity: str = "exact"
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def write_section(settings: StudySettings) -> dict[str, Any]:
    """Return the section of a study's files as plain data."""
    section = {n: value for n, value in settings.attributes().items() if n not in _LEFT_OUT}
    return {**section, "space": settings.space.to_dict()}


def read_section(data: Any, where: str) -> SearchSection:
    """Read a section, also one of release 0.1.

    Release 0.1 used one seed for the sampler and the supernet, and stored the one option of its
    one indicator beside the seed.

    Args:
        data: The section as plain data.
        where: Name of the file in an error.

    Raises:
        UnavailableError: It is damaged.
    """
    try:
        options = {name: dict(values) for name, values in data.get("options", {}).items()}
        of_dss = options.get("dss", {})
        head_weight = float(of_dss.get("head_weight", data.get("head_weight", 1.0)))
        if head_weight != 1.0:
            options["dss"] = {**of_dss, "head_weight": head_weight}
        seed = data["supernet_seed"] if "supernet_seed" in data else data["seed"]
        return SearchSection(
            conditions=Conditions.from_dict(
                {"n_seeds": 1, **data, "supernet_seed": seed, "space_definition": data["space"]}
            ),
            fidelity=str(data.get("fidelity", "exact")),
            options=options,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputFileError(f"{where}: its search section is damaged ({error})") from error
