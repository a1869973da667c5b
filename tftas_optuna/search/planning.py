"""The arguments of a search, checked and turned into the settings of its study."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tftas_optuna._given import whole
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import check_bounds, check_objectives, get_indicator, get_metric
from tftas_optuna.samplers import (
    SCREENED,
    make_sampler,
    sampler_name,
    users_population_size,
    usual_population_size,
)
from tftas_optuna.scoring.basis import resolve_images
from tftas_optuna.scoring.conditions import batches_seen, sees_labelled
from tftas_optuna.scoring.fidelity import choose_fidelity
from tftas_optuna.study.settings import StudySettings, recipes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.samplers import BaseSampler

    from tftas_optuna.metrics import Bound
    from tftas_optuna.scoring.conditions import Conditions


def make_settings(
    conditions: Conditions,
    *,
    objectives: Sequence[str],
    bounds: Mapping[str, Bound] | None = None,
    sampler: str | BaseSampler | None = None,
    population_size: int | None = None,
    seed: int = 0,
    fidelity: str = "auto",
) -> StudySettings:
    """Check the arguments of a search and return its settings; see :func:`tftas_optuna.search`.

    If an indicator sees pictures, they are read for their digest.

    Raises:
        TftasError: An argument is out of range, or does not apply.
        UnavailableError: The pictures cannot be read.
    """
    space = conditions.space
    checked = check_objectives(objectives, space.family)
    sampler = SCREENED if sampler is None else sampler
    name = sampler_name(sampler)
    size = users_population_size(sampler) or population_size
    size = usual_population_size(name) if size is None else size
    size = whole("population_size", size, 1 if name == "gp" else 2)
    if isinstance(sampler, str) and sampler != SCREENED:
        make_sampler(sampler, size, seed)
    sizes = {"img_size": conditions.img_size, "num_classes": conditions.num_classes}
    settings = StudySettings(
        conditions,
        objectives=checked,
        directions=tuple(get_metric(name).direction for name in checked),
        fidelity=fidelity,
        bounds=check_bounds(bounds, space, **sizes),
        seed=seed,
        population_size=size,
        sampler=name,
    )
    images = conditions.images
    if (
        images is not None
        and images.data_dir is not None
        and not batches_seen(settings.indicators)
        and not sees_labelled(settings.indicators)
    ):
        what = ", ".join(settings.indicators) or "no indicator"
        raise TftasError(
            f"data_dir does not apply: this study computes {what}, which sees no images; leave it"
            " out"
        )
    conditions = resolve_images(conditions, settings.indicators)
    settings = dataclasses.replace(
        settings, conditions=conditions, recipes=recipes_of(settings.indicators)
    )
    for indicator in settings.indicators:
        get_indicator(indicator).check_conditions(conditions)
    fidelity, approximated = choose_fidelity(fidelity, settings.indicators, conditions)
    return dataclasses.replace(settings, fidelity=fidelity, approximated=approximated)
