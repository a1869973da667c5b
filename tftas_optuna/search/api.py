"""The search: everything checked and opened, then run."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import DuplicatedStudyError

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.scorer import check_fidelity
from tftas_optuna.indicators.task import ScoringTask
from tftas_optuna.metrics.bounds import check_bounds, check_metrics
from tftas_optuna.samplers import make_sampler, own_population_size, sampler_name
from tftas_optuna.search.coordinator import Coordinator
from tftas_optuna.search.executors import (
    ScoringPool,
    Workforce,
    dask_cluster,
    this_process,
    worker_processes,
)
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.search.proposals import Proposer
from tftas_optuna.search.rescore import rescore_front
from tftas_optuna.storage import (
    claim_island,
    make_append,
    merge_rescued,
    open_storage,
    storage_name,
)
from tftas_optuna.study.settings import StudySettings, deployment_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics.bounds import CostName
    from tftas_optuna.spaces import SearchSpace


def search(
    space: SearchSpace,
    *,
    n_trials: int,
    storage: str | BaseStorage | None = None,
    study_name: str | None = None,
    metrics: Sequence[str] = ("dss", "n_params"),
    constraints: Mapping[CostName, tuple[float | None, float | None]] | None = None,
    sampler: str | BaseSampler | None = None,
    population_size: int = 50,
    seed: int = 0,
    n_seeds: int = 1,
    start: Sequence[Architecture] = (),
    fidelity: str = "exact",
    device: str = "auto",
    img_size: int | None = None,
    num_classes: int | None = None,
    workers: int = 1,
    cluster: str | None = None,
    latency_batch_size: int = 1,
    latency_threads: int | None = None,
    timeout: float | None = None,
    patience: int | None = None,
    callback: Callable[[SearchProgress], None] | None = None,
) -> Study:
    """Search a space and keep every trial in an ordinary Optuna study.

    A study of the same name in the storage is continued. The randomness of a generation derives
    from the seed and the generation's number alone, and scores do not depend on where they are
    computed (to the last digit on a CPU): a run that was cut off and continued leaves the same
    trials as one that was not, with one worker or many. No architecture is tried twice as long as
    there are others, and none out of bounds as long as others are near. When interrupted
    (``KeyboardInterrupt``), what is scored is stored before the exception goes on.

    Several searches may work on one study at the same time: each takes in what the others found,
    and what two try at the same moment is stored once.

    Args:
        space: The search space.
        n_trials: Trials to add.
        storage: An Optuna storage, or one as :func:`tftas_optuna.storage.open_storage`
            takes it; None for memory.
        study_name: Name of the study; by default the space's.
        metrics: Objectives: ``"dss"``, names of costs (see :mod:`tftas_optuna.costs`) and of
            indicators of your own.
        constraints: Lowest and highest allowed value by cost name; see :class:`DSSObjective`.
        sampler: ``"nsgaii"``, ``"nsgaiii"``, ``"tpe"``, ``"random"``, or an Optuna sampler. The
            randomness of such an object is its own, so a continued run differs. By default
            NSGA-II for up to two objectives, NSGA-III for more.
        population_size: Trials of one generation.
        seed: Seed of the sampler and of the supernet.
        n_seeds: Supernets to average over.
        start: Architectures to try first; they join the population.
        fidelity: How the indicator is computed; see :class:`tftas_optuna.Scorer`. A collapsed
            search re-scores its final front exactly, see :mod:`tftas_optuna.search.rescore`.
        device: Where it is computed.
        img_size: Height and width of the input, in pixels; the space's own by default.
        num_classes: Outputs of the classifier; the space's own by default.
        workers: Processes of this machine to score in. With more than one, a script needs the
            usual ``if __name__ == "__main__"``.
        cluster: Address of a Dask scheduler to score on instead.
        latency_batch_size: Images at once, where latency or peak memory is asked for. Latency
            is measured on ``device`` before the first trial, and kept with the study.
        latency_threads: Threads of the CPU for latency; None for torch's own number.
        timeout: Seconds after which no further score is begun; None for no limit.
        patience: Generations after which to stop when they have added less than 0.1 % to the
            front's hypervolume; None never stops for that.
        callback: Called before the first and after every trial. What it raises ends the search.

    Returns:
        The study, with metric names and with user attributes that say what made it.

    Raises:
        TftasError: An argument is out of range, the constraints exclude the whole space, an
            architecture to start from is not in it, the storage or the cluster cannot be reached,
            or the study was made with other settings.
    """
    if n_trials < 1:
        raise TftasError(f"n_trials is {n_trials}, allowed is 1 or more")
    if sampler is None:
        sampler = "nsgaii" if len(metrics) <= 2 else "nsgaiii"
    population_size = own_population_size(sampler) or population_size
    if population_size < 2:
        raise TftasError(f"population_size is {population_size}, allowed is 2 or more")
    if patience is not None and patience < 1:
        raise TftasError(f"patience is {patience}, allowed is 1 or more")
    if isinstance(sampler, str):
        make_sampler(sampler, population_size, seed)
    sizes: dict[str, Any] = {
        "img_size": space.img_size if img_size is None else img_size,
        "num_classes": space.num_classes if num_classes is None else num_classes,
    }
    settings = StudySettings(
        space=space,
        metrics=check_metrics(metrics),
        indicator="dss",
        fidelity=check_fidelity(fidelity),
        seed=seed,
        n_seeds=n_seeds,
        head_weight=1.0,
        bounds=check_bounds(constraints, space, **sizes),
        population_size=population_size,
        sampler=sampler_name(sampler),
        **sizes,
    )
    settings = dataclasses.replace(
        settings,
        deployment=deployment_for(
            settings,
            device,
            batch_size=latency_batch_size,
            threads=latency_threads,
        ),
    )
    for arch in start:
        space.encode(arch)
    name = study_name or space.name
    if not name.isprintable():
        raise TftasError(
            f"study_name {name!r} is no text in the locale of this process; give one of printable"
            " characters, or set LC_ALL=C.UTF-8"
        )
    pool = ScoringPool(_task(settings, device), _workforce(workers, cluster, device))
    try:
        opened = open_storage(storage, create=True) if storage is not None else None
        settings = settings.measured(_stored(opened, name))
        study, opened = _open_study(opened, name, settings)
        settings = settings.keep_records(study)
        claim = claim_island(opened, study.study_name)
        try:
            where = storage_name(storage)
            append = make_append(study, opened)
            if storage is not None:
                merge_rescued(study, where, settings, append)
            proposer = Proposer(settings, sampler, population_size, claim.island, start)
            coordinator = Coordinator(
                study, append, where, settings, proposer, pool, claim, n_trials, callback
            )
            coordinator.go(time.monotonic() + timeout if timeout is not None else None, patience)
            if fidelity != "exact":
                rescore_front(study, pool)
        finally:
            claim.release()
    finally:
        pool.close()
    return study


def _task(settings: StudySettings, device: str) -> ScoringTask:
    return ScoringTask(
        space=json.dumps(settings.space.to_dict()),
        indicator=settings.indicator,
        fidelity=settings.fidelity,
        seed=settings.seed,
        n_seeds=settings.n_seeds,
        img_size=settings.img_size,
        num_classes=settings.num_classes,
        head_weight=settings.head_weight,
        device=device,
        own=settings.own_indicators,
    )


def _workforce(workers: int, cluster: str | None, device: str) -> Workforce:
    if cluster is not None:
        if workers != 1:
            raise TftasError(f"workers is {workers} and there is a cluster too; give one of them")
        return dask_cluster(cluster)
    return this_process() if workers == 1 else worker_processes(workers, device)


def _stored(storage: BaseStorage | None, name: str) -> Study | None:
    if storage is None or name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _open_study(
    storage: BaseStorage | None, name: str, settings: StudySettings
) -> tuple[Study, BaseStorage]:
    storage = storage if storage is not None else optuna.storages.InMemoryStorage()
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, directions=settings.directions
        )
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
    if not study.get_trials(deepcopy=False) and not StudySettings.recorded(study):
        # New, or cut off between its creation and the record of its settings.
        settings.write(study)
    settings.check_continues(study)
    return study, storage
