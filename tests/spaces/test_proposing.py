"""Spaces that are proposed for images: sizes that fit them, choices that fit a budget."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tftas_optuna import TftasError
from tftas_optuna.spaces import AutoFormerSpace, space_from_dict
from tftas_optuna.spaces.proposing import propose_space

CIFAR: dict[str, Any] = {"side": 32, "in_chans": 3, "num_classes": 10, "n_images": 50_000}


def propose(**changes: Any) -> AutoFormerSpace:
    text = propose_space("mine", **{**CIFAR, **changes}).to_yaml()
    space = space_from_dict(yaml.safe_load(text))
    assert isinstance(space, AutoFormerSpace)
    return space


def params(space: AutoFormerSpace) -> tuple[int, int]:
    corners = space.smallest(), space.largest()
    least, most = (space.costs(arch).n_params for arch in corners)
    return least, most


@pytest.mark.parametrize(
    ("side", "img_size", "patch_size"),
    [(1, 1, 1), (3, 3, 1), (8, 8, 2), (28, 28, 4), (32, 32, 4), (64, 64, 8), (100, 96, 8),
     (224, 224, 16), (1000, 224, 16)],
)  # fmt: skip
def test_there_are_neither_few_nor_many_patches(side: int, img_size: int, patch_size: int) -> None:
    space = propose(side=side)
    assert (space.img_size, space.supernet.patch_size) == (img_size, patch_size)
    space.costs(space.largest())


@pytest.mark.parametrize("budget", [5e4, 1e5, 1e6, 6e6, 3e7, 3e8])
@pytest.mark.parametrize(
    "sizes", [{}, {"side": 224, "num_classes": 2}, {"side": 28, "in_chans": 1}]
)
def test_the_largest_fills_the_budget_and_the_smallest_is_a_sixth_or_more(
    budget: float, sizes: dict[str, Any]
) -> None:
    space = propose(params_max=budget, **sizes)
    least, most = params(space)
    assert 0.6 * budget <= most <= budget and 0.15 * budget <= least
    assert all(2 <= len(choices) <= 3 for choices in space.choices().values())
    assert space.supernet.head_dim is not None
    assert (space.num_classes, space.in_chans) == (
        sizes.get("num_classes", 10), sizes.get("in_chans", 3),
    )  # fmt: skip


def test_without_a_budget_it_grows_with_the_images() -> None:
    sizes = [params(propose(n_images=count))[1] for count in (10, 5_000, 50_000, 10_000_000)]
    assert sizes == sorted(sizes) and 50_000 < sizes[0] <= 100_000
    assert 3e6 < sizes[2] <= 5e6 and sizes[3] <= 25e6
    # So many classes need more than that.
    assert params(propose(n_images=10, num_classes=20_000))[1] > 300_000


@pytest.mark.parametrize(("budget", "advice"), [(1e3, "give 18,170 or more"), (1e10, "at most")])
def test_a_budget_that_nothing_fits_is_refused(budget: float, advice: str) -> None:
    with pytest.raises(TftasError, match=advice) as caught:
        propose(params_max=budget)
    assert "\n" not in str(caught.value)


def test_a_name_like_a_number_stays_text() -> None:
    text = propose_space("2024", **CIFAR).to_yaml()
    assert yaml.safe_load(text)["name"] == "2024"
    assert "patch_size: 4  # 8x8 patches" in text.splitlines()
