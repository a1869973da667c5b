"""How optuna-dashboard is served, where, and what its address is."""

from __future__ import annotations

from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from optuna.artifacts import FileSystemArtifactStore
    from optuna.storages import BaseStorage

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at once: browsers open connections that they do not use yet."""

    daemon_threads = True


def listen(host: str, port: int) -> WSGIServer:
    """Listen on a port, so that nobody else does; requests wait for :func:`serve`.

    Args:
        host: Address to listen on.
        port: The port; 0 for any that is free.

    Raises:
        UnavailableError: It is not free, or there is no such address here.
    """
    try:
        return _Server((host, port), WSGIRequestHandler)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port} ({error.strerror}); give another --port"
        ) from error


def serve(
    server: WSGIServer, opened: BaseStorage, store: FileSystemArtifactStore | None = None
) -> None:
    """Serve a storage until interrupted."""
    import optuna_dashboard

    server.set_app(optuna_dashboard.wsgi(opened, artifact_store=store))
    server.serve_forever()


def address_of(host: str, port: int, opened: BaseStorage, study_name: str | None) -> str:
    """Return the address of a dashboard, or of a study's page in it."""
    address = f"http://{host}:{port}/"
    if study_name is None:
        return address
    return f"{address}dashboard/studies/{opened.get_study_id_from_name(study_name)}"
