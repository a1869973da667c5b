"""The search loop: generation by generation, scored at once, stored as a whole."""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import TrialState

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.indicators.device import resolve_device
from tftas_optuna.indicators.scorer import check_fidelity
from tftas_optuna.indicators.task import ScoringTask
from tftas_optuna.study.evaluations import Evaluations
from tftas_optuna.study.executors import (
    ScoringPool,
    Workplace,
    dask_cluster,
    this_process,
    worker_processes,
)
from tftas_optuna.study.flush import make_flush
from tftas_optuna.study.front import as_candidate
from tftas_optuna.study.islands import claim_island
from tftas_optuna.study.metrics import check_bounds, check_metrics
from tftas_optuna.study.place import PLACE_KEY, Place, place_of
from tftas_optuna.study.progress import RunningFront, SearchProgress
from tftas_optuna.study.proposals import Proposal, Proposer
from tftas_optuna.study.rescore import rescore_front
from tftas_optuna.study.rescue import merge_rescued
from tftas_optuna.study.samplers import make_sampler, own_population_size, sampler_name
from tftas_optuna.study.settings import StudySettings, deployment_for
from tftas_optuna.study.storage import open_storage, storage_file, storage_name
from tftas_optuna.study.writer import TrialWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.study.islands import Claim
    from tftas_optuna.study.metrics import CostName

# A front whose hypervolume grows by less than this has stalled.
_STALLED = 1e-3
_STORAGE_PATIENCE = 60.0


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
    computed: a run that was cut off and continued leaves the same trials as one that was not,
    with one worker or many. No architecture is tried twice as long as there are others, and none
    out of bounds as long as others are near. When interrupted (``KeyboardInterrupt``), what is
    scored is stored before the exception goes on.

    Several searches may work on one study at the same time: each takes in what the others found.

    Args:
        space: The search space.
        n_trials: Trials to add.
        storage: An Optuna storage, or one as :func:`tftas_optuna.study.storage.open_storage`
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
            search re-scores its final front exactly, see :mod:`tftas_optuna.study.rescore`.
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
            str(resolve_device(device)),
            batch_size=latency_batch_size,
            threads=latency_threads,
        ),
    )
    for arch in start:
        space.encode(arch)
    pool = ScoringPool(_task(settings, device), _workplace(workers, cluster, device))
    try:
        opened = open_storage(storage, create=True) if storage is not None else None
        name = study_name or space.name
        settings = settings.measured(_stored(opened, name))
        study, opened = _open_study(opened, name, settings)
        settings = settings.keep_records(study)
        claim = claim_island(opened, study.study_name, storage_file(storage))
        try:
            where = storage_name(storage)
            if storage is not None:
                merge_rescued(study, where, settings, make_flush(study, opened))
            proposer = Proposer(settings, sampler, population_size, claim.island, start)
            run = _Run(study, opened, where, settings, proposer, pool, claim, n_trials, callback)
            run.go(time.monotonic() + timeout if timeout is not None else None, patience)
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


def _workplace(workers: int, cluster: str | None, device: str) -> Workplace:
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


