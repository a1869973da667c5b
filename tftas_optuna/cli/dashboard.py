"""``tftas-optuna dashboard``: optuna-dashboard on a study's storage."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._options import study_options, verbosity_options
from tftas_optuna.cli._serving import DEFAULT_HOST, DEFAULT_PORT, address_of, listen, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.artifacts import FileSystemArtifactStore
    from optuna.storages import BaseStorage


@click.command()
@study_options
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on.",
)
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for artifacts: the files of up to twenty members of the front are put there, "
    "and shown with their trials.",
)
@verbosity_options
def dashboard(
    storage: str, study_name: str | None, host: str, port: int, artifacts: Path | None
) -> None:
    """Serve optuna-dashboard until interrupted, and print the address of the study."""
    from tftas_optuna.storage import list_studies, open_storage

    opened = open_storage(storage, create=False)
    names = list_studies(opened, storage, study_name)
    with listen(host, port) as server:
        store = None if artifacts is None else _store(opened, names, artifacts)
        what = f"study {names[0]}" if len(names) == 1 else f"{len(names)} studies"
        address = address_of(host, port, opened, names[0] if len(names) == 1 else None)
        click.echo(f"Serving {what} at {address} until Ctrl-C.", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            serve(server, opened, store)


def _store(opened: BaseStorage, names: Sequence[str], directory: Path) -> FileSystemArtifactStore:
    """Put files of the fronts of studies into an artifact store, and open it."""
    import optuna
    from optuna.artifacts import FileSystemArtifactStore

    from tftas_optuna.export.artifacts import check_store, keep_artifacts
    from tftas_optuna.study.front import pareto_front
    from tftas_optuna.study.record import has_settings
    from tftas_optuna.study.selection import SHOWN, spread

    check_store(directory)
    for name in names:
        study = optuna.load_study(study_name=name, storage=opened)
        if has_settings(study):
            keep_artifacts(study, spread(pareto_front(study), SHOWN), directory)
    return FileSystemArtifactStore(directory)
