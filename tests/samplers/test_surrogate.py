"""What candidates are predicted to score, against one fit for each that is left out."""

from __future__ import annotations

import numpy as np
import pytest

from tftas_optuna.ranks import kendall_tau
from tftas_optuna.ridge import Ridge
from tftas_optuna.samplers.surrogate import Surrogate, _Kernel

Rows = np.ndarray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def everything(rows: Rows) -> Rows:
    return np.arange(len(rows))


def tau(features: Rows, values: Rows, tests: Rows, truth: Rows) -> float:
    return kendall_tau(Surrogate(features, values, everything(features)).predict(tests), truth)


def ridge_weights(inputs: Rows, targets: Rows, penalty: float) -> tuple[float, Rows]:
    """Solve the normal equations with an unpenalised constant."""
    table = np.hstack((np.ones((len(inputs), 1)), inputs))
    matrix = table.T @ table + penalty * np.diag([0.0, *[1.0] * inputs.shape[1]])
    solved = np.linalg.solve(matrix, table.T @ targets)
    return float(solved[0]), solved[1:]


def left_out_one_by_one(inputs: Rows, targets: Rows, penalty: float) -> Rows:
    found = []
    for i in range(len(targets)):
        kept = np.arange(len(targets)) != i
        constant, weights = ridge_weights(inputs[kept], targets[kept], penalty)
        found.append(targets[i] - constant - inputs[i] @ weights)
    return np.array(found)


@pytest.mark.parametrize(("count", "width"), [(25, 4), (12, 20)])
def test_a_ridge_leaves_out_one_by_one(count: int, width: int) -> None:
    inputs = rng().normal(size=(count, width))
    inputs -= inputs.mean(axis=0)
    targets = inputs[:, 0] - 2 * inputs[:, 1] + 0.5 * rng(1).normal(size=count) + 7
    penalties = np.logspace(-7, 3, 31) * count
    ridge = Ridge(inputs, targets, penalties)
    by_hand = [left_out_one_by_one(inputs, targets, penalty) for penalty in penalties]
    best = min(range(31), key=lambda i: float(np.mean(by_hand[i] ** 2)))
    np.testing.assert_allclose(ridge.left_out, by_hand[best], rtol=1e-5, atol=1e-7)
    constant, weights = ridge_weights(inputs, targets, penalties[best])
    np.testing.assert_allclose(ridge.predict(inputs), constant + inputs @ weights, rtol=1e-6)


def gaussian(first: Rows, second: Rows, width: float) -> Rows:
    distances = ((first[:, None] - second[None]) ** 2).sum(axis=2)
    return np.exp(-distances / (2 * width**2))


def test_a_kernel_leaves_out_one_by_one() -> None:
    inputs = rng().normal(size=(30, 2))
    targets = np.sin(2 * inputs[:, 0]) * inputs[:, 1] + 0.05 * rng(1).normal(size=30)
    kernel = _Kernel(inputs, targets)
    best, left_out, predicted = np.inf, targets, targets
    tests = rng(2).normal(size=(10, 2))
    for width in (0.35, 0.7, 1.4, 2.8):
        for noise in np.logspace(-7, 1, 17):
            residuals = []
            for i in range(30):
                kept = np.arange(30) != i
                matrix = gaussian(inputs[kept], inputs[kept], width) + noise * np.eye(29)
                weights = np.linalg.solve(matrix, targets[kept])
                residuals.append(
                    targets[i] - gaussian(inputs[i : i + 1], inputs[kept], width) @ weights
                )
            found = np.ravel(residuals)
            if np.mean(found**2) < best:
                best, left_out = float(np.mean(found**2)), found
                matrix = gaussian(inputs, inputs, width) + noise * np.eye(30)
                predicted = gaussian(tests, inputs, width) @ np.linalg.solve(matrix, targets)
    np.testing.assert_allclose(kernel.left_out, left_out, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kernel.predict(tests), predicted, rtol=1e-4, atol=1e-6)


def test_where_a_kernel_does_not_help_it_predicts_nothing() -> None:
    inputs, targets = rng().normal(size=(40, 3)), rng(1).normal(size=40)
    kernel = _Kernel(inputs * 100, targets)
    assert np.mean(kernel.left_out**2) <= np.mean(targets**2)
    assert np.abs(kernel.predict(rng(2).normal(size=(5, 3)) * 100)).max() < 0.3


def test_a_linear_function_is_predicted_exactly() -> None:
    weights = np.array([3.0, -2.0, 0.5])
    features, tests = rng().normal(size=(30, 3)), rng(1).normal(size=(50, 3))
    surrogate = Surrogate(features, features @ weights - 10, everything(features))
    found = surrogate.predict(tests)
    np.testing.assert_allclose(found, tests @ weights - 10, atol=1e-3)
    assert surrogate.agreement > 0.99


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_what_multiplies_is_predicted_by_its_logarithm(unit: float) -> None:
    weights = np.array([3.0, -4.0, 2.0])
    features, tests = rng().normal(size=(40, 3)), rng(1).normal(size=(50, 3))
    values = unit * np.exp(features @ weights)
    found = Surrogate(features, values, everything(features)).predict(tests)
    np.testing.assert_allclose(found, unit * np.exp(tests @ weights), rtol=1e-2)


