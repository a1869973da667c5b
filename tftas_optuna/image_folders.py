"""Lists and reads the images of a folder with one subfolder per class."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

# Difference between adjacent 8-bit values on the 16-bit scale.
_STEP = 257


def read_folder(root: Path, *, labelled: bool = True) -> Any:
    """Return timm's reader of an image folder, without hidden files and folders.

    Other programs create hidden files and folders (``.ipynb_checkpoints``, ``.git``,
    ``._0001.jpg``), which timm would treat as images and classes.

    Args:
        root: The folder, with one subfolder per class.
        labelled: Whether the subfolders are classes; if not, images may lie anywhere, and labels
            mean nothing.

    Raises:
        UnavailableError: The folder contains no images, or images outside the folders of classes.
    """
    from timm.data.readers.reader_image_folder import ReaderImageFolder

    try:
        reader = ReaderImageFolder(str(root))
    except (RuntimeError, OSError) as error:
        raise UnavailableError(f"{root} holds no images: {error}") from error
    samples = []
    for path, label in reader.samples:
        parts = within(path, reader.root).split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if labelled and len(parts) == 1:
            raise UnavailableError(
                f"image {path!r} is in no folder of a class; move it into one, or away from here"
            )
        samples.append((path, label))
    if not samples:
        raise UnavailableError(f"{root} holds no images: all of them are hidden")
    if not labelled:
        reader.samples = samples
        return reader
    used = {label for _, label in samples}
    names = [name for name, label in reader.class_to_idx.items() if label in used]
    numbers = {reader.class_to_idx[name]: number for number, name in enumerate(names)}
    reader.samples = [(path, numbers[label]) for path, label in samples]
    reader.class_to_idx = {name: number for number, name in enumerate(names)}
    return reader


def within(path: str, root: str) -> str:
    """Return the path of a file relative to a folder, with slashes on every system."""
    return path.removeprefix(root).lstrip(os.sep).replace(os.sep, "/")


def read_image(reader: Any, index: int, mode: str) -> tuple[Image.Image, Any]:
    """Read one image of a timm reader.

    Args:
        reader: The reader.
        index: Index of the image.
        mode: Pillow's name of the mode, ``"RGB"`` or ``"L"``.

    Returns:
        The image and its label.

    Raises:
        UnavailableError: The image cannot be read; the message names it.
    """
    from PIL import Image

    try:
        file, label, *_ = reader[index]
        with file, Image.open(file) as image:
            return converted(image, mode), label
    except Exception as error:
        # Damaged files can raise any error, from the system, from Pillow or from its codecs.
        raise unreadable(name_of(reader, index), error) from error


def name_of(reader: Any, index: int) -> str:
    """Return the path of an image, or its index if it has no path."""
    return str(reader.filename(index, absolute=True) or f"number {index}")


def unreadable(name: str, error: Exception) -> UnavailableError:
    """Return an error of one line for an image that cannot be read."""
    from PIL import UnidentifiedImageError

    # Pillow's own message contains the repr of a file object.
    damaged = isinstance(error, UnidentifiedImageError)
    reason = "it is empty, damaged or no image" if damaged else " ".join(str(error).split())
    return UnavailableError(f"image {name!r} cannot be read: {reason or type(error).__name__}")


def converted(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to a mode of 8 bits; 16-bit grey values are scaled.

    Pillow would clip 16-bit grey values at 255, which makes most of the image white.

    Args:
        image: The image.
        mode: ``"RGB"`` or ``"L"``.

    Raises:
        ValueError: The range of the pixel values is unknown.
    """
    from PIL import Image

    # Older releases of Pillow open a 16-bit PNG in a 32-bit mode.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = np.asarray(image).astype(np.float64) / _STEP
        return Image.fromarray(np.rint(grey).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels have mode {image.mode}, of no known range; give 8 or 16 bits"
        )
    return image.convert(mode)
