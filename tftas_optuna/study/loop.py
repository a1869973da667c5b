"""The search loop: NSGA-II in memory, generation by generation, into the user's storage."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optuna
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators import Scorer
from tftas_optuna.indicators.device import resolve_device
from tftas_optuna.indicators.scorer import check_fidelity
from tftas_optuna.study.front import as_candidate, hypervolume
from tftas_optuna.study.metrics import check_bounds, check_metrics
from tftas_optuna.study.objective import DSSObjective, record
from tftas_optuna.study.rescore import rescore_front
from tftas_optuna.study.settings import StudySettings
from tftas_optuna.study.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.study.metrics import CostName
    from tftas_optuna.study.objective import Evaluation

# The front is measured at most this often while a generation is scored.
_FRONT_SECONDS = 1.0
_GENERATION = NSGAIISampler._get_generation_key()


class SearchProgress(NamedTuple):
    """Where a search stands; given to the callback before the first and after every trial.

    Attributes:
        n_done: Trials of this run so far.
        n_trials: Trials this run was asked for.
        n_study: Trials of the whole study that are safe in its storage.
        generation: The generation in hand, from 0.
        seconds: Time since the first trial of this run.
        scoring_seconds: Time of it spent on scores.
        front_size: Trials on the front of the study, as of a moment ago.
        hypervolume: Hypervolume of that front; see :func:`tftas_optuna.study.front.hypervolume`.
    """

    n_done: int
    n_trials: int
    n_study: int
    generation: int
    seconds: float
    scoring_seconds: float
    front_size: int
    hypervolume: float


def search(
    space: SearchSpace,
    *,
    n_trials: int,
    storage: str | BaseStorage | None = None,
    study_name: str | None = None,
    metrics: Sequence[str] = ("dss", "n_params"),
    constraints: Mapping[CostName, tuple[float | None, float | None]] | None = None,
    population_size: int = 50,
    seed: int = 0,
    n_seeds: int = 1,
    fidelity: str = "exact",
    device: str = "auto",
    img_size: int | None = None,
    num_classes: int | None = None,
    timeout: float | None = None,
    callback: Callable[[SearchProgress], None] | None = None,
) -> Study:
    """Search a space with NSGA-II and keep every trial in an ordinary Optuna study.

    A study of the same name in the storage is continued. The randomness of a generation derives
    from the seed and the generation's number alone, so a run that was cut off and continued
    leaves the same trials as one that was not. When interrupted (``KeyboardInterrupt``), what is
    scored is stored before the exception goes on.

    Args:
        space: The search space.
        n_trials: Trials to add.
        storage: An Optuna storage, a database URL or the path of a journal file; None for
            memory.
        study_name: Name of the study; by default the space's.
        metrics: Objectives out of ``"dss"``, ``"n_params"`` and ``"macs"``.
        constraints: Lowest and highest allowed value by cost name; see :class:`DSSObjective`.
        population_size: Trials of one generation.
        seed: Seed of the sampler and of the supernet.
        n_seeds: Supernets to average over.
        fidelity: How the indicator is computed; see :class:`tftas_optuna.Scorer`. A collapsed
            search re-scores its final front exactly, see :mod:`tftas_optuna.study.rescore`.
        device: Where it is computed.
        img_size: Height and width of the input, in pixels; the space's own by default.
        num_classes: Outputs of the classifier; the space's own by default.
        timeout: Seconds after which no further trial is started; None for no limit.
        callback: Called before the first and after every trial.

    Returns:
        The study, with metric names and with user attributes that say what made it.

    Raises:
        TftasError: An argument is out of range, the constraints exclude the whole space, the
            storage cannot be reached, or the study was made with other settings.
    """
    if n_trials < 1:
        raise TftasError(f"n_trials is {n_trials}, allowed is 1 or more")
    if population_size < 2:
        raise TftasError(f"population_size is {population_size}, allowed is 2 or more")
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
        **sizes,
    )
    found = resolve_device(device)
    opened = open_storage(storage, create=True) if storage is not None else None
    study = _open_study(opened, study_name or space.name, settings)
    scorer = Scorer(space, fidelity=fidelity, seed=seed, n_seeds=n_seeds, device=found, **sizes)
    objective = DSSObjective(space, metrics=metrics, constraints=constraints, scorer=scorer)
    run = _Run(study, objective, settings, n_trials, callback)
    run.go(time.monotonic() + timeout if timeout is not None else None)
    if fidelity != "exact":
        rescore_front(study, device=found)
    return study


def _open_study(storage: BaseStorage | None, name: str, settings: StudySettings) -> Study:
    if storage is None or name not in optuna.get_all_study_names(storage):
        study = optuna.create_study(
            storage=storage, study_name=name, directions=settings.directions
        )
        settings.write(study)
        return study
    study = optuna.load_study(study_name=name, storage=storage)
    if not study.get_trials(deepcopy=False) and not StudySettings.recorded(study):
        # Cut off between its creation and the record of its settings.
        settings.write(study)
    settings.check_continues(study)
    return study


class _Run:
    """One call of :func:`search`: a study in memory that runs ahead of the stored one."""

    def __init__(
        self,
        study: Study,
        objective: DSSObjective,
        settings: StudySettings,
        n_trials: int,
        callback: Callable[[SearchProgress], None] | None,
    ) -> None:
        assert settings.population_size is not None
        self._study = study
        self._objective = objective
        self._settings = settings
        self._population_size = settings.population_size
        self._distributions = settings.space.distributions()
        self._n_trials = n_trials
        self._callback = callback
        self._memory = optuna.create_study(directions=settings.directions)
        self._at_once = objective.scorer.batch_size
        self._done = 0
        self._stored = 0
        self._scoring_seconds = 0.0
        self._front: tuple[int, float] = (0, 0.0)
        self._start = self._measured = time.monotonic()

    def go(self, deadline: float | None) -> None:
        """Run generations until the trials are done or the deadline has passed."""
        generation, partial = self._resume()
        self._measure_front()
        self._start = time.monotonic()
        self._report(generation)
        while self._done < self._n_trials and not _passed(deadline):
            self._generation(generation, partial, deadline)
            self._measure_front()
            self._report(generation)
            generation, partial = generation + 1, []

    def _resume(self) -> tuple[int, list[FrozenTrial]]:
        """Load the stored trials; give the generation to go on with and its trials so far.

        The trials of a generation that is not full stay out of memory: the generation is asked
        for again as a whole, and these are its first trials.
        """
        stored = [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state == TrialState.COMPLETE
        ]
        self._stored = len(stored)
        for trial in stored:
            known = as_candidate(trial, self._settings)
            spread = trial.user_attrs.get("dss_sd")
            self._objective.remember(known.architecture, known.dss, spread)
        sizes = Counter(trial.system_attrs.get(_GENERATION, -1) for trial in stored)
        generation = max(sizes, default=-1)
        partial: list[FrozenTrial] = []
        if generation >= 0 and sizes[generation] < self._population_size:
            partial = [t for t in stored if t.system_attrs.get(_GENERATION) == generation]
        else:
            generation += 1
        kept = {trial.number for trial in partial}
        self._memory.add_trials([trial for trial in stored if trial.number not in kept])
        # One generation after the other: without this, Optuna rebuilds parents recursively. The
        # generation in hand is left to its first trial, which sees parents in another order.
        sampler = NSGAIISampler(population_size=self._population_size)
        for past in range(1, generation):
            sampler.get_parent_population(self._memory, past)
        return generation, partial

    def _generation(
        self, generation: int, partial: list[FrozenTrial], deadline: float | None
    ) -> None:
        seed = np.random.SeedSequence((self._settings.seed, generation)).generate_state(1)[0]
        self._memory.sampler = NSGAIISampler(population_size=self._population_size, seed=int(seed))
        asked = [
            self._memory.ask(fixed_distributions=dict(self._distributions))
            for _ in range(self._population_size)
        ]
        if [t.params for t in partial] == [t.params for t in asked[: len(partial)]]:
            again = asked[: len(partial)]
            for trial, evaluation in zip(again, self._evaluate(again), strict=True):
                record(trial, evaluation)
                self._memory.tell(trial, evaluation.values)
        else:
            # Another version drew them, or another tool: keep them as they are.
            self._memory.add_trials(partial)
        fresh = asked[len(partial) :][: self._n_trials - self._done]
        scored: list[FrozenTrial] = []
        try:
            while fresh and not _passed(deadline):
                chunk, fresh = fresh[: self._at_once], fresh[self._at_once :]
                for trial, evaluation in zip(chunk, self._evaluate(chunk), strict=True):
                    record(trial, evaluation)
                    scored.append(self._memory.tell(trial, evaluation.values))
                self._done += len(chunk)
                self._report(generation)
        finally:
            self._study.add_trials(scored)
            self._stored += len(scored)
            self._report(generation)

    def _evaluate(self, trials: list[Trial]) -> list[Evaluation]:
        start = time.monotonic()
        archs = [self._settings.space.decode(trial.params) for trial in trials]
        evaluations = self._objective.evaluate(archs)
        self._scoring_seconds += time.monotonic() - start
        return evaluations

    def _measure_front(self) -> None:
        self._measured = time.monotonic()
        finished = self._memory.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        feasible = [t for t in finished if all(v <= 0 for v in t.constraints.values())]
        if not feasible:
            return
        values = (
            {tuple(trial.values) for trial in self._memory.best_trials}
            if len(self._settings.metrics) > 1
            else {max(tuple(trial.values) for trial in feasible)}
        )
        self._front = (len(values), hypervolume(values, self._settings))

    def _report(self, generation: int) -> None:
        if self._callback is not None:
            if time.monotonic() - self._measured > _FRONT_SECONDS:
                self._measure_front()
            self._callback(
                SearchProgress(
                    n_done=self._done,
                    n_trials=self._n_trials,
                    n_study=self._stored,
                    generation=generation,
                    seconds=time.monotonic() - self._start,
                    scoring_seconds=self._scoring_seconds,
                    front_size=self._front[0],
                    hypervolume=self._front[1],
                )
            )


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
