"""Networks of candidates are built once and lent: to the same values, in any order."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
import tower
from menu_cases import NAMES, SIZES, SPACES, candidates

from tftas_optuna import Scorer, SearchSpace, register_family
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.models import AutoFormer
from tftas_optuna.models.pit import PiT
from tftas_optuna.passes import recording
from tftas_optuna.supernet import Supernet


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The architectures whose networks were built."""
    archs: list[object] = []
    blank = Supernet.blank

    def build(self: Supernet, arch: Any, **kwargs: Any) -> torch.nn.Module:
        archs.append(arch)
        return blank(self, arch, **kwargs)

    monkeypatch.setattr(Supernet, "blank", build)
    return archs


def order(space: SearchSpace) -> list[Any]:
    """Candidates of all depths, deep ones after shallow ones and before."""
    archs = candidates(space, 6)
    return [*archs, *reversed(archs)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("space", SPACES)
def test_scores_are_those_of_networks_built_for_each_candidate(
    space: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    archs = order(SPACES[space])
    scorers = [Scorer(SPACES[space], indicator=name, dtype=dtype, **SIZES) for name in NAMES]
    lent = [[scorer(arch) for arch in archs] for scorer in scorers]
    for network in (AutoFormer, PiT):
        monkeypatch.setattr(network, "become", lambda self, arch: False)
    assert [[scorer(arch) for arch in archs] for scorer in scorers] == lent


@pytest.mark.parametrize("space", SPACES)
def test_a_network_is_built_once(space: str, built: list[object]) -> None:
    scorer = Scorer(SPACES[space], indicator="naswot", **SIZES)
    scorer.batch(order(SPACES[space]))
    # One to lend, and one whose structure was read.
    assert built == [scorer.supernet.largest] * 2


def test_a_lent_network_computes_what_one_of_its_own_does() -> None:
    for space in SPACES.values():
        supernet = Scorer(space, **SIZES).supernet
        images = torch.randn(2, space.in_chans, 32, 32)
        for arch in order(space):
            with supernet.lend(arch) as (network, weights), torch.no_grad():
                logits = torch.func.functional_call(network, weights, (images,))
            assert torch.equal(logits, supernet.subnet(arch)(images))


def test_threads_do_not_share_a_network(built: list[object]) -> None:
    space = SPACES["relative"]
    supernet = Scorer(space, **SIZES).supernet
    archs, barrier = candidates(space, 3), Barrier(3)

    def logits(arch: Any) -> torch.Tensor:
        images = torch.ones(1, 3, 32, 32)
        with torch.inference_mode(), supernet.lend(arch) as (network, weights):
            barrier.wait(60)
            return torch.func.functional_call(network, weights, (images,)).clone()

    with ThreadPoolExecutor(3) as threads:
        for _ in range(2):
            found = list(threads.map(logits, archs))
    assert len(built) == 3
    for arch, each in zip(archs, found, strict=True):
        assert torch.equal(each, supernet.subnet(arch)(torch.ones(1, 3, 32, 32)))


def test_a_network_that_was_lent_without_gradients_is_good_for_those_with() -> None:
    supernet = Scorer(SPACES["relative"], **SIZES).supernet
    images = torch.ones(1, 3, 32, 32)
    with torch.inference_mode(), supernet.lend(supernet.largest) as (network, weights):
        torch.func.functional_call(network, weights, (images,))
    with supernet.lend(supernet.largest) as (again, weights):
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        logits = torch.func.functional_call(again, leaves, (images,))
    assert again is network
    assert all(map(torch.is_tensor, torch.autograd.grad(logits.sum(), list(leaves.values()))))


def test_after_an_error_a_network_is_as_good_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(SPACES["relative"], indicator="naswot", **SIZES)
    archs = candidates(SPACES["relative"], 3)
    expected = scorer.batch(archs)
    fold = recording.Forward._activate

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recording.Forward, "_activate", fail)
    with pytest.raises(KeyboardInterrupt):
        scorer(archs[1])
    monkeypatch.setattr(recording.Forward, "_activate", fold)
    assert scorer.batch(archs) == expected


def test_one_that_differs_in_more_than_sizes_has_a_network_of_its_own() -> None:
    supernet = Scorer(SPACES["relative"], **SIZES).supernet
    arch = dataclasses.replace(SPACES["relative"].smallest(), global_pool="token")
    images = torch.randn(2, 3, 32, 32)
    with supernet.lend(arch) as (network, weights), torch.no_grad():
        logits = torch.func.functional_call(network, weights, (images,))
    assert network.global_pool == "token"
    assert torch.equal(logits, supernet.subnet(arch)(images))


def test_a_network_changes_only_as_its_own_class_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Own(AutoFormer):
        pass

    supernet = Scorer(SPACES["relative"], **SIZES).supernet
    blank = Supernet.blank

    def build(self: Supernet, arch: Any, **kwargs: Any) -> torch.nn.Module:
        network = blank(self, arch, **kwargs)
        network.__class__ = Own
        return network

    monkeypatch.setattr(Supernet, "blank", build)
    lent = []
    for arch in candidates(SPACES["relative"], 2):
        with supernet.lend(arch) as (network, _):
            lent.append(network)
    assert lent[0] is not lent[1]


def test_a_family_of_somebody_elses_is_scored_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FAMILIES, "registered", {})
    register_family(tower.family)
    space = tower.TowerSpace("t", (8, 16), (1, 2))
    supernet = Scorer(space, device="cpu").supernet
    images = torch.randn(2, 3, 8, 8)
    for arch in candidates(space, 4):
        with supernet.lend(arch) as (network, weights), torch.no_grad():
            logits = torch.func.functional_call(network, weights, (images,))
        assert torch.equal(logits, supernet.subnet(arch)(images))


def test_idle_networks_take_no_memory_for_weights() -> None:
    space = SPACES["relative"]
    supernet = Scorer(space, **SIZES).supernet
    with supernet.lend(space.smallest()) as (network, weights):
        assert all(weight.is_meta for weight in network.parameters())
        cut = weights["blocks.0.mlp.fc1.weight"]
    whole = supernet.state_dict["blocks.0.fc1.weight"]
    assert cut.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
