"""Strategies that breed whole generations with any sampler: the screened one, or Optuna's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, Protocol

import optuna
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.trial import TrialState

from tftas_optuna.samplers._optuna import generation_key
from tftas_optuna.samplers.named import SCREENED, make_sampler
from tftas_optuna.samplers.problem import Problem
from tftas_optuna.samplers.screen import Breeding, Child, ScreenedStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

    from tftas_optuna.samplers.knowledge import Knowledge

    Directions = Sequence[Literal["minimize", "maximize"]]


class Strategy(Protocol):
    """Breeds generations of children from the finished trials."""

    @property
    def label(self) -> str | None:
        """The system attribute with the generation of a trial; None if the sampler has none."""

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Add finished trials."""

    def generation(self, seed: int, size: int) -> Generator[Child, None, None]:
        """Yield children for the next generation; they are bred lazily.

        Args:
            seed: Seed of the children.
            size: Number of trials of the generation. Callers may take more children, because
                some may not become trials.

        Returns:
            An endless generator, which the caller closes.
        """


def make_strategy(
    sampler: str | BaseSampler,
    population_size: int,
    directions: Directions,
    distributions: Mapping[str, BaseDistribution],
    knowledge: Knowledge | None = None,
) -> Strategy:
    """Return the strategy that breeds whole generations with a sampler.

    Args:
        sampler: Name of the sampler, or a sampler, which keeps its own random state.
        population_size: Number of parents of a generation.
        directions: ``"minimize"`` or ``"maximize"`` for each objective.
        distributions: The parameters.
        knowledge: Knowledge about parameters; only the screened sampler uses it.
    """
    if sampler == SCREENED:
        problem = Problem(distributions, directions, knowledge)
        return ScreenedStrategy(problem, Breeding(population_size=population_size))

    def make(seed: int) -> BaseSampler:
        if isinstance(sampler, str):
            return make_sampler(sampler, population_size, seed)
        return sampler

    first = make(0)
    if not isinstance(first, BaseGASampler):
        return _HistoryStrategy(make, None, directions, distributions)
    kind = _GeneticStrategy if isinstance(sampler, str) else _HistoryStrategy
    return kind(make, generation_key(first), directions, distributions)


class _GeneticStrategy:
    """A genetic sampler of Optuna in a study that contains only possible parents.

    Optuna reads all trials of a study for every new trial. But its choice of parents depends only
    on the last parents and the trials since. If these are the first generation of a small study,
    the next generation is the same, and the time does not grow with the number of trials.
    """

    def __init__(
        self,
        make: Callable[[int], BaseSampler],
        label: str,
        directions: Directions,
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        self.label = label
        self._make = make
        self._directions = directions
        self._distributions = distributions
        self._parents: list[FrozenTrial] = []

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        # Failed trials have no objectives, and cannot become parents.
        self._parents += [trial for trial in trials if trial.values is not None]

    def generation(self, seed: int, size: int) -> Generator[Child, None, None]:
        sampler = self._make(seed)
        assert isinstance(sampler, BaseGASampler)
        study = _study(self._directions, sampler)
        study.add_trials(map(self._first_generation, self._parents))
        if self._parents:
            numbers = {trial.number for trial in sampler.get_parent_population(study, 1)}
            self._parents = [trial for i, trial in enumerate(self._parents) if i in numbers]
        return self._children(study, sampler)

    def _first_generation(self, trial: FrozenTrial) -> FrozenTrial:
        return optuna.create_trial(
            params=trial.params,
            distributions=trial.distributions,
            values=trial.values,
            system_attrs={**trial.system_attrs, self.label: 0},
        )

    def _children(self, study: Study, sampler: BaseGASampler) -> Generator[Child, None, None]:
        # All children use the same trial, which the sampler needs for its generation: one trial
        # per child would take time for every parameter.
        study.ask()
        sampler.get_trial_generation(study, study.get_trials(deepcopy=False)[-1])
        trial = study.get_trials(deepcopy=False)[-1]
        shared = sampler.infer_relative_search_space(study, trial)
        while True:
            inherited = sampler.sample_relative(study, trial, shared)
            yield Child(
                {
                    name: inherited[name]
                    if name in inherited
                    else sampler.sample_independent(study, trial, name, distribution)
                    for name, distribution in self._distributions.items()
                }
            )


class _HistoryStrategy:
    """Any other sampler of Optuna, in a study that contains all trials."""

    def __init__(
        self,
        make: Callable[[int], BaseSampler],
        label: str | None,
        directions: Directions,
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        self.label = label
        self._make = make
        self._distributions = dict(distributions)
        self._study = _study(directions)

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        self._study.add_trials(trials)

    def generation(self, seed: int, size: int) -> Generator[Child, None, None]:
        self._study.sampler = self._make(seed)
        trials: list[Trial] = []
        try:
            while True:
                trials.append(self._study.ask(fixed_distributions=self._distributions))
                yield Child(trials[-1].params)
        finally:
            # Children that are tried come back as finished trials through `learn`.
            for trial in trials:
                self._study.tell(trial, state=TrialState.FAIL)


def _study(directions: Directions, sampler: BaseSampler | None = None) -> Study:
    """Return an internal study in memory, created without Optuna's log message."""
    with _quiet():
        return optuna.create_study(directions=list(directions), sampler=sampler)


@contextlib.contextmanager
def _quiet() -> Generator[None, None, None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
