"""Small spaces that the menu of indicators is computed on, and how each value is looked up."""

from __future__ import annotations

from typing import Any

import numpy as np
import textbook_menu
import torch
from torch import Tensor

from tftas_optuna import Scorer, SearchSpace
from tftas_optuna.architecture import Architecture, AutoFormerArchitecture
from tftas_optuna.passes.recording import _signs
from tftas_optuna.spaces import AutoFormerSpace, PiTSpace

SPACES: dict[str, SearchSpace] = {
    space.name: space
    for space in (
        AutoFormerSpace(
            name="relative",
            embed_dim=(32, 48, 64),
            depth=(2, 3, 4),
            num_heads=(1, 2, 3),
            mlp_ratio=(2.0, 3.5, 4.0),
            supernet=AutoFormerArchitecture(
                64, (3,) * 4, (4.0,) * 4, head_dim=16, patch_size=8, max_relative_position=3
            ),
            img_size=32,
            num_classes=10,
        ),
        AutoFormerSpace(
            name="shared",
            embed_dim=(24, 48),
            depth=(1, 2),
            num_heads=(1, 2, 3),
            mlp_ratio=(1.0, 3.0),
            supernet=AutoFormerArchitecture(
                48, (3,) * 2, (3.0,) * 2, head_dim=None, patch_size=8, relative_position=False
            ),
            img_size=32,
            in_chans=1,
            num_classes=5,
        ),
        PiTSpace(
            name="pools",
            base_dim=(8, 12),
            depth=((1, 2), (1,), (1, 2)),
            num_heads=(1, 2),
            mlp_ratio=(2.0, 3.5),
            patch_size=8,
            stride=8,
            img_size=32,
            num_classes=10,
        ),
    )
}


def candidates(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    """Draw different candidates, the smallest and the largest among them."""
    rng = np.random.default_rng(seed)
    found = dict.fromkeys([space.smallest(), space.largest()])
    while len(found) < count:
        found[space.sample(rng)] = None
    return list(found)[:count]


def textbook(scorer: Scorer, arch: Architecture) -> float:
    """Compute a value by its definition, from the network and the images of a scorer."""
    network, images, labels = scorer.subnet(arch), scorer.images, scorer.labels
    return by_definition(scorer.indicator.name, network, images, labels, scorer.seed)


def by_definition(
    name: str, network: torch.nn.Module, images: Tensor, labels: Tensor | None, seed: int
) -> float:
    if name == "trainability":
        return textbook_menu.trainability(network, images, lambda i, x: _signs(seed, i, x))
    return textbook_menu.MEASURES[name](network, images, labels)


# What sees an image of ones, besides dss.
ONES = ["synflow", "auto_prox_a", "synaptic_diversity", "synaptic_saliency"]
NAMES = [*textbook_menu.MEASURES, "trainability"]
SIZES: dict[str, Any] = {"n_images": 4, "device": "cpu"}
