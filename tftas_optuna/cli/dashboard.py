"""``tftas-optuna dashboard``: optuna-dashboard on a study's storage, with notes."""

from __future__ import annotations

import contextlib
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import click

from tftas_optuna.cli._options import study_options, verbosity_options
from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from optuna import Study


class _Server(ThreadingMixIn, WSGIServer):
    """Answers requests in threads: browsers open connections that they do not use yet."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do nothing."""


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
    """Serve optuna-dashboard until interrupted, and print the address of the study.

    It first writes notes on each study and on the members of its front.
    """
    import optuna

    from tftas_optuna.storage import list_studies, open_storage, told

    opened = open_storage(storage, create=False)
    names = list_studies(opened, storage, study_name)
    # Listen before the slow part, so that no other program takes the port.
    verbose = click.get_current_context().meta["verbose"]
    with _listen(host, port, WSGIRequestHandler if verbose else _Quiet) as server:
        for name in names:
            try:
                _write_notes(optuna.load_study(study_name=name, storage=opened), storage)
            except Exception as error:
                # The storage may be read-only, for example; the study can still be viewed.
                if not isinstance(error, UnavailableError) and told(error) is None:
                    raise
                click.echo(f"Study {name} has no new notes: {told(error) or error}", err=True)
        address, what = f"http://{host}:{port}/", f"{len(names)} studies"
        if len(names) == 1:
            address += f"dashboard/studies/{opened.get_study_id_from_name(names[0])}"
            what = f"study {names[0]}"
        click.echo(f"Serving {what} at {address} until Ctrl-C.", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            import optuna_dashboard

            server.set_app(optuna_dashboard.wsgi(opened))
            server.serve_forever()


def _listen(host: str, port: int, handler: type[WSGIRequestHandler]) -> WSGIServer:
    try:
        return _Server((host, port), handler)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port} ({error.strerror}); give another --port"
        ) from error


def _write_notes(study: Study, storage: str) -> None:
    """Write the notes of a study, of its front, and of what was trained."""
    from tftas_optuna.report.commands import next_commands
    from tftas_optuna.storage.naming import shown
    from tftas_optuna.study import front
    from tftas_optuna.study.accuracy import training_sets
    from tftas_optuna.study.notes import write_study_note, write_trial_notes
    from tftas_optuna.study.record import has_settings, read_settings
    from tftas_optuna.study.selection import SHOWN, spread

    members = front.pareto_front(study) if has_settings(study) else []
    if members:
        settings = read_settings(study)
        commands = next_commands(shown(storage), study.study_name, members, settings)
        write_study_note(study, len(members), commands)
        noted = {candidate.trial: candidate for candidate in spread(members, SHOWN, settings)}
        sets = (*training_sets(study), *training_sets(study, shared=True))
        trained = {number for trainings in sets for number in trainings.records}
        for number in sorted(trained - noted.keys()):
            noted[number] = front.get_candidate(study, number)
        write_trial_notes(study, noted.values())
