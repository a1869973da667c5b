"""Write scikit-learn's 1,797 handwritten digits of 8x8 pixels as a folder of images.

    python benchmarks/retrain/images.py digits

Every third image goes to ``digits/val/CLASS``, the others to ``digits/train/CLASS``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits


def write_digits(root: Path) -> Path:
    """Write the images as PNG files; what is there already is left alone."""
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = root / ("val" if i % 3 == 0 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{i:04d}.png"
        if not path.exists():
            Image.fromarray((pixels * 255 / 16).astype("uint8")).save(path)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    root = write_digits(parser.parse_args().directory)
    for split in ("train", "val"):
        print(f"{root / split}: {sum(1 for _ in (root / split).rglob('*.png'))} images")


if __name__ == "__main__":
    main()
