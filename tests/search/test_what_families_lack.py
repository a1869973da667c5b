"""What a family does not have is refused before anything is made or scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tower

from tftas_optuna import ArchitectureObjective, TftasError, get_space, search
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.families import register_family
from tftas_optuna.metrics import Cost, register_cost, registry
from tftas_optuna.scoring import scorer
from tftas_optuna.spaces import SearchSpace

BOUND = {"reference_macs": (None, 1e9)}
REFERENCE = "family '{}' has no reference_macs; use macs, the true count"


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know one more family, and draw no supernet."""
    monkeypatch.setattr(FAMILIES, "registered", {})
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_family(tower.family)
    monkeypatch.setattr(scorer.Scorer, "__init__", lambda *args, **kwargs: pytest.fail("scored"))


@pytest.fixture(params=["tower", "pit"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return (
        tower.TowerSpace("t", (8, 16), (1, 2))
        if request.param == "tower"
        else get_space("pit-tiny")
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"objectives": ("dss", "reference_macs")},
        {"objectives": ("reference_macs",)},
        {"objectives": ("dss", "n_params"), "bounds": BOUND},
    ],
    ids=["objective", "only objective", "bound"],
)
def test_a_cost_is_refused_alike(
    space: SearchSpace, asked: dict[str, Any], tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    said = []
    with pytest.raises(TftasError) as caught:
        search(space, n_trials=1, storage=storage, **asked)
    said.append(str(caught.value))
    with pytest.raises(TftasError) as caught:
        ArchitectureObjective(space, **asked)
    said.append(str(caught.value))
    assert said == [REFERENCE.format(space.family)] * 2
    assert not (tmp_path / "study.db").exists()


def test_a_fidelity_is_refused_alike(tmp_path: Path) -> None:
    space, storage = tower.TowerSpace("t", (8, 16), (1, 2)), f"sqlite:///{tmp_path}/study.db"
    with pytest.raises(TftasError, match="^family 'tower' has no fidelity 'collapsed'; it has:"):
        search(space, n_trials=1, storage=storage, fidelity="collapsed")
    assert not (tmp_path / "study.db").exists()


def test_a_cost_of_the_users_may_refuse_families(space: SearchSpace) -> None:
    def refuse(family: str) -> None:
        raise TftasError(f"family {family!r} has no watts")

    cost = Cost("watts", lambda space, target, record: pytest.fail("opened"), refuses=refuse)
    register_cost("watts", cost)
    for asked in ({"objectives": ("dss", "watts")}, {"bounds": {"watts": (None, 3.0)}}):
        with pytest.raises(TftasError, match=f"^family '{space.family}' has no watts$"):
            search(space, n_trials=1, **asked)
        with pytest.raises(TftasError, match=f"^family '{space.family}' has no watts$"):
            ArchitectureObjective(space, **asked)
