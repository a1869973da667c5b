"""``tftas-optuna dashboard``: optuna-dashboard on a study's storage."""

from __future__ import annotations

import contextlib
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import click

from tftas_optuna.cli._options import study_options, verbosity_options
from tftas_optuna.errors import UnavailableError


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at once: browsers open connections that they do not use yet."""

    daemon_threads = True


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
    from tftas_optuna.storage import list_studies, open_storage

    opened = open_storage(storage, create=False)
    names = list_studies(opened, storage, study_name)
    # Before what takes long to load, so that nobody else takes the port.
    with _listen(host, port) as server:
        address, what = f"http://{host}:{port}/", f"{len(names)} studies"
        if len(names) == 1:
            address += f"dashboard/studies/{opened.get_study_id_from_name(names[0])}"
            what = f"study {names[0]}"
        click.echo(f"Serving {what} at {address} until Ctrl-C.", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            import optuna_dashboard

            server.set_app(optuna_dashboard.wsgi(opened))
            server.serve_forever()


def _listen(host: str, port: int) -> WSGIServer:
    try:
        return _Server((host, port), WSGIRequestHandler)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port} ({error.strerror}); give another --port"
        ) from error
