"""``tftas-optuna report``: a study as one HTML file."""

from __future__ import annotations

import re
from pathlib import Path

import click

from tftas_optuna.cli._options import (
    budget_options,
    budgets,
    study_options,
    trained_option,
    verbosity_options,
)


@click.command()
@study_options
@click.option("--trial", "trials", type=int, multiple=True, help="Draw this trial; repeatable.")
@click.option("--best", is_flag=True, help="Draw the best of the front, within the budgets.")
@click.option("--knee", is_flag=True, help="Draw the knee of the front, within the budgets.")
@budget_options
@trained_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write; by default the study's name with .html.",
)
@verbosity_options
def report(
    storage: str,
    study_name: str | None,
    trials: tuple[int, ...],
    best: bool,
    knee: bool,
    params_max: float | None,
    macs_max: float | None,
    latency_max: float | None,
    more_bounds: tuple[tuple[str, str, float], ...],
    trained: str | None,
    out: Path | None,
) -> None:
    """Write a study as one HTML file that needs no server and no network.

    It shows the front, how it grew, which choices pay, and some members: by default six
    spread over the front, within the budgets.
    """
    from tftas_optuna.cli._members import check_picks, pick
    from tftas_optuna.cli._progress import StepDisplay
    from tftas_optuna.report.page import check_report, write_report
    from tftas_optuna.storage import load_study

    limits = budgets(params_max, macs_max, latency_max, more_bounds)
    check_picks(trials=trials, best=best, knee=knee, limits=limits)
    study = load_study(storage, study_name)
    path = out if out is not None else Path(_file_name(study.study_name))
    check_report(path)
    chosen = pick(study, trials=trials, best=best, knee=knee, limits=limits, trained=trained)
    if not (trials or best or knee):
        from tftas_optuna.report.contents import PICKED
        from tftas_optuna.study.record import read_settings
        from tftas_optuna.study.selection import spread

        chosen = spread(chosen, PICKED, read_settings(study))
    with StepDisplay("report", "sections") as display:
        write_report(
            study, path, picked=chosen, storage=storage, trained=trained, callback=display
        )
    click.echo(path)


def _file_name(study_name: str) -> str:
    """Return a file name for a study, without parts of a path."""
    stem = re.sub(r"[^\w.-]+", "-", study_name).strip(".-")[:100]
    return f"{stem or 'report'}.html"
