"""Compares metrics with accuracies: over all architectures, and within bands of similar size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.correlate.result import Band, Correlation, Correlations, Estimate
from tftas_optuna.errors import UnavailableError
from tftas_optuna.ranks import resampled_spearman, resampled_tau_b

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tftas_optuna.correlate.files import Tell
    from tftas_optuna.correlate.table import TrainedTable

    Floats = NDArray[np.float64]

LEAST = 5
_RESAMPLES = 1000
_SEED = 0


class Ranked(NamedTuple):
    """A metric, to be compared with accuracies.

    Attributes:
        name: Its name.
        values: Its value for each architecture; None where it has none.
        sign: 1, or -1 where less is better.
        is_indicator: Whether it is an indicator.
        seconds: Time of one score.
    """

    name: str
    values: Sequence[float | None]
    sign: int = 1
    is_indicator: bool = False
    seconds: float | None = None


def check_accuracies(name: str, accuracies: Sequence[float | None]) -> None:
    """Check that there is something to compare with.

    Raises:
        UnavailableError: There are too few accuracies, or all are the same.
    """
    given = [value for value in accuracies if value is not None]
    if len(given) < LEAST:
        raise UnavailableError(
            f"{name} is known of {len(given)} architectures; {LEAST} or more are needed"
        )
    if len(set(given)) == 1:
        raise UnavailableError(f"{name} is {given[0]:g} in every row: nothing to compare with")


def compare_all(
    trained: TrainedTable, metrics: Sequence[Ranked], bands: int, tell: Tell
) -> Correlations:
    """Compare every metric with every accuracy of a table.

    Args:
        trained: The table.
        metrics: The metrics, ``n_params`` among them.
        bands: Number of bands; fewer if a band would have less than five architectures.
        tell: Called with ``"statistics"``, the number of comparisons done and their total.
    """
    (n_params,) = (metric.values for metric in metrics if metric.name == "n_params")
    total = len(trained.accuracies) * len(metrics)
    notes = list(trained.notes)
    rows: list[Correlation] = []
    bands_of: dict[str, tuple[Band, ...]] = {}
    for name, values in trained.accuracies.items():
        comparison = Comparison(name, values, n_params, bands)
        bands_of[name] = comparison.bands
        if len(comparison.bands) < bands:
            n = sum(len(band.members) for band in comparison.bands)
            notes.append(
                f"bands: {len(comparison.bands)} in place of {bands}, as {name} is known of {n}"
                f" architectures and a band needs {LEAST}"
            )
        for metric in metrics:
            tell("statistics", len(rows), total)
            rows.append(comparison.compare(metric))
        notes += _notes_on_equal_values(rows[-len(metrics) :], comparison.n_flat)
    return Correlations(
        name=trained.name,
        space=trained.space.name,
        rows=tuple(rows),
        bands=bands_of,
        architectures=trained.architectures,
        values={metric.name: tuple(metric.values) for metric in metrics},
        accuracies=trained.accuracies,
        notes=tuple(dict.fromkeys(notes)),
        trainings=trained.trainings,
    )


def _notes_on_equal_values(rows: Sequence[Correlation], n_flat: int) -> list[str]:
    """Return notes on values that are all equal and cannot be ranked.

    Args:
        rows: Comparisons with one accuracy.
        n_flat: Bands in which all accuracies are the same.
    """
    n_bands = len(rows[0].taus)
    notes = []
    if n_flat:
        notes.append(
            f"{rows[0].accuracy} is the same in {n_flat} of {n_bands} bands: no tau there"
        )
    for row in rows:
        lacking = sum(tau is None for tau in row.taus)
        if row.n < 2:
            continue  # It has no values; another note says why.
        if row.tau.value is None:
            notes.append(f"{row.metric} is the same for all architectures: no correlation")
        elif lacking > n_flat:
            notes.append(
                f"{row.metric} does not differ in {lacking} of {n_bands} bands: its tau in bands"
                " is the mean of the others"
            )
    return notes


def draw_resamples(size: int, n_resamples: int, seed: int) -> Floats:
    """Draw bootstrap resamples, as counts, shape (n_resamples, size)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(size, np.full(size, 1 / size), n_resamples).astype(np.float64)


