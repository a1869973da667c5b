"""NSGA-II that screens children before they are tried."""

from __future__ import annotations

import threading
from collections import deque
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState

from tftas_optuna._given import expect, shown
from tftas_optuna.errors import TftasError
from tftas_optuna.samplers._optuna import generation_key, set_attribute
from tftas_optuna.samplers.problem import Problem
from tftas_optuna.samplers.screen import Breeding, Child, ScreenedStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from tftas_optuna.samplers.knowledge import Knowledge


_NOT_PICKLED = ("_lock", "_view")


class ScreenedNSGAIISampler(NSGAIISampler):
    """NSGA-II (Deb et al. 2002) that tries only the most promising of many children.

    For every trial of a generation, crossover and mutation breed ``n_offspring`` children in
    several rounds, each from the best candidates so far. Surrogates fitted to the finished trials
    of the study predict their objectives and constraints, and the children that add the most
    hypervolume to the front are tried. A share of every generation is bred by NSGA-II alone. The
    predictions are stored with each trial; while they rank trials hardly better than chance,
    whole generations are bred by NSGA-II.

    It works with any objective, storage and study; with a single objective it tries the children
    with the best predictions. Until ``population_size`` trials have finished, trials are drawn
    uniformly. As in NSGA-II, so are parameters that only some trials have.

    Args:
        population_size: Number of trials of a generation. The surrogates learn from every
            generation, so NSGA-II's default of 50 needs more trials for the same front.
        n_offspring: Number of children that are bred for each trial; at most 10,000 for one
            generation.
        unscreened: Share of a generation that is tried without screening, above 0 and at most 1.
        knowledge: Function that returns features, computed objectives and computed constraints
            of parameters; see :class:`tftas_optuna.samplers.Known`. For an
            :class:`tftas_optuna.ArchitectureObjective` use ``objective.knowledge``, or give the
            objective itself. By default the parameters are the features, and nothing is computed
            without a trial.
        start: Parameters of the first trials.
        mutation_prob: Probability that a parameter gets a new value; by default one divided by
            the number of parameters.
        crossover_prob: Probability that a child has two parents.
        swapping_prob: Probability that a parameter comes from the second parent.
        seed: Seed of the random generator.

    Raises:
        TftasError: An argument has another type.
        ValueError: An argument is out of range.

    Example:
        >>> import optuna
        >>> from tftas_optuna import ScreenedNSGAIISampler
        >>> def objective(trial):
        ...     x, y = trial.suggest_float("x", 0, 5), trial.suggest_int("y", 0, 3)
        ...     return 4 * x**2 + 4 * y**2, (x - 5) ** 2 + (y - 5) ** 2
        >>> sampler = ScreenedNSGAIISampler(seed=0)
        >>> study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        >>> study.optimize(objective, n_trials=60)
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
        given = {"population_size": population_size, "n_offspring": n_offspring, "seed": seed}
        for name, value in given.items():
            if name != "seed" or value is not None:
                expect(name, value, Integral, "a whole number")
        if n_offspring < 1:
            raise ValueError("`n_offspring` must be greater than or equal to 1.")
        # Many give the objective itself.
        knowledge = getattr(knowledge, "knowledge", knowledge)
        if knowledge is not None and not callable(knowledge):
            raise TftasError(f"knowledge is {shown(knowledge)}, expected a function")
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
        """Continue with a new random generator, as parallel processes must."""
        super().reseed_rng()
        self._generator = np.random.default_rng()

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Return and record the generation of a trial; see Optuna's ``BaseGASampler``.

        Optuna reads all trials of a study; the last ones are enough.
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
        """Return a parameter from ``start``, or one that is drawn uniformly."""
        if trial.number < len(self._start) and param_name in self._start[trial.number]:
            return self._start[trial.number][param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


class _View:
    """A screened strategy for one study that proposes one trial at a time.

    Args:
        study: The study, with at least one finished trial.
        search_space: The parameters that all trials have, except those with a single choice.
        knowledge: Knowledge about parameters without a trial.
        breeding: Settings of the breeding.

    Attributes:
        generation: The current generation.
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
        # Trials of other programs may lack some; the last trial with a parameter decides.
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
        """Return whether this view fits a trial of a study and its search space."""
        if self.goes_on(study, trial):
            # A parameter may leave the shared search space; the other parameters do not change.
            return self._search_space.keys() == search_space.keys()
        return self._study == study and self._search_space == search_space

    def goes_on(self, study: Study, trial: FrozenTrial) -> bool:
        """Return, without reading the study, whether a trial continues the last generation.

        While there are children left the generation has not ended, unless other processes add
        trials; then the numbers of trials have gaps.
        """
        return bool(self._children) and study == self._study and trial.number == self._last + 1

    def next(self, trial: FrozenTrial, generation: int, rng: np.random.Generator) -> Child | None:
        """Return the next child; None if there are too few finished trials or no new children."""
        self._last = trial.number
        same = generation == self.generation
        if not (same and self._children):
            finished = self._trials(TrialState.COMPLETE)
            count = self._population_size
            if len(finished) < count:
                return None
            self.generation = generation
            # Failed trials are learned too, so that they are not tried again.
            done = [*finished, *self._trials(TrialState.FAIL)]
            self._strategy.learn(t for t in done if t.number not in self._learned)
            self._learned.update(t.number for t in done)
            running = [
                t.params
                for t in self._trials(TrialState.RUNNING)
                if t.params.keys() >= self._search_space.keys()
            ]
            # With parallel trials a generation may get more trials than planned. These few extra
            # children are chosen anew, because more trials have finished since.
            n_children = -(-count // 4) if same else count
            self._children = deque(self._strategy.screen(rng, running).choose(n_children))
        return self._children.popleft() if self._children else None

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))
