"""Tiny real image files, drawn: one colour per class, with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def draw_images(root: Path, *, train: int, val: int, side: int = 8) -> Path:
    """Write ``train/COLOUR/*.png`` and ``val/COLOUR/*.png``, so many of each colour."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = rng.normal(0, 60, (side, side, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype("uint8")
                Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return root
