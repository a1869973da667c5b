"""NSGA-II whose children are screened before they cost a trial."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState

from tftas_optuna.samplers._optuna import generation_key, set_attribute
from tftas_optuna.samplers.problem import Problem
from tftas_optuna.samplers.screen import Breeding, Child
from tftas_optuna.samplers.strategies import ScreenedStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from tftas_optuna.samplers.knowledge import Knowledge


_NOT_PICKLED = ("_lock", "_view")


class ScreenedNSGAIISampler(NSGAIISampler):
    """NSGA-II (Deb et al. 2002) that tries only the most promising of many children.

    For every trial of a generation crossover and mutation breed ``n_offspring`` children, round
    after round from the best so far. Surrogates that are fitted to the finished trials of the
    study predict their objectives and constraints, and those that together add most to the
    hypervolume of the front are tried. A share of every generation is bred by NSGA-II alone. The
    predictions are kept with each trial; while they rank trials hardly better than chance, whole
    generations are bred by NSGA-II.

    It works with any objective, storage and study; with one objective it tries those that are
    predicted best. Until ``population_size`` trials have finished, trials are drawn uniformly.
    Parameters that only some trials have are drawn uniformly, too, as NSGA-II does.

    Args:
        population_size: Trials of one generation. Small generations learn more often: NSGA-II's
            usual 50 need more trials for the same front.
        n_offspring: Children that are bred and judged for each trial; at most 10,000 for one
            generation.
        unscreened: Share of a generation that is tried without being judged, above 0 and at most
            1.
        knowledge: What is known of parameters without a trial: features to predict from, and
            objectives and constraints that are computed; see
            :class:`tftas_optuna.samplers.Known`. For an
            :class:`tftas_optuna.ArchitectureObjective` it is ``objective.knowledge``. By default
            nothing is known, and parameters are their own features.
        start: Parameters of the first trials.
        mutation_prob: Chance of each parameter to get a new value; ``1 / parameters`` by default.
        crossover_prob: Chance that a child has two parents.
        swapping_prob: Chance of each parameter to come from the second one.
        seed: Seed of the randomness.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import optuna
        >>> from tftas_optuna import DSSObjective, ScreenedNSGAIISampler, get_space
        >>> space = get_space("autoformer-tiny")
        >>> objective = DSSObjective(space)
        >>> sampler = ScreenedNSGAIISampler(
        ...     knowledge=objective.knowledge,
        ...     start=[space.encode(space.smallest()), space.encode(space.largest())],
        ...     seed=0,
        ... )
        >>> study = optuna.create_study(directions=objective.directions, sampler=sampler)
        >>> study.optimize(objective, n_trials=2)
    """

    def __init__(
        self,
        *,
        population_size: int = 20,
        n_offspring: int = 500,
        unscreened: float = 0.2,
        knowledge: Knowledge | None = None,
        start: Sequence[Mapping[str, Any]] = (),
        mutation_prob: float | None = None,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        seed: int | None = None,
    ) -> None:
        if n_offspring < 1:
            raise ValueError("`n_offspring` must be greater than or equal to 1.")
        if not 0.0 < unscreened <= 1.0:
            raise ValueError("`unscreened` must be a float value within the range (0.0, 1.0].")
        super().__init__(
            population_size=population_size,
            mutation_prob=mutation_prob,
            crossover_prob=crossover_prob,
            swapping_prob=swapping_prob,
            seed=seed,
        )
        self._breeding = Breeding(
            population_size=population_size,
            n_offspring=n_offspring,
            unscreened=unscreened,
            mutation_prob=mutation_prob,
            crossover_prob=crossover_prob,
            swapping_prob=swapping_prob,
        )
        self._knowledge = knowledge
        self._start = [dict(params) for params in start]
        self._generator = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._view: _View | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _NOT_PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _view=None)

    def reseed_rng(self) -> None:
        """Go on with other randomness, as each of several processes has to."""
        super().reseed_rng()
        self._generator = np.random.default_rng()

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Return the generation of a trial, and label it; see Optuna's ``BaseGASampler``.

        Optuna looks through all trials of a study; the last ones are enough.
        """
        key = generation_key(self)
        if key in trial.system_attrs:
            return int(trial.system_attrs[key])
        if self._view is not None and self._view.goes_on(study, trial):
            set_attribute(study, trial, key, self._view.generation)
            return self._view.generation
        size = self._breeding.population_size
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        recent = [t.system_attrs[key] for t in finished[-10 * size :] if key in t.system_attrs]
        if not recent:
            return super().get_trial_generation(study, trial)
        last = max(recent)
        generation = int(last if recent.count(last) < size else last + 1)
        set_attribute(study, trial, key, generation)
        return generation

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the next trial; see Optuna's ``BaseSampler``."""
        generation = self.get_trial_generation(study, trial)
        if not search_space:
            return {}
        if trial.number < len(self._start):
            start = self._start[trial.number]
            return {name: start[name] for name in search_space if name in start}
        with self._lock:
            if self._view is None or not self._view.is_of(study, trial, search_space):
                self._view = _View(study, search_space, self._knowledge, self._breeding)
            child = self._view.next(trial, generation, self._generator)
        if child is None:
            return super().sample_relative(study, trial, search_space)
        for key, value in child.labels.items():
            set_attribute(study, trial, key, value)
        return {name: child.params[name] for name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a parameter of ``start``, or one that is drawn uniformly."""
        if trial.number < len(self._start) and param_name in self._start[trial.number]:
            return self._start[trial.number][param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


class _View:
    """A strategy for one study, asked trial by trial.

    Args:
        study: The study, with at least one finished trial.
        search_space: The parameters that all trials have, except those with a single choice.
        knowledge: What is known of parameters without a trial.
        breeding: How children are bred.

    Attributes:
        generation: The generation that is tried.
    """

    def __init__(
        self,
        study: Study,
        search_space: dict[str, BaseDistribution],
        knowledge: Knowledge | None,
        breeding: Breeding,
    ) -> None:
        self._study = study
        self._search_space = search_space
        # Trials from elsewhere may lack some; the last trial with a parameter decides.
        fixed = {
            name: trial.params[name]
            for trial in self._trials(TrialState.COMPLETE)
            for name, distribution in trial.distributions.items()
            if distribution.single()
        }
        directions = [direction.name.lower() for direction in study.directions]
        problem = Problem(search_space, directions, knowledge, fixed)
        self._strategy = ScreenedStrategy(problem, breeding)
        self._population_size = breeding.population_size
        self._learned: set[int] = set()
        self.generation = -1
        self._children: deque[Child] = deque()
        self._last = -1

    def is_of(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> bool:
        """Tell whether this serves a trial of a study, with the parameters that are asked for."""
        if self.goes_on(study, trial):
            # Parameters may cease to be shared by all trials; the others stay the same.
            return self._search_space.keys() == search_space.keys()
        return self._study == study and self._search_space == search_space

    def goes_on(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell, without reading the study, whether a trial is of the same generation as the last.

        While children are left the generation has not ended, unless other processes try some too;
        then the numbers of trials have gaps.
        """
        return bool(self._children) and study == self._study and trial.number == self._last + 1

    def next(self, trial: FrozenTrial, generation: int, rng: np.random.Generator) -> Child | None:
        """Return the child to try next; None if too little was tried, or everything."""
        self._last = trial.number
        same = generation == self.generation
        if not (same and self._children):
            finished = self._trials(TrialState.COMPLETE)
            count = self._population_size
            if len(finished) < count:
                return None
            self.generation = generation
            # What failed would fail again, which no surrogate predicts.
            done = [*finished, *self._trials(TrialState.FAIL)]
            self._strategy.learn(t for t in done if t.number not in self._learned)
            self._learned.update(t.number for t in done)
            running = [
                t.params
                for t in self._trials(TrialState.RUNNING)
                if t.params.keys() >= self._search_space.keys()
            ]
            # Where trials run side by side, a generation may get more trials than planned. The
            # children that are left were chosen with less knowledge than there is now.
            more = -(-count // 4) if same else count
            self._children = deque(self._strategy.screen(rng, running).choose(more))
        return self._children.popleft() if self._children else None

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))
