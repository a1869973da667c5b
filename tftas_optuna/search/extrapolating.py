"""Tells where a search leaves the range of the networks that an objective was calibrated on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tftas_optuna.metrics.units import short
from tftas_optuna.scoring.calibrated import calibrations, sizes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

    Ranges = Mapping[str, tuple[float, float]]

_LOG = logging.getLogger("tftas_optuna")


def warn_of_space(settings: StudySettings) -> None:
    """Warn if the space, within its bounds, reaches beyond what a calibration has seen.

    MACs are left out here: they grow with the parameters, which a user is more likely to bound.
    """
    for indicator in calibrations(settings.indicators):
        known = indicator.calibrated_on
        corners = [
            sizes_of(arch, settings.target)
            for arch in (settings.space.smallest(), settings.space.largest())
        ]
        reached = {}
        for name in known.keys() & {"n_params", "depth", "width"}:
            least, most = sorted(corner[name] for corner in corners)
            low, high = settings.bounds.get(name, (None, None))
            reached[name] = max(least, low or least), min(most, high or most)
        beyond = [
            name
            for name in known
            if name in reached
            and (reached[name][0] < known[name][0] or reached[name][1] > known[name][1])
        ]
        if beyond:
            _LOG.warning(
                "%s was calibrated on %s; this search reaches %s: outside of that its values are"
                " extrapolated",
                indicator.name,
                _listed(known, beyond),
                _listed(reached, beyond),
            )


def warn_of_front(settings: StudySettings, front: Sequence[Candidate]) -> None:
    """Warn of members of the front beyond what a calibration has seen, with their number."""
    for indicator in calibrations(settings.indicators):
        known = indicator.calibrated_on
        outside = 0
        for candidate in front:
            sizes = sizes_of(candidate.architecture, settings.target)
            outside += any(not known[n][0] <= sizes[n] <= known[n][1] for n in known)
        if outside:
            _LOG.warning(
                "%d of %d on the front lie outside of what %s was calibrated on (%s): its values"
                " of them are extrapolated",
                outside,
                len(front),
                indicator.name,
                _listed(known, known),
            )


def _listed(ranges: Ranges, names: Sequence[str] | Ranges) -> str:
    return ", ".join(
        f"{name} {short(ranges[name][0])} - {short(ranges[name][1])}" for name in names
    )
