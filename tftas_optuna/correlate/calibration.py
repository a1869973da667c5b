"""Calibrates an indicator on trained networks: few accuracies, used well.

Two predictions, both as standard scores: the single column that ranks the accuracies best (with
its sign), and a ridge regression on all of them: the features of the shape, its depth and width,
parameters, MACs and indicators. Accuracies enter by their ranks, so that a training that went
wrong does not decide. The column, the regression, or the mean of both is taken, whichever ranks
networks that were left out best: with few or noisy trainings a calibration is then no worse than
the column, with many it is as good as the regression.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.metrics import get_indicator, metric_names
from tftas_optuna.metrics.base import check_name
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.ridge import Ridge
from tftas_optuna.scoring.calibrated import CalibratedIndicator, is_replaceable, shape_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.correlate.result import Correlation
    from tftas_optuna.study.settings import StudySettings

    Rows = NDArray[np.float64]

# The fewest trained networks to calibrate on.
FEWEST = 10
# The usual indicators of a calibration: they share one pass of eight images.
USUAL = ("naswot", "snip", "expressivity")
# The end of the names of predictions for networks that were left out of the fit.
LEFT_OUT = " (left out)"
BEST_COLUMN = "best column"
# Shares of the regression that are tried beside the best column.
SHARES = (0.0, 0.5, 1.0)
PENALTIES = np.logspace(-4, 4, 33)
_FOLDS = 10
_INNER_FOLDS = 5
_TINY = 1e-9
COSTS = ("n_params", "macs")


class Inputs(NamedTuple):
    """Values to predict accuracies from.

    Attributes:
        features: Features of the shapes, (networks, features).
        columns: Values that may predict by themselves: depth, width, costs and indicators,
            (networks, columns).
        names: What the columns are called.
    """

    features: Rows
    columns: Rows
    names: tuple[str, ...]


class Fit(NamedTuple):
    """A linear prediction of accuracies.

    Attributes:
        means: Means of the features, then of the columns.
        weights: Their weights.
        constant: What is predicted at the means.
        column: The column that ranks best alone.
        share: Share of the regression beside it, one of :data:`SHARES`.
    """

    means: Rows
    weights: Rows
    constant: float
    column: str
    share: float

    def predict(self, inputs: Inputs) -> Rows:
        """Predict the accuracies of networks, shape (networks,)."""
        accuracies: Rows = self.constant + (_rows(inputs) - self.means) @ self.weights
        return accuracies


class Calibration(NamedTuple):
    """A calibrated indicator, and how well it predicts.

    Attributes:
        indicator: The indicator.
        left_out: The prediction for each network from the others.
        column: The column that ranks best alone.
        column_left_out: Likewise, from the one column that was best among the others.
        share: Share of the regression beside it, one of :data:`SHARES`.
        n: Networks that it was calibrated on.
    """

    indicator: CalibratedIndicator
    left_out: tuple[float | None, ...]
    column: str
    column_left_out: tuple[float | None, ...]
    share: float
    n: int


class Advice(NamedTuple):
    """What to search by after a calibration.

    Attributes:
        objective: The name of the calibration, or that of an indicator that does better.
        column: The column that ranks best alone, such as ``"naswot"`` or ``"less depth"``.
        over_all: Whether the best column ranks better than the calibration over all networks.
        in_bands: Whether it does so inside bands of similar size, which counts.
    """

    objective: str
    column: str
    over_all: bool
    in_bands: bool


def check_calibration(
    name: str, indicators: Sequence[str], accuracies: Mapping[str, Sequence[float | None]]
) -> None:
    """Check that an indicator can be calibrated under a name.

    Args:
        name: Its name.
        indicators: What it is made of.
        accuracies: Accuracies by column.

    Raises:
        TftasError: The name is not allowed or taken, there are several accuracies, or an
            indicator is itself made of others.
        UnavailableError: There are too few networks.
    """
    check_name(name)
    if name in metric_names() and not is_replaceable(name):
        raise TftasError(f"metric {name!r} exists already; give another name")
    if len(accuracies) != 1:
        raise TftasError(
            f"{name!r} is calibrated on one accuracy, the table has {', '.join(accuracies)};"
            " choose one, of a study with --trained"
        )
    composites = [name for name in indicators if get_indicator(name).composite]
    if composites:
        raise TftasError(
            f"{name!r} cannot be made of {composites[0]!r}, which is itself made of others;"
            " leave it out"
        )
    (values,) = accuracies.values()
    count = sum(value is not None for value in values)
    if count < FEWEST:
        raise UnavailableError(
            f"{name!r} cannot be calibrated on {count} networks, needed are {FEWEST} or more"
        )


def calibrate(
    name: str,
    archs: Sequence[Architecture],
    accuracies: Sequence[float],
    scores: Mapping[str, Sequence[float]],
    settings: StudySettings,
) -> Calibration:
    """Calibrate an indicator.

    Args:
        name: Its name.
        archs: Trained architectures, each once.
        accuracies: Their accuracies.
        scores: Values of the architectures for each of :data:`COSTS` and the indicators of the
            settings.
        settings: What the indicators were computed with.
    """
    parts = (*COSTS, *(part for part in settings.indicators if part in scores))
    logs = tuple(min(scores[part]) > 0 for part in parts)
    table = np.array([scores[part] for part in parts], dtype=np.float64).T
    columns = np.where(logs, np.log(np.where(logs, table, 1.0)), table)
    shapes = np.array([shape_inputs(settings.space, arch) for arch in archs])
    inputs = Inputs(
        shapes[:, :-2], np.hstack((shapes[:, -2:], columns)), ("depth", "width", *parts)
    )
    observed = np.array(accuracies, dtype=np.float64)
    fitted = fit(inputs, observed)
    indicator = CalibratedIndicator(
        name,
        parts=parts,
        logs=logs,
        means=tuple(fitted.means.tolist()),
        weights=tuple(fitted.weights.tolist()),
        constant=fitted.constant,
        conditions=settings.conditions,
        ranges=tuple(
            (float(values.min()), float(values.max())) for values in (*shapes.T[-2:], *table.T)
        ),
    )
    left_out, alone = np.empty_like(observed), np.empty_like(observed)
    for rest, fold in _folds(len(observed), _FOLDS):
        left_out[fold] = fit(_some(inputs, rest), observed[rest]).predict(_some(inputs, fold))
        column = _BestColumn(inputs.columns[rest], _normal(observed[rest]))
        alone[fold] = column.predict(inputs.columns[fold])
    return Calibration(
        indicator,
        tuple(left_out.tolist()),
        fitted.column,
        tuple(alone.tolist()),
        fitted.share,
        len(observed),
    )


def advise(calibration: Calibration, rows: Sequence[Correlation]) -> Advice:
    """Say what to search by, from how well networks that were left out are ranked.

    What counts is the tau in bands of similar size, as a search has the size as its second
    objective. A column that is no indicator, or an indicator of which less is better, is no
    objective of a search: in its place the best indicator is taken, if it does better too.

    Args:
        calibration: The calibration.
        rows: The comparisons with its accuracy, those of the left-out networks among them.
    """
    by_name = {row.metric.removesuffix("_collapsed"): row for row in reversed(rows)}
    objective, column = calibration.indicator.name, calibration.column
    ours, best = by_name[objective + LEFT_OUT], by_name[BEST_COLUMN + LEFT_OUT]
    less = (by_name[column].tau.value or 0.0) < 0
    in_bands = _worth(best) > _worth(ours)
    if in_bands:
        indicators = calibration.indicator.indicators
        leader = max(indicators, key=lambda name: _worth(by_name[name]), default=None)
        if column in indicators and not less:
            objective = column
        elif leader is not None and _worth(by_name[leader]) > _worth(ours):
            objective = leader
    return Advice(
        objective,
        f"less {column}" if less else column,
        (best.tau.value or 0.0) > (ours.tau.value or 0.0),
        in_bands,
    )


def _worth(row: Correlation) -> float:
    """Return the tau in bands, or over all where it is not defined inside any."""
    tau = row.tau.value if row.band_tau.value is None else row.band_tau.value
    return 0.0 if tau is None else tau


def fit(inputs: Inputs, accuracies: Rows) -> Fit:
    """Fit a prediction as this module's docstring says.

    Args:
        inputs: Of trained networks.
        accuracies: Their accuracies, shape (networks,).
    """
    left_out = [np.empty_like(accuracies) for _ in SHARES]
    for rest, fold in _folds(len(accuracies), _INNER_FOLDS):
        kept, tested = _some(inputs, rest), _some(inputs, fold)
        targets = _normal(accuracies[rest])
        centre = _rows(kept).mean(axis=0)
        weights, _ = _weights(kept, targets)
        for predicted, by_share in zip(left_out, weights, strict=True):
            predicted[fold] = (_rows(tested) - centre) @ by_share
    taus = [kendall_tau(predicted, accuracies) for predicted in left_out]
    chosen = int(np.argmax(taus))
    by_shares, column = _weights(inputs, _normal(accuracies))
    best = by_shares[chosen]
    rows = _rows(inputs)
    means = rows.mean(axis=0)
    # Scaled to the unit of the accuracies by quartiles, which outliers do not move.
    predicted = (rows - means) @ best
    spread = np.subtract(*np.quantile(accuracies, (0.75, 0.25)))
    own = np.subtract(*np.quantile(predicted, (0.75, 0.25)))
    scale = spread / own if spread > 0 and own > _TINY else 1.0
    constant = float(np.median(accuracies) - np.median(predicted) * scale)
    return Fit(means, best * scale, constant, inputs.names[column.best], SHARES[chosen])


class _BestColumn:
    """The one column that ranks best, as a standard score with its sign.

    Attributes:
        best: Its place.
        weights: A weight for every column, all zero but its own.
    """

    def __init__(self, columns: Rows, targets: Rows) -> None:
        taus = np.array([kendall_tau(column, targets) for column in columns.T])
        self.best = int(np.argmax(np.abs(taus)))
        spread = float(columns[:, self.best].std())
        self.weights = np.zeros(columns.shape[1])
        # A column without variation here cannot tell networks apart elsewhere.
        if spread > _TINY:
            self.weights[self.best] = (np.sign(taus[self.best]) or 1.0) / spread
        self._means = columns.mean(axis=0)

    def predict(self, columns: Rows) -> Rows:
        """Predict standard scores of other networks, shape (networks,)."""
        scores: Rows = (columns - self._means) @ self.weights
        return scores


def _weights(inputs: Inputs, targets: Rows) -> tuple[list[Rows], _BestColumn]:
    """Fit the column and the regression; return their weights mixed by each of the shares."""
    column = _BestColumn(inputs.columns, targets)
    n_features = inputs.features.shape[1]
    rows = _rows(inputs)
    centred = rows - rows.mean(axis=0)
    spreads = rows.std(axis=0)
    # What does not vary gets no weight, and all features together weigh as much as all columns.
    groups = (n_features, inputs.columns.shape[1])
    sizes = np.sqrt(np.repeat(groups, groups))
    scales = np.where(spreads > _TINY, 1 / (np.maximum(spreads, _TINY) * sizes), 0.0)
    ridge = Ridge(centred * scales, targets, PENALTIES).weights * scales
    spread = float((centred @ ridge).std())
    ridge = ridge / spread if spread > _TINY else np.zeros_like(ridge)
    alone = np.concatenate((np.zeros(n_features), column.weights))
    return [share * ridge + (1 - share) * alone for share in SHARES], column


def _rows(inputs: Inputs) -> Rows:
    return np.hstack((inputs.features, inputs.columns))


def _normal(accuracies: Rows) -> Rows:
    """Replace accuracies by the normal scores of their ranks; equal ones get equal scores."""
    _, place, counts = np.unique(accuracies, return_inverse=True, return_counts=True)
    middles = (np.cumsum(counts) - counts / 2) / len(accuracies)
    scores = np.array([NormalDist().inv_cdf(share) for share in middles])
    by_accuracy: Rows = scores[place]
    return by_accuracy


def _folds(count: int, folds: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return random but reproducible splits into positions to learn from and to leave out."""
    order = np.random.default_rng(0).permutation(count)
    parts = np.array_split(order, min(folds, count))
    return [(np.setdiff1d(order, part), part) for part in parts]


def _some(inputs: Inputs, rows: NDArray[np.int64]) -> Inputs:
    return Inputs(inputs.features[rows], inputs.columns[rows], inputs.names)
