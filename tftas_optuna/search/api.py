"""The public function ``search``: it checks its arguments, opens everything and runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from functools import partial
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import DuplicatedStudyError

from tftas_optuna._given import check_callback, expect, whole
from tftas_optuna.architecture import architectures_of
from tftas_optuna.bars import Bars
from tftas_optuna.costs import Deployment
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import Meters, check_reachable, get_cost
from tftas_optuna.samplers import generation_sizes
from tftas_optuna.scoring.basis import open_supernet
from tftas_optuna.scoring.conditions import (
    Conditions,
    EvaluationSource,
    ImageSource,
    SupernetSource,
    batches_seen,
)
from tftas_optuna.scoring.execution import check_execution
from tftas_optuna.scoring.panel import Scores
from tftas_optuna.scoring.reference import score_reference
from tftas_optuna.scoring.task import ScoringTask
from tftas_optuna.search.coordinator import Coordinator
from tftas_optuna.search.extrapolating import warn_of_front, warn_of_space
from tftas_optuna.search.held_out import score_held_out
from tftas_optuna.search.history import History, read_past
from tftas_optuna.search.planning import make_settings
from tftas_optuna.search.progress import StopRules
from tftas_optuna.search.proposals import Proposer
from tftas_optuna.search.rescore import rescore
from tftas_optuna.spaces import get_space
from tftas_optuna.storage import (
    TrialWriter,
    claim_island,
    keep,
    make_append,
    merge_rescued,
    open_storage,
    storage_name,
    told_in_one_line,
    write_lock,
)
from tftas_optuna.storage.renaming import LONGEST_NAME
from tftas_optuna.study.front import pareto_front
from tftas_optuna.study.record import (
    as_recorded,
    check_continues,
    check_directions,
    has_settings,
    keep_measured,
    keep_meter_records,
    keep_reference,
    measured,
    meter_records,
    reference,
    write_settings,
)
from tftas_optuna.study.selection import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

    from tftas_optuna.architecture import Architecture, ArchitectureLike
    from tftas_optuna.metrics import Bound
    from tftas_optuna.scoring.execution import Execution
    from tftas_optuna.scoring.pool import ScoresOf
    from tftas_optuna.search.coordinator import ScoringOf
    from tftas_optuna.search.progress import SearchProgress
    from tftas_optuna.spaces import SpaceLike
    from tftas_optuna.study.settings import StudySettings


@told_in_one_line()
def search(
    space: SpaceLike,
    *,
    n_trials: int,
    objectives: str | Sequence[str] = ("dss", "n_params"),
    bounds: Mapping[str, Bound] | None = None,
    start: ArchitectureLike | Iterable[ArchitectureLike] = (),
    storage: str | os.PathLike[str] | BaseStorage | None = None,
    study_name: str | None = None,
    sampler: str | BaseSampler | None = None,
    population_size: int | None = None,
    seed: int = 0,
    supernet: str | os.PathLike[str] | None = None,
    supernet_seed: int | None = None,
    n_seeds: int = 1,
    fidelity: str = "auto",
    n_exact: int | None = 20,
    img_size: int | None = None,
    num_classes: int | None = None,
    n_images: int | None = None,
    data_dir: str | None = None,
    execution: Execution | None = None,
    deployment: Deployment | None = None,
    timeout: float | None = None,
    patience: int | None = None,
    progress: bool = False,
    callback: Callable[[SearchProgress], None] | None = None,
) -> Study:
    """Search a space and keep every trial in an ordinary Optuna study.

    A study of the same name in the storage is continued. The randomness of a generation derives
    from the seed and the generation's number alone, and scores do not depend on where they are
    computed (to the last digit on a CPU): a run that was cut off and continued leaves the same
    trials as one that was not, with one worker or many. A proposal that was tried already, or
    whose costs are out of bounds, is replaced before it is scored by the result of a random walk
    from it, and kept only if the walk finds nothing. If the search is interrupted
    (``KeyboardInterrupt``), finished scores are stored before the exception is raised again.

    An architecture without a finite score is a failed trial; its user attribute ``failure`` holds
    the reason. Trials that are not architectures of the space are skipped, with a warning on the
    logger ``tftas_optuna``.

    Several searches may work on one study at the same time: each learns from the trials of the
    others, and an architecture that two of them try at the same time is stored once.

    Args:
        space: The search space, as :func:`tftas_optuna.get_space` takes it: such as the name of
            a preset.
        n_trials: Trials to add.
        objectives: What to optimise, in order: names of indicators and of costs; see
            :func:`tftas_optuna.metrics.metric_names`. Nothing else is scored.
        bounds: Lowest and highest allowed value by name, such as ``{"n_params": (None, 6e6)}``;
            they become Optuna constraints.
        start: Architectures to try first, or candidates of a front; they join the population.
        storage: An Optuna storage, or one as :func:`tftas_optuna.storage.open_storage` takes it;
            None for memory.
        study_name: Name of the study; by default the space's.
        sampler: ``"screened-nsgaii"`` (:class:`tftas_optuna.ScreenedNSGAIISampler`, which knows
            the costs and tries the smallest and the largest architecture first), ``"nsgaii"``,
            ``"nsgaiii"``, ``"tpe"``, ``"gp"``, ``"random"``, or an Optuna sampler, whose
            randomness goes on from where it is, so a continued run differs. By default that of
            the study, and the first of these for a new one.
        population_size: Trials of one generation; by default those of the study, and for a new
            one 20 with ``"screened-nsgaii"``, 1 with ``"gp"``, else 50. With the first it is that
            of the first generations; later ones grow to a twentieth of the trials before them,
            up to 256.
        seed: Seed of the sampler.
        supernet: The weights that candidates are cut from: ``"drawn"`` from the supernet seed, or
            the path of a trained supernet, or ``timm:NAME``, which has to be given again when
            the study is continued; see :class:`tftas_optuna.Scorer`. By default they are drawn.
        supernet_seed: Seed of the first supernet; the sampler's seed by default.
        n_seeds: Supernets to average over, with the seeds ``supernet_seed``,
            ``supernet_seed + 1``, ...
        fidelity: The fidelity of indicators that support it: ``"exact"``, ``"collapsed"`` (see
            :class:`tftas_optuna.Scorer`), or ``"auto"``: that of the study, and for a new study
            collapsed if that is known to rank the family's candidates alike
            (:attr:`tftas_optuna.Family.ranked_alike`) on a drawn supernet, else exact.
        n_exact: Members of the final front, spread over it, whose approximated indicators are
            computed exactly in the end, and whose accuracy on held-out images if labelled ones
            were searched on; None for all of them. See :func:`tftas_optuna.score_exactly` for any
            others.
        img_size: Height and width of the input, in pixels; by default those of the trained
            supernet or the space.
        num_classes: Outputs of the classifier; likewise.
        n_images: Images of one batch, for indicators that see images, by default 8; and the
            number of labelled images for ``accuracy`` and ``cross_entropy``, by default all.
        data_dir: A folder of pictures, one folder for each class, for them to see in place of
            noise, or as labelled images; half of these, or those in its folder ``test``, are held
            out for the accuracies that the front reports. Where scores are computed in several
            places, each needs it.
        execution: Where scores are computed: device, workers or a cluster.
        deployment: Batch size and threads, where latency or peak memory is asked for. Latency is
            measured on the device of ``execution`` before the first trial, and kept with the
            study.
        timeout: Seconds after which no further score is begun; None for no limit.
        patience: Generations after which to stop when they have added less than 0.1 % to the
            front's hypervolume; None never stops for that.
        progress: Whether to show a progress bar.
        callback: Called before the first and after every trial, and after every exact score in
            the end. What it raises ends the search.

    Returns:
        The study, with metric names and with user attributes that say what made it.

    Raises:
        TftasError: An argument is out of range, the bounds exclude the whole space, an
            architecture to start from is not in it, or hardly any architecture has a score.
        UnavailableError: The storage, the cluster, the pictures or the supernet cannot be
            reached, or the study was made with other settings.

    Example:
        >>> from tftas_optuna import pareto_front, search
        >>> study = search("autoformer-tiny", n_trials=50)
        >>> smallest = pareto_front(study)[0]
    """
    space, n_trials = get_space(space), whole("n_trials", n_trials)
    seed = whole("seed", seed, 0)
    if n_exact is not None:
        n_exact = whole("n_exact", n_exact, 0)
    if patience is not None:
        patience = whole("patience", patience)
    if timeout is not None:
        expect("timeout", timeout, (int, float), "seconds")
    check_callback(callback)
    execution = check_execution(execution)
    if isinstance(storage, os.PathLike):
        storage = os.fspath(storage)
    conditions = Conditions.of(
        space,
        img_size=img_size,
        num_classes=num_classes,
        supernet=SupernetSource.of(supernet, seed if supernet_seed is None else supernet_seed),
        n_seeds=n_seeds,
        images=ImageSource.of(n_images, data_dir),
        evaluation=EvaluationSource.of(n_images, data_dir),
    )
    settings = make_settings(
        conditions,
        objectives=objectives,
        bounds=bounds,
        sampler=sampler,
        population_size=population_size,
        seed=seed,
        fidelity=fidelity,
    )
    if any(get_cost(name).deployed for name in settings.costs):
        deployment = Deployment() if deployment is None else deployment
        expect("deployment", deployment, Deployment, "Deployment(batch_size=..., threads=...)")
        on = deployment.on(execution.device)
        settings = dataclasses.replace(settings, deployment=on)
    if conditions.supernet.path is not None:
        # Raises an error if the weights do not fit, before anything is created.
        open_supernet(conditions)
    start = architectures_of(start)
    for arch in start:
        space.encode(arch)
    name = expect("study_name", study_name or space.name, str, "text")
    if not name.isprintable():
        raise TftasError(
            f"study_name {name!r} is no text in the locale of this process; give one of printable"
            " characters, or set LC_ALL=C.UTF-8"
        )
    if len(name) > LONGEST_NAME:
        raise TftasError(
            f"study_name has {len(name)} characters, allowed are at most {LONGEST_NAME}"
        )
    with contextlib.ExitStack() as open_for_search:
        bars = open_for_search.enter_context(Bars(progress))

        def tell(reached: SearchProgress) -> None:
            reached.show(bars, name)
            if callback is not None:
                callback(reached)

        pool = None
        if settings.indicators:
            # Opened first, so that no study is created if nothing can score it.
            batches = batches_seen(settings.indicators)
            pool = open_for_search.enter_context(execution.open_pool(settings.conditions, batches))
        opened = open_storage(storage, create=True) if storage is not None else None
        stored = _load_study(opened, name)
        if stored is not None and has_settings(stored):
            is_default = {
                "sampler": sampler is None,
                "population_size": population_size is None,
                "fidelity": fidelity == "auto",
                "approximated": fidelity == "auto",
            }
            names = [name for name, default in is_default.items() if default]
            settings = as_recorded(settings, stored, names)
        if stored is not None:
            _check_joins(stored, settings)
        task = ScoringTask.of(settings.conditions, settings.indicators, settings.fidelity)
        if pool is not None:
            pool.prepare(task)
        meters = _open_meters(settings, stored, opened, name)
        study, opened = _open_study(opened, name, settings)
        # If several searches start together, all use what the first one has written.
        with write_lock(study, opened):
            keep_meter_records(study, meters.records)
        if meter_records(study) != meters.records:
            meters = Meters(settings.costs, space, settings.target, meter_records(study))
        scores: ScoringOf = _no_scores
        if pool is not None:
            values = score_reference(pool, task, reference(study), settings.target)
            with write_lock(study, opened):
                keep(partial(keep_reference, study, values))
            # What the study has counts, but it may lack a part.
            values = {**values, **(reference(study) or {})}
            scores = partial(pool.scores, task.looking_at(values))
        claim = claim_island(opened, study.study_name)
        open_for_search.callback(claim.release)
        warn_of_space(settings)
        where = storage_name(storage)
        append = make_append(study, opened)
        if storage is not None:
            merge_rescued(study, where, settings, append)
        assert settings.sampler is not None and settings.population_size is not None
        sizes = generation_sizes(settings.sampler, settings.population_size)
        users = sampler if isinstance(sampler, optuna.samplers.BaseSampler) else None
        past = read_past(study, settings, claim.island, sizes)
        proposer = Proposer(settings, meters, users, claim.island, start)
        reached = Coordinator(
            settings,
            History(study.study_name, settings, meters, past, proposer),
            proposer,
            scores,
            open_writer=partial(
                TrialWriter,
                study,
                append,
                settings,
                claim,
                storage_name=where,
                last_number=past.last_number,
            ),
            stop=StopRules(
                n_trials, None if timeout is None else time.monotonic() + timeout, patience
            ),
            callback=tell,
        ).run(past.partial)

        def report() -> None:
            tell(reached)

        def report_exact(n_exact: int, n_wanted: int) -> None:
            tell(reached._replace(n_exact=n_exact, n_exact_wanted=n_wanted))

        if pool is not None:
            front = pareto_front(study)
            members = front if n_exact is None else spread(front, n_exact, settings)
            if settings.approximated:
                rescore(study, settings, members, pool, report_exact)
            score_held_out(study, settings, members, pool, report)
            warn_of_front(settings, front)
    return study


def _no_scores(archs: Sequence[Architecture], needed: set[Architecture]) -> Iterator[ScoresOf]:
    """Yield empty scores, for studies of costs alone."""
    yield {arch: Scores({}) for arch in needed}


def _open_meters(
    settings: StudySettings, study: Study | None, storage: BaseStorage | None, study_name: str
) -> Meters:
    """Make the measurements that costs need, unless the study has them already.

    Args:
        settings: The settings of the search.
        study: The study, if it exists.
        storage: The storage of the study, if any.
        study_name: Name of the study.

    Raises:
        TftasError: No architecture of the space can meet a bound on a measured cost. The
            measurements are stored all the same, for the next try.
    """
    space = settings.space
    meters = Meters(settings.costs, space, settings.target, measured(study, settings))
    try:
        for name in settings.costs:
            if not get_cost(name).measured:
                continue
            if name in settings.bounds:
                check_reachable(name, settings.bounds[name], space, partial(meters.cost, name))
            else:
                meters.cost(name, space.smallest())
    except TftasError:
        if meters.records and storage is not None:
            study = _create_or_load(storage, study_name, settings)
            if has_settings(study):
                keep_meter_records(study, meters.records)
            else:
                keep_measured(study, settings, meters.records)
        raise
    return meters


def _load_study(storage: BaseStorage | None, name: str) -> Study | None:
    if storage is None or name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _open_study(
    storage: BaseStorage | None, name: str, settings: StudySettings
) -> tuple[Study, BaseStorage]:
    storage = storage if storage is not None else optuna.storages.InMemoryStorage()
    study = _create_or_load(storage, name, settings)
    if _is_empty(study):
        check_directions(study, settings)
        write_settings(study, settings)
    check_continues(study, settings)
    return study, storage


def _create_or_load(storage: BaseStorage, name: str, settings: StudySettings) -> Study:
    try:
        return optuna.create_study(
            storage=storage, study_name=name, directions=list(settings.directions)
        )
    except DuplicatedStudyError:
        return optuna.load_study(study_name=name, storage=storage)


def _is_empty(study: Study) -> bool:
    """Return whether a study has neither trials nor settings."""
    return not study.get_trials(deepcopy=False) and not has_settings(study)


def _check_joins(study: Study, settings: StudySettings) -> None:
    """Check that a search with these settings can continue a study.

    Raises:
        UnavailableError: The settings differ.
    """
    if _is_empty(study):
        check_directions(study, settings)
    else:
        check_continues(study, settings)