def interval(resampled: Floats) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of a statistic, where it is defined; None if nowhere."""
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


class Comparison:
    """One accuracy, to be compared with metrics.

    Args:
        name: Column of the accuracies.
        accuracies: One for each architecture; None where it was not trained.
        n_params: Parameters of each architecture.
        bands: Number of bands; fewer if a band would have less than five architectures.

    Attributes:
        bands: The bands.
        n_flat: Bands in which all accuracies are the same.
    """

    def __init__(
        self,
        name: str,
        accuracies: Sequence[float | None],
        n_params: Sequence[float | None],
        bands: int,
    ) -> None:
        self._name = name
        self._members = np.array([i for i, value in enumerate(accuracies) if value is not None])
        self._accuracy = np.array([value for value in accuracies if value is not None])
        size = len(self._members)
        params = np.asarray(n_params, dtype=np.float64)[self._members]
        order = np.argsort(params, kind="stable")
        self._bands = np.array_split(order, max(1, min(bands, size // LEAST)))
        self.n_flat = sum(len(set(self._accuracy[band])) == 1 for band in self._bands)
        # The first row is the sample itself, the others are its resamples.
        drawn = draw_resamples(size, _RESAMPLES, _SEED)
        self._counts = np.concatenate([np.ones((1, size)), drawn])
        self.bands = tuple(
            Band(
                least=int(params[band[0]]),
                most=int(params[band[-1]]),
                members=tuple(int(i) for i in self._members[band]),
                random_regret=float(self._accuracy[band].max() - self._accuracy[band].mean()),
            )
            for band in self._bands
        )

    def compare(self, metric: Ranked) -> Correlation:
        """Compare a metric with the accuracy, where it has a value."""
        values = metric.sign * np.array(metric.values, dtype=np.float64)[self._members]
        tau, band_tau, taus = self._estimate(resampled_tau_b, values)
        spearman, band_spearman, spearmans = self._estimate(resampled_spearman, values)
        regrets = tuple(_or_none(self._regret(values, band)) for band in self._bands)
        defined = [regret for regret in regrets if regret is not None]
        return Correlation(
            accuracy=self._name,
            metric=metric.name,
            is_indicator=metric.is_indicator,
            n=int(np.isfinite(values).sum()),
            tau=tau,
            spearman=spearman,
            band_tau=band_tau,
            band_spearman=band_spearman,
            regret=float(np.mean(defined)) if defined else None,
            taus=taus,
            spearmans=spearmans,
            regrets=regrets,
            seconds=metric.seconds,
        )

    def _estimate(
        self, statistic: Callable[[Floats, Floats, Floats], Floats], values: Floats
    ) -> tuple[Estimate, Estimate, tuple[float | None, ...]]:
        """Estimate a statistic of all architectures, its mean over bands, and for each band."""

        def among(places: NDArray[np.intp]) -> Floats:
            finite = places[np.isfinite(values[places])]
            if not len(finite):
                return np.full(len(self._counts), np.nan)
            return statistic(values[finite], self._accuracy[finite], self._counts[:, finite])

        overall = among(np.arange(len(values)))
        inside = np.array([among(band) for band in self._bands])
        defined = np.isfinite(inside)
        means = np.divide(
            np.where(defined, inside, 0).sum(axis=0),
            defined.sum(axis=0),
            out=np.full(inside.shape[1], np.nan),
            where=defined.any(axis=0),
        )
        by_band = tuple(_or_none(value) for value in inside[:, 0])
        return _estimate(overall), _estimate(means), by_band

    def _regret(self, values: Floats, band: NDArray[np.intp]) -> float:
        accuracy, values = self._accuracy[band], values[band]
        if np.isnan(values).all():
            return math.nan
        return float(accuracy.max() - accuracy[values == np.nanmax(values)].mean())


def _estimate(statistics: Floats) -> Estimate:
    """Return an estimate from a statistic of the sample, followed by those of its resamples."""
    value = _or_none(statistics[0])
    ends = interval(statistics[1:]) if value is not None else None
    return Estimate(value, *ends) if ends is not None else Estimate(value)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