class _Run:
    """One call of :func:`search`."""

    def __init__(
        self,
        study: Study,
        storage: BaseStorage,
        storage_name: str,
        settings: StudySettings,
        proposer: Proposer,
        pool: ScoringPool,
        claim: Claim,
        n_trials: int,
        callback: Callable[[SearchProgress], None] | None,
    ) -> None:
        assert settings.population_size is not None
        self._study = study
        self._storage = storage
        self._storage_name = storage_name
        self._settings = settings
        self._population_size = settings.population_size
        self._distributions: dict[str, BaseDistribution] = dict(settings.space.distributions())
        self._proposer = proposer
        self._pool = pool
        self._claim = claim
        self._n_trials = n_trials
        self._callback = callback
        self._evaluations = Evaluations(settings)
        self._known: set[Architecture] = set()
        self._front = RunningFront(settings)
        self._origins: Counter[str] = Counter()
        self._arrived: list[FrozenTrial] = []
        self._volumes: list[float] = []
        self._done = 0
        self._n_before = 0
        self._scoring_seconds = 0.0
        self._generation = 0
        self._start = time.monotonic()

    def go(self, deadline: float | None, patience: int | None) -> None:
        """Run generations until the trials are done, time is up, or the front stalls."""
        partial, last_number = self._resume()
        self._writer = TrialWriter(
            self._study,
            self._storage,
            self._settings,
            self._claim,
            storage_name=self._storage_name,
            last_number=last_number,
            patience=_STORAGE_PATIENCE,
            meanwhile=self._report,
        )
        self._start = time.monotonic()
        try:
            self._report()
            while self._done < self._n_trials and not self._over(deadline, patience):
                self._one_generation(partial, deadline)
                partial = []
                self._report()
        except BaseException:
            self._writer.hurry()
            self._writer.close()
            raise
        self._writer.close()
        self._report()

    def _resume(self) -> tuple[list[FrozenTrial], int]:
        """Learn the stored trials as if they had just been run.

        Returns:
            The trials so far of the generation to go on with, and the number of the last trial
            of the generations before.
        """
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._n_before = len(trials)
        for trial in trials:
            self._remember(trial)
        generations, others = self._sort(trials)
        partial: list[FrozenTrial] = []
        if generations and len(generations[-1]) < self._population_size:
            partial = generations.pop()
        if not all(generations):
            raise UnavailableError(
                f"study {self._study.study_name!r} lacks generation {generations.index([])} of"
                f" {len(generations)}; give another --study-name"
            )
        ends = [own[-1].number for own in generations]
        began = generations[0][0].number if generations else len(trials)
        before = [trial for trial in others if trial.number < began]
        self._learn(before)
        for generation, own in enumerate(generations):
            self._proposer.begin(generation)
            self._end_generation(own)
            # What others published along a generation is known one generation later.
            self._arrived = [
                trial
                for trial in others
                if generation and ends[generation - 1] < trial.number < ends[generation]
            ]
        self._front.add(partial)
        return partial, ends[-1] if ends else -1

    def _sort(
        self, trials: Sequence[FrozenTrial]
    ) -> tuple[list[list[FrozenTrial]], list[FrozenTrial]]:
        """Tell the generations of this search from what came from elsewhere."""
        generations: list[list[FrozenTrial]] = []
        others = []
        for trial in trials:
            place = place_of(trial)
            if place is None or place.island != self._claim.island:
                others.append(trial)
                continue
            while len(generations) <= place.generation:
                generations.append([])
            generations[place.generation].append(trial)
        return generations, others

    def _remember(self, trial: FrozenTrial) -> None:
        found = as_candidate(trial, self._settings)
        spread = trial.user_attrs.get("dss_sd")
        self._evaluations.remember(found.architecture, found.dss, spread, found.others)

    def _learn(self, trials: Sequence[FrozenTrial]) -> None:
        self._proposer.learn(trials)
        self._front.add(trials)
        self._known.update(self._settings.space.decode(trial.params) for trial in trials)

    def _end_generation(self, own: Sequence[FrozenTrial]) -> None:
        self._learn([*own, *self._arrived])
        self._arrived = []
        self._generation += 1
        self._volumes.append(self._front.hypervolume)

    def _one_generation(self, partial: list[FrozenTrial], deadline: float | None) -> None:
        """Propose, score and hand over a generation, of which some may be stored already."""
        self._proposer.begin(self._generation)
        proposals = self._proposer.propose(self._generation, self._known)
        new = [p.architecture for p in proposals if p.architecture not in self._known]
        if [trial.params for trial in partial] == [p.params for p in proposals[: len(partial)]]:
            todo = proposals[len(partial) :]
        else:
            # Another version drew the first ones, or others were given to start from.
            stored = {self._settings.space.decode(trial.params) for trial in partial}
            todo = [p for p in proposals if p.architecture not in stored]
            todo = todo[: self._population_size - len(partial)]
        todo = todo[: self._n_trials - self._done]
        scored: list[FrozenTrial] = []
        try:
            self._score(new, todo, len(partial), scored, deadline)
        except BaseException:
            self._writer.hurry()
            if scored:
                self._writer.submit(scored, own=len(partial) + len(scored))
            raise
        if scored:
            own = [*partial, *scored]
            arrived = self._writer.submit(scored, own=len(own))
            for trial in arrived:
                self._remember(trial)
            self._arrived.extend(arrived)
            self._end_generation(own)

    def _score(
        self,
        new: Sequence[Architecture],
        todo: Sequence[Proposal],
        n_stored: int,
        scored: list[FrozenTrial],
        deadline: float | None,
    ) -> None:
        """Score proposals; append their trials, in order, as far as they are done.

        Args:
            new: New architectures of the whole generation.
            todo: The proposals.
            n_stored: Trials of the generation before them.
            scored: Where to append the trials.
            deadline: When to stop.
        """
        wanted = {p.architecture for p in todo if p.architecture not in self._evaluations}
        began, start = datetime.datetime.now(), time.monotonic()
        for part in self._pool.scores(new, wanted) if wanted else [{}]:
            for arch, scores in part.items():
                self._evaluations.add(arch, scores)
            seconds = time.monotonic() - start
            # A clock that is set meanwhile must not give a trial a negative duration.
            ended = began + datetime.timedelta(seconds=seconds)
            while len(scored) < len(todo) and todo[len(scored)].architecture in self._evaluations:
                place = Place(self._claim.island, self._generation, n_stored + len(scored))
                scored.append(self._trial(todo[len(scored)], place, began, ended))
                self._done += 1
            self._scoring_seconds += seconds
            began, start = ended, time.monotonic()
            self._report()
            if _passed(deadline):
                return

    def _trial(
        self,
        proposal: Proposal,
        place: Place,
        began: datetime.datetime,
        ended: datetime.datetime,
    ) -> FrozenTrial:
        evaluation = self._evaluations[proposal.architecture]
        attributes: dict[str, Any] = {**proposal.labels, PLACE_KEY: list(place)}
        if evaluation.violations:
            # optuna-dashboard reads the form that Optuna 4 wrote; Optuna 5 understands both.
            attributes["constraints"] = list(evaluation.violations.values())
        trial = optuna.create_trial(
            params=proposal.params,
            distributions=self._distributions,
            values=evaluation.values,
            user_attrs=evaluation.attributes,
            system_attrs=attributes,
            constraints=evaluation.violations,
        )
        trial.datetime_start, trial.datetime_complete = began, ended
        self._origins[proposal.origin] += 1
        return trial

    def _over(self, deadline: float | None, patience: int | None) -> bool:
        if patience is not None and len(self._volumes) > patience:
            before, now = self._volumes[-1 - patience], self._volumes[-1]
            if now - before < _STALLED * now:
                return True
        return _passed(deadline)

    def _report(self) -> None:
        if self._callback is not None:
            self._callback(
                SearchProgress(
                    n_done=self._done,
                    n_trials=self._n_trials,
                    n_study=self._n_before + self._writer.n_stored,
                    generation=self._generation,
                    seconds=time.monotonic() - self._start,
                    scoring_seconds=self._scoring_seconds,
                    front_size=len(self._front),
                    hypervolume=self._front.hypervolume,
                    n_replaced=self._origins["replaced"],
                    n_repeated=self._origins["repeat"],
                )
            )


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
