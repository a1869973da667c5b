"""``tftas-optuna studies``: lists, renames and deletes studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import format_option, storage_option, verbosity_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study


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
    """Add ``--storage`` to a subcommand of ``studies``; by default that of ``studies`` itself."""
    return click.option(
        "--storage",
        metavar="URL",
        help="Database URL, or path of a SQLite or journal file; by default that of `studies`.",
        callback=lambda ctx, param, value: value or ctx.obj,
    )(command)


@studies.command()
@click.argument("old")
@click.argument("new")
@_same_storage
@verbosity_options
def rename(old: str, new: str, storage: str) -> None:
    """Rename the study OLD to NEW; its contents stay the same."""
    from tftas_optuna.storage import list_studies, open_storage, rename_study

    opened = open_storage(storage, create=False)
    list_studies(opened, storage, old)
    rename_study(opened, old, new)
    click.echo(f"Renamed study {old} to {new}.", err=True)


@studies.command()
@click.argument("name")
@_same_storage
@click.option("--yes", is_flag=True, help="Delete without asking.")
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

    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import MISSING
    from tftas_optuna.storage import list_studies, open_storage
    from tftas_optuna.storage.naming import shown

    opened = open_storage(storage, create=False)
    rows = [
        _row(optuna.load_study(study_name=name, storage=opened))
        for name in list_studies(opened, storage)
    ]
    if output != "table":
        _tables.print_rows(rows, output)
        return
    objectives = [", ".join(row["objectives"] or row["directions"]) for row in rows]
    fronts = [MISSING if row["front"] is None else str(row["front"]) for row in rows]
    columns = [
        _tables.Column("study", [row["study"] for row in rows], 0, "name"),
        _tables.Column("space", [row["space"] or MISSING for row in rows], 4, "name"),
        _tables.Column("objectives", objectives, 3, "name"),
        _tables.Column("trials", [str(row["trials"]) for row in rows], 1),
        _tables.Column("front", fronts, 2),
        _tables.Column("begun", [_begun(row["begun"]) for row in rows], 5, "words"),
        _tables.Column("how made", [row["problem"] or _how(row) for row in rows], 6, "name"),
    ]
    _tables.print_table(f"Studies in {shown(storage)}", columns)


def _begun(begun: str | None) -> str:
    import datetime

    from tftas_optuna.metrics.units import MISSING

    if begun is None:
        return MISSING
    return f"{datetime.datetime.fromisoformat(begun):%Y-%m-%d %H:%M}"


def _how(row: dict[str, Any]) -> str:
    """Describe in a few words how a study was made."""
    seed = "" if row["seed"] is None else f", seed {row['seed']}"
    return f"{row['sampler'] or 'custom sampler'}{seed}, {row['fidelity']}"


def _row(study: Study) -> dict[str, Any]:
    """Describe a study by plain data, with the same keys for every study.

    For a study that is damaged, or that another program made, ``problem`` says so.
    """
    from tftas_optuna.errors import TftasError
    from tftas_optuna.scoring.conditions import DRAWN
    from tftas_optuna.study.front import pareto_front
    from tftas_optuna.study.record import has_settings, read_settings

    settings, n_front, problem = None, None, None
    if has_settings(study):
        try:
            settings, n_front = read_settings(study), len(pareto_front(study))
        except TftasError as error:
            settings, problem = None, str(error)
    else:
        problem = "not made by tftas-optuna"
    trials = study.get_trials(deepcopy=False)
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    versions = study.user_attrs.get("versions")
    return {
        "study": study.study_name,
        "space": settings.space.name if settings else None,
        "objectives": list(settings.objectives if settings else study.metric_names or ()),
        "directions": [direction.name.lower() for direction in study.directions],
        "trials": len(trials),
        "front": n_front,
        "begun": min(starts).isoformat(timespec="seconds") if starts else None,
        "sampler": settings.sampler if settings else None,
        "seed": settings.seed if settings else None,
        "supernet": settings.conditions.supernet.path or DRAWN if settings else None,
        "supernet_seed": settings.conditions.supernet.seed if settings else None,
        "fidelity": settings.fidelity if settings else None,
        "version": versions.get("tftas-optuna")
        if settings and isinstance(versions, dict)
        else None,
        "problem": problem,
    }
