from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from images import draw_images

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network
from tftas_optuna.retrain.run import retrain

Train = Callable[..., dict[str, Any]]

PLAIN = {
    "epochs": 2,
    "batch_size": 8,
    "warmup_epochs": 0,
    "no_aug": True,
    "smoothing": 0.0,
    "log_interval": 1,
}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 images to train on and 21 to evaluate on, 8x8 pixels, three classes."""
    return draw_images(tmp_path_factory.mktemp("images"), train=24, val=7)


@pytest.fixture(scope="session")
def tiny() -> Network:
    """A network that trains in milliseconds."""
    arch = AutoFormerArchitecture(
        16, (1, 2), (2.0, 3.0), head_dim=8, patch_size=4, max_relative_position=1
    )
    return Network("tiny", "tftas_autoformer", arch, img_size=8)


@pytest.fixture(scope="session")
def train(images: Path, tiny: Network) -> Train:
    """Train the tiny network on one CPU thread: ``train(out, **recipe values)``."""

    def run(
        out: Path, *, network: Network = tiny, data: Path = images, **values: Any
    ) -> dict[str, Any]:
        torch.set_num_threads(1)
        options = {
            name: values.pop(name)
            for name in ("weights", "num_classes", "workers", "callback", "tensorboard")
            if name in values
        }
        recipe = load_recipe("quick", {**PLAIN, **values})
        world = World(torch.device("cpu"))
        return retrain(network, recipe, DataSource(data), out, world=world, **options)

    return run
