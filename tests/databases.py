"""Fresh databases on the servers of this machine, one for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy

SERVERS = {
    "postgresql": os.environ.get(
        "TFTAS_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
    ),
    "mysql": os.environ.get("TFTAS_TEST_MYSQL", "mysql+pymysql://root@127.0.0.1:3306/"),
}


def fresh_database(kind: str) -> Iterator[str]:
    """Make an empty database, give its URL without a driver, and drop it again."""
    server = sqlalchemy.create_engine(SERVERS[kind], isolation_level="AUTOCOMMIT")
    name = f"tftas_{uuid.uuid4().hex[:12]}"
    try:
        with server.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    except sqlalchemy.exc.OperationalError as error:
        reason = f"no {kind} server for tests: {error.orig}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    url = sqlalchemy.make_url(SERVERS[kind]).set(drivername=kind, database=name)
    yield url.render_as_string(hide_password=False)
    force = " WITH (FORCE)" if kind == "postgresql" else ""
    with server.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name}{force}"))