def test_what_interacts_is_predicted_by_the_kernel() -> None:
    features, tests = rng().normal(size=(150, 2)), rng(1).normal(size=(100, 2))

    def value(x: Rows) -> Rows:
        product: Rows = x[:, 0] * x[:, 1] + 0.3 * x[:, 0]
        return product

    assert tau(features, value(features), tests, value(tests)) > 0.85


def test_features_that_do_not_matter_by_themselves_do_not_blur_the_kernel() -> None:
    features, tests = rng().normal(size=(120, 12)), rng(1).normal(size=(100, 12))

    def value(x: Rows) -> Rows:
        found: Rows = 2 * x[:, 0] + 2 * x[:, 1] + x[:, 0] * x[:, 1]
        return found

    assert tau(features, value(features), tests, value(tests)) > 0.9


def test_features_of_any_unit_are_alike() -> None:
    features, tests = rng().normal(size=(60, 3)), rng(1).normal(size=(20, 3))
    values = features[:, 0] * features[:, 1] + features[:, 2]
    units, shift = np.array([1e6, 1e-6, 1.0]), np.array([0.0, 5e-6, -100.0])
    one = Surrogate(features, values, everything(features)).predict(tests)
    other = Surrogate(features * units + shift, values, everything(features))
    np.testing.assert_allclose(other.predict(tests * units + shift), one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [-3.0, 0.0, 4.0])
def test_a_constant_value_is_predicted_constant(value: float) -> None:
    features = rng().normal(size=(20, 3))
    surrogate = Surrogate(features, np.full(20, value), everything(features))
    np.testing.assert_allclose(surrogate.predict(rng(1).normal(size=(5, 3))), value, atol=1e-9)
    assert surrogate.agreement == 0.0


def test_constant_features_do_not_count() -> None:
    features = rng().normal(size=(40, 3))
    values = features[:, 0] - 1
    padded = np.hstack((features, np.full((40, 2), 7.0)))
    tests = rng(1).normal(size=(10, 3))
    moved = np.hstack((tests, np.full((10, 2), 1e9)))
    expected = Surrogate(features, values, everything(features)).predict(tests)
    found = Surrogate(padded, values, everything(features)).predict(moved)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("width", [0, 2])
def test_without_features_that_differ_the_mean_is_predicted(width: int) -> None:
    features = np.ones((12, width))
    values = np.arange(12.0) - 3
    surrogate = Surrogate(features, values, everything(features))
    np.testing.assert_allclose(surrogate.predict(np.ones((3, width))), 2.5, atol=1e-6)
    assert surrogate.agreement < 0.2


def test_fewer_rows_than_features_are_enough_for_a_simple_function() -> None:
    features, tests = rng().normal(size=(20, 30)), rng(1).normal(size=(60, 30))
    features[:, 1:] *= 0.05
    tests[:, 1:] *= 0.05
    values, truth = features[:, 0] * 5, tests[:, 0] * 5
    found = Surrogate(features, values, everything(features)).predict(tests)
    assert np.isfinite(found).all()
    # Features are brought to one size, so that the rest is not known to be small.
    assert kendall_tau(found, truth) > 0.15


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_found_to_be_noise(seed: int) -> None:
    features, values = rng(seed).normal(size=(50, 10)), rng(seed + 100).normal(size=50)
    assert Surrogate(features, values, everything(features)).agreement < 0.25


def test_agreement_is_what_others_would_have_predicted() -> None:
    features = rng().normal(size=(60, 2))
    values = features[:, 0] + features[:, 1] + rng(1).normal(size=60)
    surrogate = Surrogate(features, values, everything(features))
    tests = rng(2).normal(size=(400, 2))
    truth = tests[:, 0] + tests[:, 1] + rng(3).normal(size=400)
    assert surrogate.agreement == pytest.approx(
        kendall_tau(surrogate.predict(tests), truth), abs=0.12
    )


def test_agreement_counts_the_nearest_only() -> None:
    features = rng().normal(size=(80, 2))
    values = features[:, 0] - 10
    values[40:] = rng(1).normal(size=40)
    sound = Surrogate(features, values, np.arange(40)).agreement
    noisy = Surrogate(features, values, np.arange(40, 80)).agreement
    assert sound > 0.5 > noisy


def test_the_kernel_knows_the_nearest_only() -> None:
    features = rng().uniform(-2, 2, size=(200, 1))
    values = np.sin(3 * features[:, 0]) - 5
    left = np.flatnonzero(features[:, 0] < 0)
    surrogate = Surrogate(features, values, left)
    tests = np.linspace(-1.9, -0.1, 40)[:, None]
    assert kendall_tau(surrogate.predict(tests), np.sin(3 * tests[:, 0])) > 0.9
    # Far from all that it knows, what is left is a line.
    right = surrogate.predict(np.linspace(1.4, 1.9, 40)[:, None])
    assert np.abs(np.diff(right, 2)).max() < 1e-3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_values_are_no_hindrance(count: int) -> None:
    features = rng().normal(size=(count, 4))
    surrogate = Surrogate(features, np.arange(count) + 1.0, everything(features))
    assert np.isfinite(surrogate.predict(features)).all()


def test_equal_rows_are_no_hindrance() -> None:
    features = rng().normal(size=(6, 3)).repeat(4, axis=0)
    values = features[:, 0] + 0.01 * rng(1).normal(size=24)
    found = Surrogate(features, values, everything(features)).predict(features)
    assert np.abs(found - features[:, 0]).max() < 0.5
