"""``tftas-optuna correlate``: how well indicators rank architectures of known accuracy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import (
    MetricsOption,
    device_option,
    format_option,
    fuse_option,
    storage_option,
    trained_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from optuna import Study
    from rich.table import Table

    from tftas_optuna.correlate.result import Correlation, Correlations, Estimate


@click.command()
@click.argument(
    "table", required=False, type=click.Path(path_type=Path), metavar="[TABLE|DIRECTORY]"
)
@click.option(
    "--space",
    "space_name",
    metavar="NAME|FILE",
    help="Space of the architectures; that of the files which the table names.",
)
@click.option(
    "--study",
    "study_name",
    metavar="NAME",
    help="In place of a table: a study, with the accuracies that `retrain` stored.",
)
@storage_option
@trained_option
@click.option(
    "--accuracy",
    metavar="COLUMN",
    multiple=True,
    help="Column of accuracies; all called acc, accuracy, top1 or ending so. Repeatable.",
)
@click.option(
    "--indicators",
    metavar="NAMES",
    callback=lambda ctx, param, value: (
        None if value is None else tuple(name.strip() for name in value.split(","))
    ),
    cls=MetricsOption,
    help="What to compare, separated by commas; all: {indicators}.",
)
@fuse_option
@click.option(
    "--bands",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Bands of parameters to compare inside of, each of as many architectures.",
)
@click.option(
    "--fidelity",
    type=click.Choice(["auto", "exact", "collapsed"]),
    default="auto",
    show_default=True,
    help="How indicators are computed; see `tftas-optuna run --help`.",
)
@click.option(
    "--supernet-seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Seed of the supernet's weights; that of the study, or 0.",
)
@click.option(
    "--n-seeds",
    type=click.IntRange(min=1),
    help="Supernets to average scores over; those of the study, or 1.",
)
@click.option(
    "--img-size",
    type=click.IntRange(1, 4096),
    help="Input size; that of the study, the files or the space.",
)
@click.option(
    "--num-classes",
    type=click.IntRange(1, 1_000_000),
    help="Outputs of the classifier; likewise.",
)
@click.option(
    "--n-images",
    type=click.IntRange(2, 4096),
    help="Images of one batch, for indicators that see images; those of the study, or 8.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    help="Pictures for them to see, one folder for each class; those of the study, or noise.",
)
@click.option(
    "--calibrate",
    metavar="NAME",
    help="Make an objective NAME for `run` of what shapes and --indicators (naswot, snip, "
    "expressivity) say of one --accuracy. Written to NAME.calibration.yaml.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes to score in; see `tftas-optuna run --help`.",
)
@device_option
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw taus by band and accuracies by score: .html, or .png, .svg, .pdf (with kaleido).",
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

    TABLE is a CSV file (the columns of `front -f csv`) or a JSON list of objects, with one or
    more columns of accuracies; or a CSV file of names of exported files and accuracies; or the
    directory of that. Kendall's tau, Spearman's rho and the accuracy that is lost by an
    indicator's pick, over all and inside bands of equal parameters, where size is no help.

    The same command goes on where one was cut off: scores are kept in TABLE.scores.json, those of
    a study in STUDY.scores.json in this directory.

    \b
      tftas-optuna correlate trained.csv --space autoformer-tiny
      tftas-optuna correlate --study autoformer-tiny --plot worth.html
    """
    if (table is None) == (study_name is None):
        raise click.UsageError("give a table, a directory, or --study, and one of them")
    if study_name is None and options["trained"] is not None:
        raise click.UsageError("--trained is for a --study; of a table, --accuracy names a column")
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
        # What is made here is to be compared.
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
    found = _correlate(source, **options)
    if output == "table":
        for accuracy in found.accuracies:
            _print_table(found, accuracy)
    else:
        _tables.print_rows(found.to_dicts(), output)
    if found.calibration is not None:
        _keep_calibration(found, str(table or study_name))
    if plot is not None:
        from tftas_optuna.correlate.figure import write_plot

        write_plot(found, plot)
        click.echo(f"Drawn to {plot}.", err=True)


