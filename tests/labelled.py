"""Folders of labelled images, and supernets that were trained on their classes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch
from images import draw_images

from tftas_optuna import Scorer, SearchSpace
from tftas_optuna.supernet.files import Preprocessing, TrainedSupernet, write_supernet

CLASSES = ("blue", "green", "red")
PREPROCESSING = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 0.8, "bilinear")


def three_classes(space: SearchSpace) -> Any:
    return dataclasses.replace(space, num_classes=3, img_size=32)


def draw_folder(root: Path, val: int = 7, *, test: bool = False) -> Path:
    """Draw a folder with ``val``, and with ``test`` if asked for."""
    draw_images(root, train=2, val=val, side=40)
    if test:
        shutil.copytree(root / "train", root / "test")
    return root


def keep(space: SearchSpace, folder: Path, seed: int = 7, **fields: Any) -> Path:
    """Write a supernet of a space as if it were trained; its answers differ between images."""
    folder.mkdir(exist_ok=True)
    drawn = Scorer(space, device="cpu", seed=seed).supernet.state_dict
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        # Layers of the usual size answer alike for all images.
        name: torch.randn(t.shape, generator=generator) * (0.3 if t.ndim > 1 else 0.1)
        + (1 if "norm" in name and name.endswith("weight") else 0)
        for name, t in drawn.items()
    }
    about: dict[str, Any] = {
        "preprocessing": PREPROCESSING,
        "space": space.to_dict(),
        "img_size": space.img_size,
        "num_classes": space.num_classes,
        "class_names": CLASSES,
        "members": (space.supernet,),
        **fields,
    }
    write_supernet(TrainedSupernet(path=folder, tensors=tensors, **about))
    return folder
