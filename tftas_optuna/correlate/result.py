"""Results of a comparison of indicators with accuracies."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from tftas_optuna._html import html_table, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.correlate.calibration import Calibration
    from tftas_optuna.study.accuracy import TrainingSet


class Estimate(NamedTuple):
    """A statistic with its 95 % bootstrap interval.

    Attributes:
        value: The statistic; None where all values are equal or missing.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Return the statistic and its interval with two digits: ``0.71 [0.60, 0.80]``."""
        value, low, high = (_rounded(number) for number in self)
        return value if self.low is None else f"{value} [{low}, {high}]"


class Band(NamedTuple):
    """Architectures of about the same number of parameters.

    Attributes:
        least: Fewest parameters among them.
        most: Most parameters among them.
        members: Their places in :attr:`Correlations.architectures`.
        random_regret: See :attr:`Correlation.regret`, for a pick at random.
    """

    least: int
    most: int
    members: tuple[int, ...]
    random_regret: float


@dataclasses.dataclass(frozen=True, repr=False)
class Correlation:
    """How one metric ranks architectures, compared with one accuracy.

    A positive correlation means that architectures with a better indicator are more accurate; for
    other metrics, those with a larger value.

    Attributes:
        accuracy: Column of the accuracies.
        metric: Name of the metric; a collapsed indicator is ``NAME_collapsed``.
        is_indicator: Whether it is an indicator.
        n: Number of architectures that have both.
        tau: Kendall's tau-b over all.
        spearman: Spearman's rho over all.
        band_tau: Mean of the taus inside the bands where it is defined.
        band_spearman: Mean of the rhos inside the bands.
        regret: How much less accurate the metric's pick in a band is than the best of the band,
            the mean over the bands; of picks that tie, the mean counts. None without any value.
        taus: Tau inside each band, from few parameters to many; None where it is not defined.
        spearmans: Rho inside each band.
        regrets: Regret in each band.
        seconds: Time of one score by this indicator alone; None for all else.
    """

    accuracy: str
    metric: str
    is_indicator: bool
    n: int
    tau: Estimate
    spearman: Estimate
    band_tau: Estimate
    band_spearman: Estimate
    regret: float | None
    taus: tuple[float | None, ...]
    spearmans: tuple[float | None, ...]
    regrets: tuple[float | None, ...]
    seconds: float | None = None

    def __repr__(self) -> str:
        return (
            f"<Correlation of {self.metric} with {self.accuracy} of {self.n:,} architectures:"
            f" tau {self.tau}, in bands {self.band_tau}>"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class Correlations:
    """How metrics rank architectures, compared with their accuracies.

    Attributes:
        name: Name of the table or study that they come from.
        space: Name of their space.
        rows: A comparison for each accuracy and each metric: parameters, MACs, depth and width,
            then the indicators.
        bands: The bands of each accuracy, from few parameters to many.
        architectures: The architectures.
        values: By metric, the values of the architectures; None where one is not finite.
        accuracies: By column, the accuracies of the architectures; None where there is none.
        notes: What was left out or is not defined, in sentences.
        calibration: The indicator that was calibrated, if one was asked for.
        trainings: Of a study, by column, the trainings that reached the accuracies, under equal
            conditions each.
    """

    name: str
    space: str
    rows: tuple[Correlation, ...]
    bands: Mapping[str, tuple[Band, ...]]
    architectures: tuple[Architecture, ...]
    values: Mapping[str, tuple[float | None, ...]]
    accuracies: Mapping[str, tuple[float | None, ...]]
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None
    trainings: Mapping[str, TrainingSet] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        metrics = len(dict.fromkeys(row.metric for row in self.rows))
        return (
            f"<Correlations of {self.name}: {metrics} metrics with {', '.join(self.accuracies)} of"
            f" {len(self.architectures):,} architectures in {self.space}>"
        )

    def _repr_html_(self) -> str:
        return "".join(
            html_table(
                f"{accuracy} of {len(self.architectures):,} architectures in {self.space}",
                ["metric", "Kendall tau", "Spearman", "tau in bands", "regret", "ms per score"],
                [
                    [
                        row.metric,
                        str(row.tau),
                        _rounded(row.spearman.value),
                        str(row.band_tau),
                        number(row.regret),
                        number(row.seconds and 1000 * row.seconds),
                    ]
                    for row in self.of(accuracy)
                ],
            )
            for accuracy in self.accuracies
        )

    def of(self, accuracy: str) -> tuple[Correlation, ...]:
        """Return the comparisons with one accuracy."""
        return tuple(row for row in self.rows if row.accuracy == accuracy)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one mapping of plain data for each comparison, ready for JSON or CSV.

        The ends of intervals are ``NAME_low`` and ``NAME_high``; ``band_params`` lists the most
        parameters of each band; ``trained`` is the key of the trainings of a study.
        """
        dicts = []
        for row in self.rows:
            plain: dict[str, Any] = {}
            for name, value in vars(row).items():
                if isinstance(value, Estimate):
                    plain |= {name: value.value, f"{name}_low": value.low}
                    plain[f"{name}_high"] = value.high
                elif name != "is_indicator":
                    plain[name] = list(value) if isinstance(value, tuple) else value
            plain["band_params"] = [band.most for band in self.bands[row.accuracy]]
            if row.accuracy in self.trainings:
                plain["trained"] = self.trainings[row.accuracy].key
            dicts.append(plain)
        return dicts


def _rounded(value: float | None) -> str:
    """Format with two digits, without a minus before zero."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"
