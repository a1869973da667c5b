"""``tftas-optuna correlate``: how well indicators rank architectures of known accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import (
    Choice,
    MetricsOption,
    device_option,
    format_option,
    fuse_option,
    storage_option,
    supernet_option,
    trained_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from tftas_optuna.cli._tables import Column
    from tftas_optuna.correlate.calibration import Advice
    from tftas_optuna.correlate.result import Correlation, Correlations, Estimate
    from tftas_optuna.spaces import SearchSpace


@click.command()
@click.argument(
    "table", required=False, type=click.Path(path_type=Path), metavar="[TABLE|DIRECTORY]"
)
@click.option(
    "--space",
    "space_name",
    metavar="NAME|FILE|timm:NAME",
    help="Space of the architectures; by default that of the files in the table.",
)
@click.option(
    "--study",
    "study_name",
    metavar="NAME",
    help="Study to use instead of a table, with the accuracies that `retrain` stored.",
)
@storage_option
@trained_option
@click.option(
    "--accuracy",
    metavar="COLUMN",
    multiple=True,
    help="Column of accuracies; by default all that are called acc, accuracy or top1, or end in "
    "these. Repeatable.",
)
@click.option(
    "--indicators",
    metavar="NAMES",
    callback=lambda ctx, param, value: (
        None if value is None else tuple(name.strip() for name in value.split(","))
    ),
    cls=MetricsOption,
    help="Indicators to compare, separated by commas; by default all: {indicators}.",
)
@fuse_option
@click.option(
    "--bands",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of parameter bands to compare within, with equally many architectures in each.",
)
@click.option(
    "--fidelity",
    type=Choice(["auto", "exact", "collapsed"]),
    default="auto",
    show_default=True,
    help="How to compute indicators; see `tftas-optuna run --help`.",
)
@supernet_option
@click.option(
    "--supernet-seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Seed of the supernet's weights; by default that of the study, or 0.",
)
@click.option(
    "--n-seeds",
    type=click.IntRange(min=1),
    help="Number of supernets to average scores over; by default that of the study, or 1.",
)
@click.option(
    "--img-size",
    type=click.IntRange(1, 4096),
    help="Input size; by default that of the study, the files or the space.",
)
@click.option(
    "--num-classes",
    type=click.IntRange(1, 1_000_000),
    help="Outputs of the classifier; by default likewise.",
)
@click.option(
    "--n-images",
    type=click.IntRange(2, 1_000_000),
    help="Images per batch, for indicators that see images; by default as in the study, or 8. "
    "And labelled images for accuracy and cross_entropy; by default likewise, or all.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    help="Images for these indicators, one folder per class; by default the study's, or noise.",
)
@click.option(
    "--calibrate",
    metavar="NAME",
    help="Fit an objective NAME for `run` that predicts one --accuracy from shapes and "
    "--indicators (by default naswot, snip, expressivity). Written to NAME.calibration.yaml.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes that score; see `tftas-optuna run --help`.",
)
@device_option
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Plot taus by band and accuracies by score to .html, or to .png, .svg, .pdf (with "
    "kaleido).",
)
@format_option
@verbosity_options
def correlate(
    table: Path | None,
    space_name: str | None,
    study_name: str | None,
    storage: str,
    fusions: tuple[tuple[str, tuple[str, ...]], ...],
    plot: Path | None,
    output: str,
    **options: Any,
) -> None:
    """Compare indicators with the accuracies of trained architectures.

    TABLE is a CSV file (with the columns of `front -f csv`) or a JSON list of objects, with one
    or more columns of accuracies. It can also be a CSV file with names of exported files and
    accuracies, or the directory of one. Prints Kendall's tau, Spearman's rho and the accuracy lost
    by an indicator's pick, over all architectures and within bands of similar parameters, where
    size is no help.

    Run an interrupted command again to continue it: scores are kept in TABLE.scores.json, those
    of a study in STUDY.scores.json in this directory.

    \b
      tftas-optuna correlate trained.csv --space autoformer-tiny
      tftas-optuna correlate --study autoformer-tiny --plot worth.html
    """
    if (table is None) == (study_name is None):
        raise click.UsageError("give one of a table, a directory and --study")
    if study_name is None and options["trained"] is not None:
        raise click.UsageError(
            "--trained is for a --study; for a table, name a column with --accuracy"
        )
    if study_name is not None and (space_name or options["accuracy"]):
        raise click.UsageError("a --study has its space and its accuracies; leave out the options")
    from tftas_optuna.cli import _tables

    if plot is not None:
        from tftas_optuna.correlate.figure import check_plot

        check_plot(plot)
    from tftas_optuna.indicators import register_fusion
    from tftas_optuna.scoring.calibrated import ENDING, check_calibration_file, find_calibrations
    from tftas_optuna.spaces import get_space

    for fused, parts in fusions:
        register_fusion(fused, parts)
    if options["indicators"] is not None:
        # Fusions that are defined here are compared too.
        options["indicators"] = tuple(
            dict.fromkeys((*options["indicators"], *(fused for fused, _ in fusions)))
        )
    find_calibrations(options["indicators"] or (), Path())
    if options["calibrate"] is not None:
        check_calibration_file(Path(options["calibrate"] + ENDING))
    options["accuracy"] = options["accuracy"] or None
    source: Path | Study | None = table
    if study_name is not None:
        from tftas_optuna.correlate.cache import cache_name
        from tftas_optuna.storage import load_study

        source = load_study(storage, study_name)
        options["cache"] = Path(cache_name(study_name))
    else:
        options["space"] = None if space_name is None else get_space(space_name)
    correlations = _correlate(source, **options)
    if output == "table":
        for accuracy in correlations.accuracies:
            _print_table(correlations, accuracy)
    else:
        _tables.print_rows(correlations.to_dicts(), output)
    if correlations.calibration is not None:
        _keep_calibration(correlations, str(table or study_name), space_name, storage)
    if plot is not None:
        from tftas_optuna.correlate.figure import write_plot

        write_plot(correlations, plot)
        click.echo(f"Drawn to {plot}.", err=True)


def _keep_calibration(
    correlations: Correlations, source: str, space_name: str | None, storage: str
) -> None:
    """Save a calibrated indicator; print how well it ranks and the command to use it."""
    from tftas_optuna.correlate.calibration import BEST_COLUMN, LEFT_OUT, advise
    from tftas_optuna.metrics import get_indicator
    from tftas_optuna.report.commands import search_command
    from tftas_optuna.scoring.calibrated import ENDING

    calibration = correlations.calibration
    assert calibration is not None
    (accuracy,) = correlations.accuracies
    trainings = correlations.trainings.get(accuracy)
    name = calibration.indicator.name
    rows = {row.metric: row for row in correlations.of(accuracy)}
    ours, best = rows[name + LEFT_OUT], rows[BEST_COLUMN + LEFT_OUT]
    path = Path(name + ENDING)
    calibration.indicator.save(
        path,
        {
            "source": source,
            "accuracy": accuracy if trainings is None else f"{accuracy}, {trainings}",
            "networks": calibration.n,
            "tau_left_out": ours.tau.value,
            "tau_left_out_in_bands": ours.band_tau.value,
            "best_column": calibration.column,
            "share_of_regression": calibration.share,
        },
    )
    advice = advise(calibration, correlations.of(accuracy))
    predictors = {
        0.0: f"{advice.column} alone",
        0.5: f"{advice.column} and a regression on shapes, costs and indicators",
        1.0: "a regression on shapes, costs and indicators",
    }
    click.echo(
        f"{name} is calibrated on {calibration.n} networks: {predictors[calibration.share]}.\n"
        "Kendall tau with networks that were left out, over all and in bands:"
        f" {name} {_rounded(ours.tau.value)}, {_rounded(ours.band_tau.value)};"
        f" the best column {_rounded(best.tau.value)}, {_rounded(best.band_tau.value)}.",
        err=True,
    )
    if advice.over_all or advice.in_bands:
        click.echo(_advised(name, calibration.share, advice), err=True)
    ours_is_best = advice.objective == name
    command = search_command(
        calibration.indicator if ours_is_best else get_indicator(advice.objective),
        calibration.indicator.conditions,
        _space_word(calibration.indicator.conditions.space, space_name, path),
        storage,
    )
    click.echo(f"Written to {path}. Next:\n  {command}", err=True)


def _advised(name: str, share: float, advice: Advice) -> str:
    """Say in one line what ranks better than a calibration, and what follows from it."""
    column, objective = advice.column, advice.objective
    if not advice.in_bands:
        return (
            f"Over all networks {column} alone ranks better; in bands of similar size, which count"
            f" in a search beside n_params, {name} does."
        )
    where = "" if advice.over_all else " in bands of similar size"
    better = f"{column} alone ranks better than {name}{where}"
    if objective == column:
        return f"{better}: search by {objective}, or calibrate again on more networks."
    # A regression that helped in no fold leaves the column, with its sign.
    better = f"{name} is no more than {column}" if share == 0 else f"{better}, but is no objective"
    if objective == name:
        return f"{better}, and no indicator here is better: calibrate again on more networks."
    return f"{better}; {objective} ranks better too: search by {objective}."


def _space_word(space: SearchSpace, given: str | None, calibration: Path) -> str:
    """Return what ``--space`` takes for the space of a calibration."""
    from tftas_optuna.spaces import get_space, space_names

    if given is not None:
        return given
    preset = space.name in space_names() and get_space(space.name) == space
    # The file of a calibration has its space.
    return space.name if preset else str(calibration)


def _correlate(source: Any, device: str, workers: int, **options: Any) -> Correlations:
    """Correlate with a progress display for each step; scores survive an interruption."""
    from contextlib import ExitStack

    from tftas_optuna.cli._interrupts import Interrupts
    from tftas_optuna.cli._progress import StepDisplay
    from tftas_optuna.correlate.api import correlate
    from tftas_optuna.scoring.execution import Execution

    units = {
        "reading": "rows",
        "reference sample": "architectures",
        "scoring": "architectures",
        "times": "indicators",
        "statistics": "comparisons",
    }
    displays: dict[str, StepDisplay] = {}
    with ExitStack() as stack, Interrupts() as interrupts:

        def show(step: str, done: int, total: int) -> None:
            interrupts.check()
            if step not in displays:
                stack.close()
                displays[step] = stack.enter_context(StepDisplay(step, units[step]))
            displays[step](done, total)

        try:
            execution = Execution(device, workers)
            return correlate(source, execution=execution, callback=show, **options)
        except KeyboardInterrupt:
            stack.close()
            click.echo("Interrupted; scores are kept. Go on with the same command.", err=True)
            raise SystemExit(interrupts.exit_code) from None


def _print_table(correlations: Correlations, accuracy: str) -> None:
    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import short

    bands, rows = correlations.bands[accuracy], correlations.of(accuracy)
    title = f"{accuracy} of {rows[0].n} architectures in {correlations.space}"
    trainings = correlations.trainings.get(accuracy)
    if trainings is not None:
        title += f"; trainings {trainings.key}: {trainings}"
    shapes = [row for row in rows if not row.is_indicator]
    columns = _columns(shapes, [row for row in rows if row.is_indicator])
    _tables.print_table(title, columns, section=len(shapes))
    ends = [short(bands[0].least), *(short(band.most) for band in bands)]
    random = sum(band.random_regret for band in bands) / len(bands)
    count = "1 band" if len(bands) == 1 else f"{len(bands)} bands"
    click.echo(f"{count} of parameters: {' - '.join(ends)}.")
    click.echo(f"A random pick is {random:.3g} below the best of its band.\n")


def _columns(shapes: Sequence[Correlation], indicators: Sequence[Correlation]) -> list[Column]:
    """Return the columns of a table: first shapes, then indicators, best first."""
    from tftas_optuna.cli._tables import Column
    from tftas_optuna.metrics.units import MISSING

    rows = (*shapes, *sorted(indicators, key=_band_tau, reverse=True))
    regrets = [MISSING if row.regret is None else f"{row.regret:.3g}" for row in rows]
    times = ["" if row.seconds is None else _milliseconds(row.seconds) for row in rows]
    taus, band_taus = [row.tau for row in rows], [row.band_tau for row in rows]
    return [
        Column("metric", [row.metric for row in rows], 0, "name"),
        _tau_column("Kendall tau", taus, 2),
        Column("Spearman", [_rounded(row.spearman.value) for row in rows], 4),
        _tau_column("tau in bands", band_taus, 1),
        Column("regret", regrets, 3),
        Column("ms", times, 5),
    ]


def _tau_column(heading: str, taus: Sequence[Estimate], rank: int) -> Column:
    from tftas_optuna.cli._tables import Column

    brief = [_rounded(tau.value) for tau in taus]
    return Column(heading, [_with_interval(tau) for tau in taus], rank, brief=brief)


def _band_tau(row: Correlation) -> float:
    return -1.0 if row.band_tau.value is None else row.band_tau.value


def _with_interval(estimate: Estimate) -> str:
    if estimate.low is None:
        return _rounded(estimate.value)
    low, high = _rounded(estimate.low), _rounded(estimate.high)
    return f"{_rounded(estimate.value)} [{low}, {high}]"


def _rounded(value: float | None) -> str:
    """Format with two digits, without a minus before zero."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"
