"""How many threads compute: as many as the work is worth, never more than PyTorch has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from tftas_optuna import Scorer, get_space, score_model
from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.devices import (
    layer_macs,
    limit_threads,
    one_thread,
    stay_on_one_thread,
    threads_for,
)
from tftas_optuna.models import build_model
from tftas_optuna.spaces import AutoFormerSpace

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def six_threads() -> Iterator[None]:
    """Let PyTorch have six threads, and look whether it has them in the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 6


@pytest.fixture
def counts(six_threads: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect on how many threads a network runs forward."""
    seen: list[int] = []
    forward = nn.Linear.forward

    def look(self: nn.Linear, images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return forward(self, images)

    monkeypatch.setattr(nn.Linear, "forward", look)
    return seen


@pytest.mark.usefixtures("six_threads")
@pytest.mark.parametrize(("count", "expected"), [(1, 1), (4, 4), (6, 6), (60, 6), (None, 6)])
def test_threads_are_limited_for_a_while(count: int | None, expected: int) -> None:
    with limit_threads(count):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 6


@pytest.mark.usefixtures("six_threads")
def test_a_limit_within_another_is_no_higher() -> None:
    with limit_threads(2):
        with limit_threads(4):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("six_threads")
def test_an_error_puts_threads_back() -> None:
    with pytest.raises(KeyError), limit_threads(1):
        raise KeyError


@pytest.mark.usefixtures("six_threads")
def test_a_gpu_leaves_threads_as_they_are() -> None:
    with one_thread(CUDA):
        assert torch.get_num_threads() == 6
    assert threads_for(1.0, CUDA) is None


def in_a_thread(function: Callable[[], int]) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(60)
    return found[0]


@pytest.mark.usefixtures("six_threads")
def test_a_new_thread_beside_a_limited_one_keeps_what_pytorch_has() -> None:
    def limited_and_back() -> int:
        with one_thread(CPU):
            pass
        return torch.get_num_threads()

    with one_thread(CPU):
        assert in_a_thread(limited_and_back) == 6


@pytest.mark.usefixtures("six_threads")
def test_a_thread_that_stays_on_one_core_is_left_there() -> None:
    def staying() -> int:
        stay_on_one_thread()
        with limit_threads(4):
            return torch.get_num_threads()

    assert in_a_thread(staying) == 1
    torch.set_num_threads(6)


def test_small_layers_get_one_thread_and_large_ones_more() -> None:
    assert threads_for(0.0, CPU) == 1
    assert threads_for(1e6, CPU) == 1
    several = threads_for(1e9, CPU)
    assert several is not None and several > 4


def test_multiply_adds_of_a_layer_of_a_network() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.Flatten(2), nn.Linear(16, 5))
    conv, linear = 16 * 8 * 3 * 4, 8 * 16 * 5
    mean = (conv * conv + linear * linear) / (conv + linear)
    assert layer_macs(model, (3, 8, 8)) == pytest.approx(mean)


def test_counting_changes_nothing_of_a_network() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.BatchNorm2d(8), nn.Dropout())
    model[1].eval()
    layer_macs(model, (3, 8, 8))
    assert [part.training for part in model] == [True, False, True]
    assert model[1].num_batches_tracked == 0 and not model[0]._forward_hooks


def test_a_network_that_takes_no_such_image_may_use_all_threads() -> None:
    assert layer_macs(nn.Sequential(nn.Linear(7, 3)), (3, 8, 8)) == float("inf")


@pytest.mark.parametrize("indicator", ["dss", "snip", "naswot"])
def test_a_small_network_is_scored_on_one_thread(counts: list[int], indicator: str) -> None:
    arch = AutoFormerArchitecture(16, (1, 2), (2.0, 3.0), head_dim=8, patch_size=4)
    model = build_model(arch, img_size=8, num_classes=3)
    score_model(model, indicator=indicator)
    assert set(counts) == {1}


@pytest.mark.parametrize("indicator", ["snip", "naswot"])
def test_a_small_space_is_scored_on_one_thread(
    counts: list[int], small_space: AutoFormerSpace, indicator: str
) -> None:
    Scorer(small_space, indicator=indicator, img_size=32)(small_space.largest())
    assert set(counts) == {1}


@pytest.mark.usefixtures("six_threads")
@pytest.mark.parametrize(
    ("space", "indicator", "expected"),
    [("autoformer-base", "snip", 6), ("autoformer-tiny", "dss", 1)],
)
def test_a_scorer_of_large_networks_has_more_threads(
    space: str, indicator: str, expected: int
) -> None:
    scorer = Scorer(get_space(space), indicator=indicator, device="cpu")
    with scorer._threads(1):
        assert torch.get_num_threads() == expected


@pytest.mark.usefixtures("six_threads")
def test_supernets_are_drawn_on_one_thread(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    scorer = Scorer(small_space, img_size=32)
    kind = type(scorer.supernet)
    draw = kind.draw

    def look(self: object, *args: object) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return draw(self, *args)

    monkeypatch.setattr(kind, "draw", look)
    assert scorer.supernet.state_dict
    assert seen == {1}
