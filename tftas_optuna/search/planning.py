"""What a search is asked for, checked and written down as the settings of its study."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family
from tftas_optuna.indicators.composite import CompositeIndicator, Conditions
from tftas_optuna.indicators.images import pictures
from tftas_optuna.indicators.scorer import check_family_fidelity
from tftas_optuna.indicators.task import batches_seen, fidelity_of
from tftas_optuna.metrics import check_bounds, check_objectives, get_indicator, get_metric
from tftas_optuna.samplers import (
    SCREENED,
    make_sampler,
    sampler_name,
    users_population_size,
    usual_population_size,
)
from tftas_optuna.study.settings import StudySettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.samplers import BaseSampler

    from tftas_optuna.metrics import Bound
    from tftas_optuna.spaces import SearchSpace


def make_settings(
    space: SearchSpace,
    *,
    objectives: Sequence[str],
    bounds: Mapping[str, Bound] | None,
    sampler: str | BaseSampler | None,
    population_size: int | None,
    seed: int,
    supernet_seed: int | None,
    n_seeds: int,
    fidelity: str,
    img_size: int | None,
    num_classes: int | None,
    n_images: int,
    data_dir: str | None,
) -> StudySettings:
    """Check what a study is made of, and write it down; see :func:`tftas_optuna.search`.

    Raises:
        TftasError: An argument is out of range, or does not apply.
        UnavailableError: The pictures cannot be read.
    """
    checked = check_objectives(objectives, space.family)
    sampler = SCREENED if sampler is None else sampler
    name = sampler_name(sampler)
    size = users_population_size(sampler) or population_size
    size = usual_population_size(name) if size is None else size
    least = 1 if name == "gp" else 2
    if size < least:
        raise TftasError(f"population_size is {size}, allowed is {least} or more")
    if isinstance(sampler, str) and sampler != SCREENED:
        make_sampler(sampler, size, seed)
    if n_seeds < 1:
        raise TftasError(f"n_seeds is {n_seeds}, allowed is 1 or more")
    img_size = space.img_size if img_size is None else img_size
    num_classes = space.num_classes if num_classes is None else num_classes
    settings = StudySettings(
        space=space,
        objectives=checked,
        directions=tuple(get_metric(name).direction for name in checked),
        fidelity=fidelity,
        supernet_seed=seed if supernet_seed is None else supernet_seed,
        n_seeds=n_seeds,
        img_size=img_size,
        num_classes=num_classes,
        bounds=check_bounds(bounds, space, img_size=img_size, num_classes=num_classes),
        seed=seed,
        population_size=size,
        sampler=name,
    )
    settings = _with_images(settings, n_images, data_dir)
    check_composites(settings)
    if fidelity == "auto":
        collapsible = [n for n in settings.indicators if fidelity_of(n, "collapsed") != "exact"]
        alike = get_family(space.family).ranked_alike
        fidelity = "collapsed" if collapsible and set(collapsible) <= set(alike) else "exact"
        settings = dataclasses.replace(settings, fidelity=fidelity)
    if fidelity == "exact":
        return settings
    check_family_fidelity(space.family, fidelity)
    known = [name for name in settings.indicators if fidelity_of(name, fidelity) == fidelity]
    if not known:
        what = ", ".join(settings.indicators) or "no indicator"
        raise TftasError(
            f"fidelity {fidelity!r} does not apply: this study computes {what}, which has none of"
            " that name; leave it out"
        )
    return dataclasses.replace(settings, approximated=tuple(known))


def conditions_of(settings: StudySettings) -> Conditions:
    """Return what the values of indicators depend on besides the candidate."""
    return Conditions(
        settings.space,
        settings.supernet_seed,
        settings.n_seeds,
        settings.img_size,
        settings.num_classes,
        settings.n_images,
        settings.pictures,
    )


def check_composites(settings: StudySettings) -> None:
    """Check that indicators made of others mean what they say under some settings.

    Raises:
        TftasError: One does not.
    """
    conditions = conditions_of(settings)
    for indicator in map(get_indicator, settings.indicators):
        if isinstance(indicator, CompositeIndicator):
            indicator.check_conditions(conditions)


def _with_images(settings: StudySettings, n_images: int, data_dir: str | None) -> StudySettings:
    """Add what the indicators see, if any of them sees images."""
    if n_images < 2:
        raise TftasError(f"n_images is {n_images}, allowed is 2 or more")
    batches = batches_seen(settings.indicators)
    if not batches:
        if data_dir is not None:
            what = ", ".join(settings.indicators) or "no indicator"
            raise TftasError(
                f"data_dir does not apply: this study computes {what}, which sees no images; leave"
                " it out"
            )
        return settings
    pictures_are = "noise"
    if data_dir is not None:
        space = settings.space
        shape = (space.in_chans, settings.img_size, settings.img_size)
        found = pictures(
            data_dir, settings.supernet_seed, n_images, shape, settings.num_classes, batches
        )
        pictures_are = found.digest
    return dataclasses.replace(
        settings, n_images=n_images, pictures=pictures_are, data_dir=data_dir
    )
