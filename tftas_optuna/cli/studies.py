"""``tftas-optuna studies``: what a storage holds; renames and deletes studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import format_option, storage_option, verbosity_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.study.overview import StudyOverview


@click.group(invoke_without_command=True)
@storage_option
@format_option
@verbosity_options
@click.pass_context
def studies(ctx: click.Context, storage: str, output: str) -> None:
    """List the studies of a storage, or rename or delete one."""
    ctx.obj = storage
    if ctx.invoked_subcommand is None:
        _list(storage, output)


def _same_storage(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--storage`` to a command below ``studies``, which may have been given it, too."""
    return click.option(
        "--storage",
        metavar="URL",
        help="Database URL, or path of a SQLite or journal file; as of `studies`.",
        callback=lambda ctx, param, value: value or ctx.obj,
    )(command)


@studies.command()
@click.argument("old")
@click.argument("new")
@_same_storage
@verbosity_options
def rename(old: str, new: str, storage: str) -> None:
    """Rename the study OLD to NEW; what it holds stays as it is."""
    from tftas_optuna.storage import list_studies, open_storage, rename_study

    opened = open_storage(storage, create=False)
    list_studies(opened, storage, old)
    rename_study(opened, old, new)
    click.echo(f"Renamed study {old} to {new}.", err=True)


@studies.command()
@click.argument("name")
@_same_storage
@click.option("--yes", is_flag=True, help="Do not ask.")
@verbosity_options
def delete(name: str, storage: str, yes: bool) -> None:
    """Delete the study NAME with all its trials; asks first."""
    import optuna

    from tftas_optuna.storage import delete_study, list_studies, open_storage

    opened = open_storage(storage, create=False)
    list_studies(opened, storage, name)
    study = optuna.load_study(study_name=name, storage=opened)
    n_trials = len(study.get_trials(deepcopy=False))
    if not yes:
        question = f"Delete study {name} with {n_trials} trials? This cannot be undone."
        click.confirm(question, abort=True, err=True)
    delete_study(opened, name)
    click.echo(f"Deleted study {name} with {n_trials} trials.", err=True)


def _list(storage: str, output: str) -> None:
    import optuna
    from rich.table import Table

    from tftas_optuna.cli import _tables
    from tftas_optuna.storage import list_studies, open_storage
    from tftas_optuna.storage.naming import shown
    from tftas_optuna.study.overview import overview

    opened = open_storage(storage, create=False)
    found = [
        overview(optuna.load_study(study_name=name, storage=opened))
        for name in list_studies(opened, storage)
    ]
    if output != "table":
        _tables.print_rows([_row(one) for one in found], output)
        return
    table = Table(title=f"Studies in {shown(storage)}", title_justify="left")
    for heading in ("study", "space", "objectives"):
        table.add_column(heading, overflow="fold")
    for heading in ("trials", "front"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("begun", no_wrap=True)
    table.add_column("how made", overflow="fold")
    for one in found:
        table.add_row(
            one.name,
            one.settings.space.name if one.settings else "-",
            ", ".join(one.objectives or one.directions),
            str(one.n_trials),
            "-" if one.n_front is None else str(one.n_front),
            f"{one.begun:%Y-%m-%d %H:%M}" if one.begun else "-",
            _how(one),
        )
    _tables.stdout().print(table)


def _how(one: StudyOverview) -> str:
    """Say in a few words how a study was made."""
    settings = one.settings
    if settings is None:
        return one.problem or ""
    sampler = settings.sampler or "a sampler of its user"
    seed = "" if settings.seed is None else f", seed {settings.seed}"
    return f"{sampler}{seed}, {settings.fidelity}"


def _row(one: StudyOverview) -> dict[str, Any]:
    """Return plain data, the same names for every study."""
    settings = one.settings
    return {
        "study": one.name,
        "space": settings.space.name if settings else None,
        "objectives": list(one.objectives),
        "directions": list(one.directions),
        "trials": one.n_trials,
        "front": one.n_front,
        "begun": one.begun.isoformat(timespec="seconds") if one.begun else None,
        "sampler": settings.sampler if settings else None,
        "seed": settings.seed if settings else None,
        "supernet_seed": settings.conditions.supernet.seed if settings else None,
        "fidelity": settings.fidelity if settings else None,
        "version": one.version,
        "problem": one.problem,
    }
