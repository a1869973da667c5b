"""Metrics of installed packages: what is built in stays, what is broken is told."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace

import pytest

from tftas_optuna import UnavailableError, register_cost
from tftas_optuna.metrics import (
    COSTS_GROUP,
    INDICATORS_GROUP,
    cost_names,
    get_cost,
    get_indicator,
    metric_names,
    registry,
)

Install = Callable[..., None]


BROUGHT = SimpleNamespace(three=lambda arch, **sizes: 3.0, nothing=5)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Bring a package whose entry points name what is in it."""
    monkeypatch.setattr(registry.METRICS, "registered", {})
    monkeypatch.setitem(sys.modules, "brought", BROUGHT)  # type: ignore[arg-type]

    def install(group: str, **names: str) -> None:
        entries = [metadata.EntryPoint(n, f"brought:{of}", group) for n, of in names.items()]
        monkeypatch.setattr(
            metadata, "entry_points", lambda *, group: [e for e in entries if e.group == group]
        )
        for cache in ("_entry_points", "_loaded"):
            monkeypatch.setattr(registry.METRICS, cache, {})

    return install


def test_a_built_in_cost_is_not_replaced_by_a_package(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(COSTS_GROUP, macs="three", mine="three")
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        assert get_cost("macs").unit == get_cost("n_params").unit
    assert "brought:three is not used: macs is built in" in caplog.text
    assert cost_names().count("macs") == 1 and cost_names()[-1] == "mine"


def test_a_registered_cost_takes_the_place_of_an_installed_one_when_asked(
    install: Install,
) -> None:
    install(COSTS_GROUP, mine="three")
    register_cost("mine", lambda arch, **_: 4.0, unit="u", replace=True)
    assert get_cost("mine").unit == "u" and cost_names().count("mine") == 1


@pytest.mark.parametrize(
    ("group", "get", "message"),
    [
        (COSTS_GROUP, get_cost, "brought:nothing of an installed package: cost 'mine' is 5"),
        (INDICATORS_GROUP, get_indicator, "brought:nothing of .*: indicator 'mine' is 5"),
    ],
)
def test_a_package_whose_metric_is_broken_is_named(
    install: Install, group: str, get: Callable[[str], object], message: str
) -> None:
    install(group, mine="nothing")
    assert "mine" in metric_names()
    with pytest.raises(UnavailableError, match=message):
        get("mine")
