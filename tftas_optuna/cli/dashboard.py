"""``tftas-optuna dashboard``: optuna-dashboard on a study's storage."""

from __future__ import annotations

import socket

import click

from tftas_optuna.cli._options import study_options, verbosity_options


@click.command()
@study_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on.",
)
@verbosity_options
def dashboard(storage: str, study_name: str | None, host: str, port: int) -> None:
    """Serve optuna-dashboard until interrupted, and print the address of the study."""
    import optuna_dashboard

    from tftas_optuna.errors import UnavailableError
    from tftas_optuna.storage import list_studies, open_storage

    opened = open_storage(storage, create=False)
    names = list_studies(opened, storage, study_name)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {host}:{port} ({error.strerror}); give another --port"
            ) from error
    what = f"study {names[0]}" if len(names) == 1 else f"{len(names)} studies"
    address = f"http://{host}:{port}/"
    if len(names) == 1:
        address += f"dashboard/studies/{opened.get_study_id_from_name(names[0])}"
    click.echo(f"Serving {what} at {address} until Ctrl-C.", err=True)
    optuna_dashboard.run_server(opened, host=host, port=port)
