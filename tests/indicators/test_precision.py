"""The precision of matrix products: PyTorch's two ways to set it, and threads side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from tftas_optuna import Scorer, search
from tftas_optuna.passes.precision import matmul_precision
from tftas_optuna.spaces import AutoFormerSpace

BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
new_names = pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="PyTorch has one name for all"
)


def state() -> list[str]:
    return [backend.fp32_precision for backend in BACKENDS]


@pytest.fixture
def general() -> Iterator[None]:
    """Set the precision as PyTorch 2.9 and later document it."""
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    for backend in BACKENDS:
        backend.fp32_precision = "none"
    # Asking in the old way is an error now.
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        torch.get_float32_matmul_precision()
    yield
    torch.backends.fp32_precision = before
    torch.set_float32_matmul_precision("highest")


@new_names
@pytest.mark.usefixtures("general")
def test_scores_where_a_user_set_the_precision_in_the_new_way(
    small_space: AutoFormerSpace,
) -> None:
    assert Scorer(small_space, img_size=32)(small_space.largest()) > 0
    assert state() == ["tf32", "tf32"]


@new_names
@pytest.mark.usefixtures("general")
def test_a_search_where_a_user_set_the_precision_in_the_new_way(
    small_space: AutoFormerSpace,
) -> None:
    study = search(small_space, n_trials=3, img_size=32)
    assert len(study.trials) == 3 and state() == ["tf32", "tf32"]


@new_names
@pytest.mark.usefixtures("general")
def test_what_follows_the_general_precision_goes_on_to_follow_it() -> None:
    with matmul_precision("highest"):
        assert state() == ["ieee", "ieee"]
    torch.backends.fp32_precision = "ieee"
    assert state() == ["ieee", "ieee"]


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_the_old_way_reads_the_same_before_and_after(before: str) -> None:
    torch.set_float32_matmul_precision(before)
    try:
        with matmul_precision("high"):
            pass
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision("highest")


@new_names
def test_nothing_is_set_where_products_are_exact_anyway() -> None:
    torch.set_float32_matmul_precision("highest")
    for backend in BACKENDS:
        backend.fp32_precision = "none"
    with matmul_precision("highest"):
        assert state() == ["none", "none"]


@new_names
def test_of_several_at_a_time_the_best_holds_and_the_last_puts_it_back() -> None:
    torch.set_float32_matmul_precision("medium")
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with matmul_precision("highest"):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    try:
        with matmul_precision("high"):
            assert state() == ["tf32", "tf32"]
            thread.start()
            assert inside.wait(60)
            assert state() == ["ieee", "ieee"]
        # The first one is through, and does not change what the other computes with.
        assert state() == ["ieee", "ieee"]
        leave.set()
        thread.join(60)
        assert state() == ["tf32", "bf16"]
    finally:
        leave.set()
        torch.set_float32_matmul_precision("highest")
