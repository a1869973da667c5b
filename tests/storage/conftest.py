from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from conftest_studies import (  # noqa: F401  (fixtures)
    database,
    postgresql,
    run,
    storage,
    unknown_schema,
)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours ahead of the time that databases keep."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()
