"""Where a dashboard listens, and what its address is."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080


def check_port(host: str, port: int) -> int:
    """Check that a port is free.

    Args:
        host: Address to listen on.
        port: The port; 0 for any that is free.

    Returns:
        The port.

    Raises:
        UnavailableError: It is not free, or there is no such address here.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {host}:{port} ({error.strerror}); give another --port"
            ) from error
        found: int = probe.getsockname()[1]
        return found


def address_of(host: str, port: int, opened: BaseStorage, study_name: str | None) -> str:
    """Return the address of a dashboard, or of a study's page in it."""
    address = f"http://{host}:{port}/"
    if study_name is None:
        return address
    return f"{address}dashboard/studies/{opened.get_study_id_from_name(study_name)}"
