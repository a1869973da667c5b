"""Parameters as rows of numbers: nothing is lost, and what is bred stays in the space."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tftas_optuna.samplers.genes import Genes

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "choice": CategoricalDistribution((None, True, False, "a", 2.5, 7)),
    "one choice": CategoricalDistribution(("only",)),
    "float": FloatDistribution(-3.0, 5.0),
    "log float": FloatDistribution(1e-5, 1e2, log=True),
    "stepped float": FloatDistribution(0.1, 1.3, step=0.3),
    "uneven float": FloatDistribution(-0.7, 0.55, step=0.25),
    "one float": FloatDistribution(2.5, 2.5),
    "int": IntDistribution(-4, 9),
    "log int": IntDistribution(1, 1000, log=True),
    "stepped int": IntDistribution(3, 31, step=7),
    "one int": IntDistribution(6, 6),
    "huge int": IntDistribution(10**12, 10**12 + 5),
}
NUMBERS = {n: d for n, d in DISTRIBUTIONS.items() if not isinstance(d, CategoricalDistribution)}
NAMES = list(DISTRIBUTIONS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def is_in(distribution: BaseDistribution, value: object) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(value is choice for choice in distribution.choices)
    whole = isinstance(distribution, IntDistribution)
    assert type(value) is (int if whole else float)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert isinstance(value, int | float)
    steps = (value - distribution.low) / (distribution.step or 1)
    on_grid = distribution.step is None or math.isclose(steps, round(steps), abs_tol=1e-9)
    return distribution.low <= value <= distribution.high and on_grid


def all_in(rows: np.ndarray) -> bool:
    params = Genes(DISTRIBUTIONS).decode(rows)
    return all(is_in(DISTRIBUTIONS[name], row[name]) for row in params for name in row)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_lies_in_its_distribution(name: str) -> None:
    genes = Genes({name: DISTRIBUTIONS[name]})
    drawn = genes.decode(genes.draw(300, rng()))
    assert all(is_in(DISTRIBUTIONS[name], row[name]) for row in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_come_back_from_their_genes(name: str) -> None:
    genes = Genes({name: DISTRIBUTIONS[name]})
    rows = genes.draw(300, rng())
    params = genes.decode(rows)
    again = genes.decode(genes.encode(params))
    for before, after in zip(params, again, strict=True):
        assert type(after[name]) is type(before[name])
        is_float = isinstance(before[name], float)
        assert after[name] == (pytest.approx(before[name], rel=1e-9) if is_float else before[name])
    np.testing.assert_allclose(genes.encode(params), rows, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(1, 40))
def test_whole_numbers_come_back_exactly(low: int, span: int, step: int) -> None:
    distribution = IntDistribution(low, low + span * step, step=step)
    genes = Genes({"n": distribution})
    values = range(low, distribution.high + 1, distribution.step)
    params = [{"n": value} for value in values]
    assert genes.decode(genes.encode(params)) == params


@pytest.mark.parametrize("name", ["choice", "int", "stepped int", "stepped float", "huge int"])
def test_draws_cover_a_grid_evenly(name: str) -> None:
    genes = Genes({name: DISTRIBUTIONS[name]})
    drawn = [repr(row[name]) for row in genes.decode(genes.draw(4000, rng()))]
    counts = np.array([drawn.count(value) for value in set(drawn)])
    n_values = {"choice": 6, "int": 14, "stepped int": 5, "stepped float": 5, "huge int": 6}
    assert len(counts) == n_values[name]
    assert counts.min() > 0.7 * counts.max()


@pytest.mark.parametrize(
    ("name", "quartiles"),
    [("float", (-1.0, 1.0, 3.0)), ("log float", (10**-3.25, 10**-1.5, 10**0.25))],
)
def test_draws_are_uniform_on_the_scale_of_a_number(
    name: str, quartiles: tuple[float, ...]
) -> None:
    genes = Genes({name: DISTRIBUTIONS[name]})
    drawn = np.array([row[name] for row in genes.decode(genes.draw(8000, rng()))])
    for share, value in zip((0.25, 0.5, 0.75), quartiles, strict=True):
        assert np.mean(drawn < value) == pytest.approx(share, abs=0.02)


def test_small_numbers_of_a_logarithmic_scale_are_drawn_most() -> None:
    genes = Genes({"n": IntDistribution(1, 1000, log=True)})
    drawn = np.array([row["n"] for row in genes.decode(genes.draw(4000, rng()))])
    # Of as many steps of a logarithm from 1/2 to 1000 1/2, as Optuna draws.
    assert np.mean(drawn < 32) == pytest.approx(0.545, abs=0.03)
    assert np.mean(drawn == 1) == pytest.approx(0.145, abs=0.03)
    assert drawn.min() == 1 and drawn.max() > 900


def test_parameters_that_are_not_of_the_space_do_no_harm() -> None:
    genes = Genes({"int": DISTRIBUTIONS["int"]})
    assert genes.decode(genes.encode([{"other": "x", "int": 3}])) == [{"int": 3}]


def test_no_rows_are_no_parameters() -> None:
    genes = Genes(DISTRIBUTIONS)
    nothing = np.empty((0, len(genes)))
    assert genes.decode(nothing) == [] and genes.encode([]).shape == (0, len(DISTRIBUTIONS))
    assert len(genes.features(nothing)) == 0


def test_features_tell_all_values_apart() -> None:
    genes = Genes(DISTRIBUTIONS)
    rows = genes.draw(400, rng())
    features = genes.features(rows)
    # Five columns for six choices, none for one, two for each number.
    assert features.shape == (400, 5 + 0 + 2 * len(NUMBERS))
    assert len(np.unique(features, axis=0)) == len(np.unique(rows, axis=0))


def test_features_of_a_number_have_its_square() -> None:
    genes = Genes({"float": FloatDistribution(-3.0, 5.0)})
    found = genes.features(genes.encode([{"float": -3.0}, {"float": 1.0}, {"float": 5.0}]))
    np.testing.assert_allclose(found, [[0, 0], [0.5, 0.25], [1, 1]])


def test_crossover_takes_genes_from_parents_only_and_half_from_each() -> None:
    genes = Genes(DISTRIBUTIONS)
    first, second = genes.draw(500, rng(1)), genes.draw(500, rng(2))
    children = genes.cross(first, second, 0.5, rng())
    assert np.all((children == first) | (children == second))
    differ = first != second
    assert np.mean((children == second)[differ]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("prob", "expected"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_crossover_swaps_the_asked_share(prob: float, expected: float) -> None:
    genes = Genes(NUMBERS)
    shape = (500, len(genes))
    children = genes.cross(np.zeros(shape), np.ones(shape), prob, rng())
    assert children.mean() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("prob", [0.0, 0.1, 0.7, 1.0])
def test_mutation_changes_the_asked_share(prob: float) -> None:
    # Of so many choices hardly one is drawn again.
    genes = Genes({str(i): CategoricalDistribution(range(1000)) for i in range(8)})
    rows = genes.draw(500, rng(1))
    mutated = genes.mutate(rows, prob, rng())
    assert np.mean(mutated != rows) == pytest.approx(prob, abs=0.03)


def test_mutants_lie_in_their_distributions() -> None:
    rows = Genes(DISTRIBUTIONS).draw(200, rng(1))
    assert all_in(Genes(DISTRIBUTIONS).mutate(rows, 0.5, rng()))


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_blends_and_steps_stay_inside_and_on_the_grid(seed: int) -> None:
    genes = Genes(DISTRIBUTIONS)
    first, second = genes.draw(60, rng(seed)), genes.draw(60, rng(seed + 1))
    # At the ends most would leave.
    first[:20], second[:20] = np.where(genes.is_number, 1.0, 0), np.where(genes.is_number, 1.0, 0)
    assert all_in(genes.blend(first, second, rng(seed)))
    assert all_in(genes.step(first, 1.0, rng(seed)))


@pytest.mark.parametrize("name", ["stepped int", "stepped float", "uneven float", "int"])
def test_a_blend_is_where_its_value_is(name: str) -> None:
    genes = Genes({name: DISTRIBUTIONS[name]})
    rows = genes.blend(genes.draw(200, rng(1)), genes.draw(200, rng(2)), rng())
    np.testing.assert_allclose(genes.encode(genes.decode(rows)), rows, atol=1e-9)


def test_choices_are_neither_blended_nor_stepped() -> None:
    genes = Genes({"a": DISTRIBUTIONS["choice"], "b": DISTRIBUTIONS["float"]})
    first, second = genes.draw(200, rng(1)), genes.draw(200, rng(2))
    assert np.array_equal(genes.blend(first, second, rng())[:, 0], first[:, 0])
    assert np.array_equal(genes.step(first, 1.0, rng())[:, 0], first[:, 0])


def test_a_blend_of_two_is_near_one_and_centred_between_both() -> None:
    genes = Genes({"x": FloatDistribution(0.0, 1.0)})
    first, second = np.full((4000, 1), 0.4), np.full((4000, 1), 0.6)
    children = genes.blend(first, second, rng())
    # Deb and Agrawal: half of the first children lie between the parents.
    assert np.mean(children > 0.4) == pytest.approx(0.5, abs=0.03)
    assert np.median(np.abs(children - 0.4)) < 0.02
    assert children.std() > 0.005
    np.testing.assert_allclose(genes.blend(first, first, rng()), first)


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_steps_are_small_and_as_many_as_asked(prob: float) -> None:
    genes = Genes({"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})
    moved = genes.step(np.full((4000, 2), 0.5), prob, rng()) - 0.5
    assert np.mean(moved != 0) == pytest.approx(prob, abs=0.02)
    if prob:
        assert moved[moved != 0].std() == pytest.approx(0.1, abs=0.01)


def test_the_same_randomness_breeds_the_same() -> None:
    genes = Genes(DISTRIBUTIONS)
    rows = genes.draw(20, rng(3))
    assert np.array_equal(rows, genes.draw(20, rng(3)))
    assert not np.array_equal(rows, genes.draw(20, rng(4)))
    assert np.array_equal(genes.mutate(rows, 0.5, rng(1)), genes.mutate(rows, 0.5, rng(1)))
