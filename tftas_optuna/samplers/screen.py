"""The screen: breeds many children, predicts their values, and chooses which to try.

:class:`ScreenedStrategy` does so generation after generation.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tftas_optuna.samplers._threads import on_one_thread
from tftas_optuna.samplers.archive import PREDICTED, Archive, agreement
from tftas_optuna.samplers.fronts import elite, most_added
from tftas_optuna.samplers.surrogate import Surrogate

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial

    from tftas_optuna.samplers.archive import Tried
    from tftas_optuna.samplers.problem import Described, Problem

    Rows = NDArray[np.float64]

# Below this rank correlation of its predictions a screen is switched off.
TRUSTED = 0.2
# Number of last trials for which the rank correlation is computed.
WINDOW = 50

# Rounds of breeding; each starts from the best candidates of the rounds before.
_ROUNDS = 6
# Largest number of children that are bred for one generation.
_MAX_CHILDREN = 10_000
# Number of best trials around which a surrogate has to be most accurate.
_NEAREST = 300
# Number of best trials that a surrogate is fitted to.
_LEARNED = 2000
# Smallest number of trials that a surrogate is fitted to.
_MIN_TRIALS = 10
# Largest number of rounds to breed unscreened children that meet the computed constraints.
_TRIES = 8
# Number of children of a screened generation that are drawn instead of bred, and largest number
# of mutations to make them meet the computed constraints.
_DRAWN = 300
_STEPS = 40


@dataclasses.dataclass(frozen=True)
class Breeding:
    """Settings of crossover, mutation and screening.

    Attributes:
        population_size: Number of trials of a generation, and of parents of the next one.
        n_offspring: Number of children that are bred for each one that is tried.
        unscreened: Share of a generation that is tried without screening.
        mutation_prob: Probability that a parameter gets a new value; None for one parameter per
            child on average.
        crossover_prob: Probability that a child has two parents.
        swapping_prob: Probability that a parameter comes from the second parent.
    """

    population_size: int = 20
    n_offspring: int = 500
    unscreened: float = 0.2
    mutation_prob: float | None = None
    crossover_prob: float = 0.9
    swapping_prob: float = 0.5


class Child(NamedTuple):
    """A child that a sampler proposes for a trial.

    Attributes:
        params: Its parameters.
        predicted: Predictions of its objectives, with None for computed ones; None if nothing is
            predicted.
    """

    params: dict[str, Any]
    predicted: list[float | None] | None = None

    @property
    def labels(self) -> dict[str, Any]:
        """The system attributes of its trial."""
        return {} if self.predicted is None else {PREDICTED: self.predicted}


class Screen:
    """Breeds children and chooses which to try.

    Args:
        archive: The finished trials.
        breeding: How children are bred.
        agreement: Rank correlation of the last predictions; None if there were none.
        rng: Random generator.
        running: Parameters of running trials.

    Attributes:
        is_on: Whether its predictions are trusted.
    """

    @on_one_thread
    def __init__(
        self,
        archive: Archive,
        breeding: Breeding,
        agreement: float | None,
        rng: np.random.Generator,
        running: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._problem = problem = archive.problem
        self._tried = tried = archive.table()
        self._breeding = breeding
        self._rng = rng
        # Keys of running trials, and of the children that are bred here.
        self._untried = set(problem.describe(problem.genes.encode(running)).keys())
        prob = breeding.mutation_prob
        self._mutation_prob = 1 / max(len(problem.genes), 1) if prob is None else prob
        best = elite(tried.losses, tried.penalties, max(breeding.population_size, _LEARNED))
        self._parents = best[: breeding.population_size]
        self._judge = (
            _Judge(problem, tried, best[:_LEARNED]) if len(tried) >= _MIN_TRIALS else None
        )
        if agreement is None and self._judge is not None:
            agreement = self._judge.agreement
        self.is_on = self._judge is not None and (agreement is None or agreement >= TRUSTED)

    @on_one_thread
    def choose(self, count: int) -> list[Child]:
        """Return up to ``count`` children that were not tried before."""
        judge = self._judge
        if judge is None:
            chosen = self._plain(count)
            return list(map(Child, self._problem.genes.decode(chosen.rows)))
        n_plain = max(round(self._breeding.unscreened * count), 1) if self.is_on else count
        chosen = self._plain(n_plain)
        if self.is_on:
            chosen = chosen.joined(self._screened(judge, count - n_plain))
        decoded = self._problem.genes.decode(chosen.rows)
        children = list(map(Child, decoded, judge.predictions(chosen)))
        return [children[i] for i in self._rng.permutation(len(children))]

    def draw(self) -> Child:
        """Return a child that is drawn uniformly, even if it was tried before."""
        (params,) = self._problem.genes.decode(self._problem.genes.draw(1, self._rng))
        return Child(params)

    def _plain(self, count: int) -> Described:
        """Breed children as in NSGA-II; those that violate a computed constraint come last."""
        children = self._drawn(count // 2)
        for _ in range(_TRIES):
            missing = count - int((children.penalties <= 0).sum())
            if not missing:
                break
            children = children.joined(self._new(self._children(missing)))
        return children.taken(np.argsort(children.penalties > 0, kind="stable")[:count])

    def _drawn(self, count: int) -> Described:
        """Draw children and mutate them until they meet the computed constraints, if any.

        Within narrow bounds there are very different candidates, such as wide and deep ones of
        the same size, and crossover of wide ones never gives a deep one.
        """
        problem, rng = self._problem, self._rng
        if not problem.computed_constraints:
            return self._no_children()
        drawn = problem.describe(problem.genes.draw(count, rng))
        for _ in range(_STEPS):
            outside = np.flatnonzero(drawn.penalties > 0)
            if not len(outside):
                break
            moved = problem.describe(
                problem.genes.mutate(drawn.rows[outside], self._mutation_prob, rng)
            )
            better = np.flatnonzero(moved.penalties < drawn.penalties[outside])
            drawn.rows[outside[better]] = moved.rows[better]
            drawn.penalties[outside[better]] = moved.penalties[better]
        return self._new(drawn.rows[drawn.penalties <= 0])

    def _children(self, count: int) -> Rows:
        """Return children of the parents by NSGA-II's operators."""
        genes, rng = self._problem.genes, self._rng
        if not len(self._tried):
            return genes.draw(count, rng)
        parents = self._tried.rows[self._parents]
        # Binary tournament: parents are sorted, so the one with the lower index wins.
        first, second = rng.integers(len(parents), size=(2, 2, count)).min(axis=1)
        return genes.mutate(
            self._crossed(parents[first], parents[second]), self._mutation_prob, rng
        )

    def _crossed(self, first: Rows, second: Rows) -> Rows:
        rng, breeding = self._rng, self._breeding
        crossed = self._problem.genes.cross(first, second, breeding.swapping_prob, rng)
        alone = rng.random(len(first)) >= breeding.crossover_prob
        return np.where(alone[:, None], first, crossed)

    def _screened(self, judge: _Judge, count: int) -> Described:
        """Breed from the best trials and children; return those that add most to the front."""
        tried, size = self._tried, self._breeding.population_size
        rows = tried.rows[self._parents]
        losses, penalties = tried.losses[self._parents], tried.penalties[self._parents]
        n_parents = len(losses)
        n_children = min(self._breeding.n_offspring * count, _MAX_CHILDREN)
        for i in range(_ROUNDS):
            best = elite(losses, penalties, 2 * size)
            children = self._new(self._varied(rows[best], -(-n_children // _ROUNDS)))
            if i == 0:
                children = children.joined(self._drawn(_DRAWN))
            new_losses, new_penalties = judge.judge(children)
            rows = np.concatenate((rows, children.rows))
            losses = np.concatenate((losses, new_losses))
            penalties = np.concatenate((penalties, new_penalties))
        rows, losses, penalties = rows[n_parents:], losses[n_parents:], penalties[n_parents:]
        chosen = np.flatnonzero(penalties <= 0)
        if len(chosen) > count:
            front = tried.losses[tried.penalties <= 0]
            chosen = chosen[most_added(front, losses[chosen], count, self._rng)]
        else:
            chosen = elite(losses, penalties, count)
        return self._problem.describe(rows[chosen])

    def _varied(self, parents: Rows, count: int) -> Rows:
        """Breed from parents; numbers also take small steps, to get close to an optimum."""
        genes, rng = self._problem.genes, self._rng
        first, second = parents[rng.integers(len(parents), size=(2, count))]
        rows = self._crossed(first, second)
        if genes.is_number.any():
            blended = genes.blend(first, second, rng)
            rows = np.where((rng.random(count) < 0.5)[:, None], blended, rows)
            rows = genes.step(rows, self._mutation_prob, rng)
        return genes.mutate(rows, self._mutation_prob, rng)

    def _new(self, rows: Rows) -> Described:
        """Return the children that were neither tried nor bred before."""
        described = self._problem.describe(rows)
        tried, untried = self._tried.keys, self._untried
        fresh: list[int] = []
        for i, key in enumerate(described.keys()):
            if key not in tried and key not in untried:
                untried.add(key)
                fresh.append(i)
        return described.taken(fresh)

    def _no_children(self) -> Described:
        return self._problem.describe(np.empty((0, len(self._problem.genes))))


class ScreenedStrategy:
    """NSGA-II with a screen.

    Trials are only collected until the next child is needed, so that a search that resumes a
    study does not breed its past generations again.

    Args:
        problem: The search problem.
        breeding: Settings of the breeding.
    """

    label = "ScreenedNSGAIISampler:generation"

    def __init__(self, problem: Problem, breeding: Breeding) -> None:
        self._archive = Archive(problem)
        self._breeding = breeding
        self._unread: list[FrozenTrial] = []
        self._recent: deque[FrozenTrial] = deque(maxlen=WINDOW)

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Add finished trials; failed ones are not tried again."""
        trials = list(trials)
        self._unread += trials
        self._recent.extend(trial for trial in trials if trial.values is not None)

    def screen(
        self, rng: np.random.Generator, running: Sequence[Mapping[str, Any]] = ()
    ) -> Screen:
        """Return a screen that is fitted to all trials so far.

        Args:
            rng: Random generator of the screen.
            running: Parameters of running trials, which are not proposed again.
        """
        self._archive.add(self._unread)
        self._unread = []
        return Screen(self._archive, self._breeding, agreement(self._recent), rng, running)

    def generation(self, seed: int, size: int) -> Generator[Child, None, None]:
        """Yield children without end, drawn uniformly where none is new; see ``Strategy``."""
        screen = self.screen(np.random.default_rng(seed))
        while True:
            yield from screen.choose(size) or [screen.draw()]


class _Judge:
    """Surrogates for all objectives and constraints that are not computed.

    Args:
        problem: The search problem.
        tried: The finished trials.
        best: Indices of the trials to fit, the best first.

    Attributes:
        agreement: Rank correlation of the leave-one-out predictions of trials, for the objective
            with the lowest one; None if no objective is predicted.
    """

    def __init__(self, problem: Problem, tried: Tried, best: NDArray[np.int64]) -> None:
        self._problem = problem
        features, losses = tried.features[best], tried.losses[best]
        nearest = np.arange(min(len(best), _NEAREST))
        self._objectives = [
            Surrogate(features, losses[:, i] * problem.signs[i], nearest) for i in problem.learned
        ]
        self._constraints = [_constraint(tried, values) for values in tried.violations.T]
        self.agreement = min((surrogate.agreement for surrogate in self._objectives), default=None)

    def predictions(self, described: Described) -> list[list[float | None]]:
        """Return predictions of the objectives of candidates, with None for computed ones."""
        rows: list[list[float | None]] = [
            [None] * len(self._problem.signs) for _ in described.rows
        ]
        for i, surrogate in zip(self._problem.learned, self._objectives, strict=True):
            for row, value in zip(rows, surrogate.predict(described.features), strict=True):
                row[i] = float(value)
        return rows

    def judge(self, described: Described) -> tuple[Rows, Rows]:
        """Return the losses of candidates, and the sums of their constraint violations."""
        losses, penalties = described.losses.copy(), described.penalties.copy()
        for i, surrogate in zip(self._problem.learned, self._objectives, strict=True):
            losses[:, i] = surrogate.predict(described.features) * self._problem.signs[i]
        for surrogate in self._constraints:
            penalties += np.maximum(surrogate.predict(described.features), 0.0)
        return losses, penalties


def _constraint(tried: Tried, values: Rows) -> Surrogate:
    """Fit a surrogate to a constraint, from the trials that have it."""
    indices = np.flatnonzero(~np.isnan(values))
    nearest = elite(tried.losses[indices], tried.penalties[indices], _NEAREST)
    return Surrogate(tried.features[indices], values[indices], nearest)
