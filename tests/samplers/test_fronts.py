"""Which candidates are kept, against slow versions from the textbook."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tftas_optuna.samplers.fronts import domination_ranks, elite, most_added
from tftas_optuna.study._optuna import compute_hypervolume

Rows = np.ndarray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def dominates(one: Rows, other: Rows) -> bool:
    return bool(np.all(one <= other) and np.any(one < other))


def textbook_ranks(losses: Rows, penalties: Rows) -> list[int]:
    """Fast non-dominated sorting with constrained domination (Deb et al. 2002, section VI)."""

    def beats(i: int, j: int) -> bool:
        if penalties[i] > 0 or penalties[j] > 0:
            return bool(penalties[i] < penalties[j])
        return dominates(losses[i], losses[j])

    ranks = [-1] * len(losses)
    rank = 0
    while -1 in ranks:
        left = [i for i, found in enumerate(ranks) if found < 0]
        for i in [i for i in left if not any(beats(j, i) for j in left)]:
            ranks[i] = rank
        rank += 1
    return ranks


def textbook_crowding(losses: Rows) -> Rows:
    distances = np.zeros(len(losses))
    for m in range(losses.shape[1]):
        order = sorted(range(len(losses)), key=lambda i: losses[i, m])
        low, high = losses[order[0], m], losses[order[-1], m]
        distances[order[0]] = distances[order[-1]] = np.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            distances[i] += (losses[after, m] - losses[before, m]) / (high - low)
    return distances


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=25, deadline=None)
def test_the_elite_is_in_the_textbooks_order(seed: int, n_objectives: int, broken: float) -> None:
    random = rng(seed)
    losses = random.random((30, n_objectives))
    penalties = random.random(30) * (random.random(30) < broken)
    ranks = textbook_ranks(losses, penalties)
    crowding = np.zeros(30)
    for rank in set(ranks):
        members = np.flatnonzero(np.array(ranks) == rank)
        crowding[members] = textbook_crowding(losses[members])
    expected = sorted(range(30), key=lambda i: (ranks[i], -crowding[i]))
    for count in (1, 7, 30, 99):
        found = elite(losses, penalties, count).tolist()
        assert len(found) == len(set(found)) == min(count, 30)
        # Ties of both may be broken either way.
        first = expected[:count]
        assert [ranks[i] for i in found] == [ranks[i] for i in first]
        np.testing.assert_allclose(crowding[found], crowding[first])


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.0, 0.3]))
@settings(max_examples=25, deadline=None)
def test_candidates_with_equal_losses_share_a_rank(
    seed: int, n_objectives: int, broken: float
) -> None:
    random = rng(seed)
    losses = random.integers(0, 4, (30, n_objectives)).astype(float)
    penalties = random.integers(1, 4, 30) * (random.random(30) < broken)
    expected = np.array(textbook_ranks(losses, penalties))
    for count in (1, 7, 30):
        found = domination_ranks(losses, penalties, count)
        # Beyond those that are asked for, all that is known is that they are worse.
        best = expected <= np.sort(expected)[count - 1]
        assert found[best].tolist() == expected[best].tolist()
        assert (found[~best] > expected[best].max()).all()


def test_those_with_a_penalty_come_last_the_smallest_first() -> None:
    losses = np.array([[0.0, 0.0], [9.0, 9.0], [1.0, 1.0], [8.0, 8.0]])
    order = elite(losses, np.array([0.5, 0.0, 0.2, 0.0]), 4)
    assert order.tolist() == [3, 1, 2, 0]


def test_of_a_crowded_rank_the_ends_and_the_lonely_are_kept() -> None:
    x = np.array([0.0, 0.01, 0.02, 0.5, 0.98, 0.99, 1.0])
    losses = np.stack((x, 1 - x), axis=1)
    assert set(elite(losses, np.zeros(7), 3).tolist()) == {0, 6, 3}


def test_of_one_objective_the_best_are_kept_in_order() -> None:
    losses = np.array([[3.0], [1.0], [2.0], [0.0]])
    assert elite(losses, np.zeros(4), 3).tolist() == [3, 1, 2]


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_equal_candidates_are_kept_as_many_as_asked(n_objectives: int) -> None:
    found = elite(np.ones((6, n_objectives)), np.zeros(6), 4)
    assert len(set(found.tolist())) == 4


def test_of_nothing_nothing_is_kept() -> None:
    assert elite(np.empty((0, 2)), np.empty(0), 5).tolist() == []


def scaled(front: Rows, candidates: Rows) -> tuple[Rows, Rows]:
    everything = np.concatenate((front, candidates))
    low, high = everything.min(axis=0), everything.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return (front - low) / width, (candidates - low) / width


def volume(points: Rows) -> float:
    return compute_hypervolume(points, np.full(points.shape[1], 1.1)) if len(points) else 0.0


def greedy(front: Rows, candidates: Rows, count: int) -> list[float]:
    """Hypervolumes after each choice of a greedy search that tries everything."""
    front, candidates = scaled(front, candidates)
    volumes = [volume(front)]
    left = list(range(len(candidates)))
    for _ in range(count):
        grown = {i: volume(np.concatenate((front, candidates[i : i + 1]))) for i in left}
        best = max(left, key=lambda i: grown[i])
        front = np.concatenate((front, candidates[best : best + 1]))
        volumes.append(grown[best])
        left.remove(best)
    return volumes


def reached(front: Rows, candidates: Rows, chosen: Rows) -> list[float]:
    front, candidates = scaled(front, candidates)
    counts = range(len(chosen) + 1)
    return [volume(np.concatenate((front, candidates[chosen[:n]]))) for n in counts]


@given(st.integers(0, 10**6), st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_of_two_objectives_those_are_chosen_that_add_most(seed: int, n_front: int) -> None:
    random = rng(seed)
    front, candidates = random.normal(0, 5, (n_front, 2)), random.normal(-2, 7, (12, 2))
    chosen = most_added(front, candidates, 5, rng())
    assert len(set(chosen.tolist())) == 5
    found = reached(front, candidates, chosen)
    # Choices that add nothing more follow by rank, so volumes agree throughout.
    assert found == pytest.approx(greedy(front, candidates, 5))


@pytest.mark.parametrize("n_objectives", [1, 3, 4])
def test_of_other_objectives_those_are_chosen_that_add_nearly_most(n_objectives: int) -> None:
    for seed in range(4):
        random = rng(seed)
        front = random.random((6, n_objectives))
        candidates = random.random((15, n_objectives)) - 0.1
        chosen = most_added(front, candidates, 5, rng())
        found, expected = reached(front, candidates, chosen), greedy(front, candidates, 5)
        assert found[-1] - found[0] > 0.93 * (expected[-1] - expected[0])


@pytest.mark.timeout(60)
def test_a_choice_among_very_many_that_add_as_much_ends() -> None:
    """Estimated gains are counts, of which thousands are equal."""
    random = rng(13)
    front, candidates = random.random((300, 3)), random.random((8000, 3))
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    candidates *= 0.985 / np.linalg.norm(candidates, axis=1, keepdims=True)
    assert len(set(most_added(front, candidates, 16, random).tolist())) == 16


def test_of_one_objective_the_best_is_chosen_first() -> None:
    front = np.array([[5.0]])
    candidates = np.array([[6.0], [4.0], [1.0], [3.0]])
    assert most_added(front, candidates, 1, rng()).tolist() == [2]
    assert sorted(most_added(front, candidates, 3, rng()).tolist()) == [1, 2, 3]


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_without_a_front_the_best_is_chosen_first(n_objectives: int) -> None:
    candidates = np.array([[0.9], [0.1], [0.5]]).repeat(n_objectives, axis=1)
    chosen = most_added(np.empty((0, n_objectives)), candidates, 2, rng())
    assert chosen.tolist() == [1, 2]


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_candidates_that_add_nothing_follow_by_rank(n_objectives: int) -> None:
    front = np.zeros((1, n_objectives))
    candidates = np.array([[3.0], [1.0], [2.0]]).repeat(n_objectives, axis=1)
    assert most_added(front, candidates, 3, rng()).tolist() == [1, 2, 0]


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_what_equals_a_choice_adds_nothing(n_objectives: int) -> None:
    candidates = np.zeros((4, n_objectives))
    candidates[3, -1], candidates[3, 0] = 0.9, -0.5
    chosen = most_added(np.ones((1, n_objectives)), candidates, 4, rng()).tolist()
    assert sorted(chosen) == [0, 1, 2, 3]
    if n_objectives == 2:
        assert 3 in chosen[:2]


def test_fewer_candidates_than_asked_are_all_chosen() -> None:
    chosen = most_added(np.ones((1, 2)), rng().random((3, 2)), 10, rng())
    assert sorted(chosen.tolist()) == [0, 1, 2]


def test_the_units_of_objectives_do_not_matter() -> None:
    random = rng(5)
    front, candidates = random.random((5, 2)), random.random((40, 2))
    units = np.array([1e9, 1e-6])
    chosen = most_added(front, candidates, 6, rng())
    again = most_added(front * units - 3, candidates * units - 3, 6, rng())
    assert chosen.tolist() == again.tolist()


def test_members_of_a_front_that_others_dominate_do_no_harm() -> None:
    random = rng(7)
    front, candidates = random.random((30, 2)), random.random((20, 2)) * 0.8
    found = reached(front, candidates, most_added(front, candidates, 6, rng()))
    assert found == pytest.approx(greedy(front, candidates, 6))
