"""The screen: breeds many children, judges them by surrogates, and chooses which to try."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tftas_optuna.samplers._threads import on_one_thread
from tftas_optuna.samplers.archive import PREDICTED
from tftas_optuna.samplers.fronts import elite, most_added
from tftas_optuna.samplers.surrogate import Surrogate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tftas_optuna.samplers.archive import Archive, Tried
    from tftas_optuna.samplers.problem import Described, Problem

    Rows = NDArray[np.float64]

# Below this rank correlation of its predictions a screen is not worth having.
TRUSTED = 0.2
# The last trials, over which it is computed.
WINDOW = 50

# Rounds of breeding before children are chosen; each starts from the best of those before.
_ROUNDS = 6
# The most children that are bred for one generation, however large it is.
_MOST = 10_000
# Of the best trials, how many a surrogate has to be most exact around.
_NEAREST = 300
# Of the best trials, how many a surrogate learns from.
_LEARNED = 2000
# The fewest trials that a surrogate can learn from.
_FEWEST = 10
# Rounds of breeding until enough of the children that are not judged keep the computed
# constraints.
_TRIES = 8
# Children of a screened generation that are drawn instead of bred, and steps that lead them into
# the constraints.
_DRAWN = 300
_STEPS = 40


@dataclasses.dataclass(frozen=True)
class Breeding:
    """How children are bred.

    Attributes:
        population_size: Trials of one generation, and parents of the next.
        n_offspring: Children that are judged for each one that is tried.
        unscreened: Share of a generation that is tried without being judged.
        mutation_prob: Chance of each parameter to get a new value; None for one parameter of
            each child, on average.
        crossover_prob: Chance that a child has two parents.
        swapping_prob: Chance of each parameter to come from the second one.
    """

    population_size: int = 20
    n_offspring: int = 500
    unscreened: float = 0.2
    mutation_prob: float | None = None
    crossover_prob: float = 0.9
    swapping_prob: float = 0.5


class Child(NamedTuple):
    """A child that a sampler has bred or drawn, to be tried.

    Attributes:
        params: Its parameters.
        predicted: Predictions of its objectives, None for those that are computed; None altogether
            where nothing is predicted.
    """

    params: dict[str, Any]
    predicted: list[float | None] | None = None

    @property
    def labels(self) -> dict[str, Any]:
        """System attributes of its trial."""
        return {} if self.predicted is None else {PREDICTED: self.predicted}


class Screen:
    """Breeds children and chooses which to try.

    Args:
        archive: The finished trials.
        breeding: How children are bred.
        agreement: How well the last predictions ranked trials; None if there were none.
        rng: Randomness.
        running: Parameters that are being tried.

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
        self._seen = {*tried.keys, *problem.describe(problem.genes.encode(running)).keys()}
        given = breeding.mutation_prob
        self._mutation_prob = 1 / max(len(problem.genes), 1) if given is None else given
        best = elite(tried.losses, tried.penalties, max(breeding.population_size, _LEARNED))
        self._parents = best[: breeding.population_size]
        self._judge = _Judge(problem, tried, best[:_LEARNED]) if len(tried) >= _FEWEST else None
        if agreement is None and self._judge is not None:
            agreement = self._judge.agreement
        self.is_on = self._judge is not None and (agreement is None or agreement >= TRUSTED)

    @on_one_thread
    def choose(self, count: int) -> list[Child]:
        """Choose children that were not tried before; fewer than ``count`` if none is left."""
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
        """Draw a child uniformly, even one that was tried."""
        (params,) = self._problem.genes.decode(self._problem.genes.draw(1, self._rng))
        return Child(params)

    def _plain(self, count: int) -> Described:
        """Breed children as NSGA-II does; those that break a computed constraint come last."""
        children = self._drawn(count // 2)
        for _ in range(_TRIES):
            missing = count - int((children.penalties <= 0).sum())
            if not missing:
                break
            children = children.joined(self._new(self._children(missing)))
        return children.taken(np.argsort(children.penalties > 0, kind="stable")[:count])

    def _drawn(self, count: int) -> Described:
        """Draw children and lead them into the computed constraints, if there are any.

        Within narrow bounds candidates lie far apart, such as wide ones and deep ones of the same
        size: crossing the wide ones never gives a deep one.
        """
        problem, rng = self._problem, self._rng
        if not problem.computed_constraints:
            return self._nothing()
        drawn = problem.describe(problem.genes.draw(count, rng))
        for _ in range(_STEPS):
            outside = np.flatnonzero(drawn.penalties > 0)
            if not len(outside):
                break
            moved = problem.describe(
                problem.genes.mutate(drawn.rows[outside], self._mutation_prob, rng)
            )
            nearer = np.flatnonzero(moved.penalties < drawn.penalties[outside])
            drawn.rows[outside[nearer]] = moved.rows[nearer]
            drawn.penalties[outside[nearer]] = moved.penalties[nearer]
        return self._new(drawn.rows[drawn.penalties <= 0])

    def _children(self, count: int) -> Rows:
        """Cross and mutate parents by NSGA-II's operators."""
        genes, rng = self._problem.genes, self._rng
        if not len(self._tried):
            return genes.draw(count, rng)
        parents = self._tried.rows[self._parents]
        # Parents stand in the order of their worth: of two that are drawn the first one wins.
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
        """Breed from the best, tried and predicted; return those that add most to the front."""
        tried, size = self._tried, self._breeding.population_size
        pool = self._nothing()
        losses, penalties = tried.losses[self._parents], tried.penalties[self._parents]
        n_parents = len(losses)
        n_children = min(self._breeding.n_offspring * count, _MOST)
        for i in range(_ROUNDS):
            rows = np.concatenate((tried.rows[self._parents], pool.rows))
            best = elite(losses, penalties, 2 * size)
            children = self._new(self._varied(rows[best], -(-n_children // _ROUNDS)))
            if i == 0:
                children = children.joined(self._drawn(_DRAWN))
            pool = pool.joined(children)
            more = judge.judge(children)
            losses = np.concatenate((losses, more[0]))
            penalties = np.concatenate((penalties, more[1]))
        losses, penalties = losses[n_parents:], penalties[n_parents:]
        feasible = np.flatnonzero(penalties <= 0)
        if len(feasible) <= count:
            return pool.taken(elite(losses, penalties, count))
        front = tried.losses[tried.penalties <= 0]
        return pool.taken(feasible[most_added(front, losses[feasible], count, self._rng)])

    def _varied(self, parents: Rows, count: int) -> Rows:
        """Breed from parents; numbers also move a little, to come close to an optimum."""
        genes, rng = self._problem.genes, self._rng
        first, second = parents[rng.integers(len(parents), size=(2, count))]
        rows = self._crossed(first, second)
        if genes.is_number.any():
            blended = genes.blend(first, second, rng)
            rows = np.where((rng.random(count) < 0.5)[:, None], blended, rows)
            rows = genes.step(rows, self._mutation_prob, rng)
        return genes.mutate(rows, self._mutation_prob, rng)

    def _new(self, rows: Rows) -> Described:
        """Describe the children that were neither tried nor bred before."""
        described = self._problem.describe(rows)
        fresh = []
        for i, key in enumerate(described.keys()):
            if key not in self._seen:
                self._seen.add(key)
                fresh.append(i)
        return described.taken(fresh)

    def _nothing(self) -> Described:
        return self._problem.describe(np.empty((0, len(self._problem.genes))))


class _Judge:
    """Predicts candidates by a surrogate for each objective and constraint that has to be tried.

    Args:
        problem: What is searched.
        tried: The finished trials.
        best: Those to learn from, the best first.

    Attributes:
        agreement: How well trials are ranked when each is predicted from all others, from -1 to 1,
            for the objective where that is worst; None where no objective is predicted.
    """

    def __init__(self, problem: Problem, tried: Tried, best: NDArray[np.int64]) -> None:
        self._problem = problem
        features, losses = tried.features[best], tried.losses[best]
        nearest = np.arange(min(len(best), _NEAREST))
        self._objectives = [
            Surrogate(features, losses[:, i] * problem.signs[i], nearest) for i in problem.learned
        ]
        self._constraints = [_constraint(tried, values) for values in tried.violations.T]
        self.agreement = min((each.agreement for each in self._objectives), default=None)

    def predictions(self, described: Described) -> list[list[float | None]]:
        """Predict the objectives of candidates, None for those that are computed."""
        rows: list[list[float | None]] = [
            [None] * len(self._problem.signs) for _ in described.rows
        ]
        for i, surrogate in zip(self._problem.learned, self._objectives, strict=True):
            for row, value in zip(rows, surrogate.predict(described.features), strict=True):
                row[i] = float(value)
        return rows

    def judge(self, described: Described) -> tuple[Rows, Rows]:
        """Return the losses of candidates, and by how much they break the constraints."""
        losses, penalties = described.losses.copy(), described.penalties.copy()
        for i, surrogate in zip(self._problem.learned, self._objectives, strict=True):
            losses[:, i] = surrogate.predict(described.features) * self._problem.signs[i]
        for surrogate in self._constraints:
            penalties += np.maximum(surrogate.predict(described.features), 0.0)
        return losses, penalties


def _constraint(tried: Tried, values: Rows) -> Surrogate:
    """Learn a constraint from the trials that have it."""
    given = np.flatnonzero(~np.isnan(values))
    nearest = elite(tried.losses[given], tried.penalties[given], _NEAREST)
    return Surrogate(tried.features[given], values[given], nearest)
