from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trainings
from images import draw_images

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.retrain.network import Network

Train = Callable[..., dict[str, Any]]


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

    return partial(trainings.train, network=tiny, data=images)
