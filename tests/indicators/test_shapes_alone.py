"""What needs shapes alone is computed without a network, to the same values."""

from __future__ import annotations

import pytest
import tower
from menu_cases import SIZES, SPACES, candidates, textbook

from tftas_optuna import Scorer, SearchSpace, get_space, register_family, score_model
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.supernet import Supernet

PRESETS = ("autoformer-tiny", "pit-tiny")


@pytest.mark.parametrize("space", [*SPACES.values(), *map(get_space, PRESETS)], ids=str)
def test_neither_networks_nor_weights_are_made_and_values_are_the_same(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(space, indicator="ffn_capacity", **SIZES)
    archs = candidates(space, 5)
    networks = [scorer.subnet(arch) for arch in archs]
    expected = [score_model(n, indicator="ffn_capacity", n_images=2) for n in networks]
    rows = [scorer.explain(arch) for arch in archs]
    assert [len(of) for of in rows] == [str(n).count("fc1") for n in networks]

    def never(*_: object) -> None:
        raise AssertionError

    fresh = Scorer(space, indicator="ffn_capacity", **SIZES)
    for name in ("subnet", "_signed"):
        monkeypatch.setattr(Supernet, name, never)
    assert fresh.batch(archs) == expected


def test_names_that_the_largest_network_has_not_are_looked_up_in_the_candidate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = SPACES["relative"]
    scorer = Scorer(space, indicator="ffn_capacity", **SIZES)
    outline = Supernet.outline

    def renamed(self: Supernet, arch: object) -> dict[str, object]:
        return {f"other.{name}": weight for name, weight in outline(self, arch).items()}

    monkeypatch.setattr(Supernet, "outline", renamed)
    for arch in candidates(space, 3):
        assert scorer(arch) == pytest.approx(textbook(scorer, arch), rel=1e-12)


def test_a_family_of_somebody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FAMILIES, "registered", {})
    register_family(tower.family)
    space = tower.TowerSpace("t", (8, 16), (1, 2))
    scorer = Scorer(space, indicator="ffn_capacity", **SIZES)
    archs = candidates(space, 4)
    expected = [score_model(scorer.subnet(a), indicator="ffn_capacity", n_images=2) for a in archs]
    assert scorer.batch(archs) == expected and len(set(expected)) > 2
