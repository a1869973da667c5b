"""The ``search`` section of an exported file: what the scores in it were computed with."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import UnavailableError
from tftas_optuna.spaces import SearchSpace, space_from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.study.settings import StudySettings

_RECORDED = (
    "objectives",
    "fidelity",
    "approximated",
    "seed",
    "supernet_seed",
    "n_seeds",
    "options",
    "bounds",
    "deployment",
    "n_images",
    "pictures",
)


@dataclasses.dataclass(frozen=True)
class SearchSection:
    """What scores were computed with.

    Attributes:
        space: The search space.
        supernet_seed: Seed of the first supernet.
        n_seeds: Supernets that a score is averaged over.
        fidelity: How the approximated indicators are computed.
        options: Options of indicators that are not the usual ones, by indicator.
    """

    space: SearchSpace
    supernet_seed: int
    n_seeds: int = 1
    fidelity: str = "exact"
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def write_section(settings: StudySettings) -> dict[str, Any]:
    """Return the section of a study's files as plain data."""
    recorded = settings.attributes()
    return {**{name: recorded[name] for name in _RECORDED}, "space": recorded["space_definition"]}


def read_section(data: Any, where: str) -> SearchSection:
    """Read the section, that of release 0.1 too.

    Release 0.1 used one seed for the sampler and the supernet, and had one indicator with one
    option, which stood beside the seed.

    Args:
        data: The section as plain data.
        where: What to name in an error.

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
            space=space_from_dict(data["space"]),
            supernet_seed=int(seed),
            n_seeds=int(data.get("n_seeds", 1)),
            fidelity=str(data.get("fidelity", "exact")),
            options=options,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(f"{where}: its search section is damaged ({error})") from error
