"""Networks and costs are those of the study's sizes, in spaces that are not for 224 pixels."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from timm.data import resolve_data_config

from tftas_optuna import (
    AutoFormerArchitecture,
    AutoFormerSpace,
    Candidate,
    SearchSpace,
    TftasError,
    build_model,
    get_space,
    pareto_front,
    search,
)
from tftas_optuna.architecture import Architecture

DIGITS = AutoFormerSpace(
    "digits",
    embed_dim=(16, 24),
    depth=(1, 2),
    num_heads=(1, 2),
    mlp_ratio=(2.0,),
    supernet=AutoFormerArchitecture(
        24, (2, 2), (2.0, 2.0), head_dim=8, patch_size=2, max_relative_position=2
    ),
    img_size=8,
    in_chans=1,
    num_classes=10,
)


def size_of(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("space", [DIGITS, get_space("examples/spaces/pit-64.yaml")])
def test_a_space_builds_networks_of_its_sizes_with_the_costs_it_tells(space: SearchSpace) -> None:
    arch = space.sample(np.random.default_rng(0))
    model = space.build(arch)
    assert space.img_size != 224 and size_of(model) == space.costs(arch).n_params
    images = torch.zeros(2, space.in_chans, space.img_size, space.img_size)
    assert model(images).shape == (2, space.num_classes)


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    """One of a study that was searched for other images and classes than the space's."""
    return pareto_front(search(DIGITS, n_trials=2, n_exact=0, img_size=12, num_classes=7))[0]


def test_a_candidate_builds_the_network_that_was_searched(candidate: Candidate) -> None:
    model = candidate.build()
    assert model(torch.zeros(2, 1, 12, 12)).shape == (2, 7)
    assert size_of(model) == candidate.n_params


def test_a_candidate_is_built_for_other_classes(candidate: Candidate) -> None:
    model = candidate.build(num_classes=3, drop_path_rate=0.1)
    assert model(torch.zeros(2, 1, 12, 12)).shape == (2, 3)


def test_timm_prepares_images_of_the_size_that_was_built(candidate: Candidate) -> None:
    assert resolve_data_config(model=candidate.build())["input_size"] == (1, 12, 12)


def test_an_image_smaller_than_a_patch_is_refused_before_anything_is_built(
    candidate: Candidate,
) -> None:
    with pytest.raises(TftasError, match="img_size 1 is smaller than one patch of 2 pixels"):
        candidate.build(img_size=(12, 1))


@pytest.mark.parametrize("missing", ["img_size", "num_classes"])
def test_an_architecture_alone_is_neither_built_nor_counted_without_sizes(missing: str) -> None:
    arch, sizes = DIGITS.smallest(), {"img_size": 8, "num_classes": 10}
    sizes.pop(missing)
    for build in (build_model, Architecture.costs, AutoFormerArchitecture.costs):
        with pytest.raises((TypeError, TftasError), match=missing):
            build(arch, **sizes)
    assert not hasattr(arch, "n_params") and not hasattr(arch, "macs")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"img_size": 0}, "img_size is 0, allowed is 1 or more"),
        ({"in_chans": 0}, "in_chans is 0, allowed is 1 or more"),
        ({"num_classes": -3}, "num_classes is -3, allowed is 0 or more"),
    ],
)
def test_sizes_that_no_network_has_are_refused(size: dict[str, int], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        timm.create_model("tftas_autoformer", **size)
