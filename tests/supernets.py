"""Supernets as shared training leaves them: every tensor differs from its first value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tftas_optuna import Scorer
from tftas_optuna.spaces import SearchSpace
from tftas_optuna.supernet.files import Preprocessing, TrainedSupernet, write_supernet

PREPROCESSING = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 1.0, "bilinear")


def train_supernet(space: SearchSpace, folder: Path, **fields: Any) -> Path:
    """Write a supernet for 32 pixels and ten classes, unless ``fields`` say otherwise."""
    sizes = {"img_size": 32, "num_classes": 10} | {
        name: fields.pop(name) for name in ("img_size", "num_classes") if name in fields
    }
    drawn = Scorer(space, device="cpu", **sizes).supernet.state_dict
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in drawn.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    about = {"preprocessing": PREPROCESSING, "space": space.to_dict(), **sizes, **fields}
    write_supernet(TrainedSupernet(path=folder, tensors=tensors, **about))
    return folder