def _keep_calibration(found: Correlations, source: str) -> None:
    """Write a calibrated indicator, and say what it is worth and what comes next."""
    from tftas_optuna.correlate.calibration import LEFT_OUT
    from tftas_optuna.scoring.calibrated import ENDING

    calibration = found.calibration
    assert calibration is not None
    (accuracy,) = found.accuracies
    trainings = found.trainings
    name = calibration.indicator.name
    ours, best = (row for row in found.of(accuracy) if row.metric.endswith(LEFT_OUT))
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
    what = {
        0.0: f"{calibration.column} alone",
        0.5: f"{calibration.column} and a regression on shapes, costs and indicators",
        1.0: "a regression on shapes, costs and indicators",
    }
    click.echo(
        f"{name} is calibrated on {calibration.n} networks: {what[calibration.share]}.\n"
        "Kendall tau with networks that were left out, over all and in bands:"
        f" {name} {_rounded(ours.tau.value)}, {_rounded(ours.band_tau.value)};"
        f" the best column {_rounded(best.tau.value)}, {_rounded(best.band_tau.value)}.\n"
        f"Written to {path}. Next:\n"
        f"  tftas-optuna run --space {shlex.quote(found.space)} --objectives {name},n_params",
        err=True,
    )


def _correlate(source: Any, device: str, workers: int, **options: Any) -> Correlations:
    """Correlate, with a display for each step, and tell what is kept if somebody interrupts."""
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

        def tell(step: str, done: int, total: int) -> None:
            interrupts.check()
            if step not in displays:
                stack.close()
                displays[step] = stack.enter_context(StepDisplay(step, units[step]))
            displays[step](done, total)

        try:
            execution = Execution(device, workers)
            return correlate(source, execution=execution, callback=tell, **options)
        except KeyboardInterrupt:
            stack.close()
            click.echo("Interrupted; scores are kept. Go on with the same command.", err=True)
            raise SystemExit(interrupts.exit_code) from None


def _print_table(found: Correlations, accuracy: str) -> None:
    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import short

    bands, rows = found.bands[accuracy], found.of(accuracy)
    title = f"{accuracy} of {rows[0].n} architectures in {found.space}"
    if found.trainings is not None:
        title += f"; trainings {found.trainings.key}: {found.trainings}"
    _tables.stdout().print(_layout(rows, title))
    ends = [short(bands[0].least), *(short(band.most) for band in bands)]
    random = sum(band.random_regret for band in bands) / len(bands)
    count = "1 band" if len(bands) == 1 else f"{len(bands)} bands"
    click.echo(f"{count} of parameters: {' - '.join(ends)}.")
    click.echo(f"A random pick is {random:.3g} below the best of its band.\n")


def _layout(rows: tuple[Correlation, ...], title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("metric", overflow="fold")
    for heading in ("Kendall tau", "Spearman", "tau in bands", "regret", "ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    shapes = [row for row in rows if not row.is_indicator]
    indicators = [row for row in rows if row.is_indicator]
    for row in (*shapes, *sorted(indicators, key=_band_tau, reverse=True)):
        table.add_row(
            row.metric,
            _with_interval(row.tau),
            _rounded(row.spearman.value),
            _with_interval(row.band_tau),
            "-" if row.regret is None else f"{row.regret:.3g}",
            "" if row.seconds is None else _milliseconds(row.seconds),
            end_section=row is shapes[-1],
        )
    return table


def _band_tau(row: Correlation) -> float:
    return -1.0 if row.band_tau.value is None else row.band_tau.value


def _with_interval(estimate: Estimate) -> str:
    if estimate.low is None:
        return _rounded(estimate.value)
    low, high = _rounded(estimate.low), _rounded(estimate.high)
    return f"{_rounded(estimate.value)} [{low}, {high}]"


def _rounded(value: float | None) -> str:
    """Write two digits, and no minus before zero."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"
