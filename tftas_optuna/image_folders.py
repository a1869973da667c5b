"""Lists and reads the images of a folder with one folder for each class."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

# Of 16 bits, the step from one of 8 bits to the next.
_STEP = 257


def read_folder(root: Path) -> Any:
    """List the images of a folder as timm does, less what is hidden.

    Programs leave hidden files beside the images, copies of them too (``.ipynb_checkpoints``,
    ``.git``, ``._0001.jpg``), and timm would make classes of them.

    Args:
        root: The folder, with one folder for each class.

    Returns:
        timm's reader.

    Raises:
        UnavailableError: It holds no images, or some that are in no folder of a class.
    """
    from timm.data.readers.reader_image_folder import ReaderImageFolder

    try:
        reader = ReaderImageFolder(str(root))
    except (RuntimeError, OSError) as error:
        raise UnavailableError(f"{root} holds no images: {error}") from error
    seen = []
    for path, label in reader.samples:
        parts = within(path, reader.root).split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if len(parts) == 1:
            raise UnavailableError(
                f"image {path!r} is in no folder of a class; move it into one, or away from here"
            )
        seen.append((path, label))
    if not seen:
        raise UnavailableError(f"{root} holds no images: all of them are hidden")
    used = {label for _, label in seen}
    names = [name for name, label in reader.class_to_idx.items() if label in used]
    numbers = {reader.class_to_idx[name]: number for number, name in enumerate(names)}
    reader.samples = [(path, numbers[label]) for path, label in seen]
    reader.class_to_idx = {name: number for number, name in enumerate(names)}
    return reader


def within(path: str, root: str) -> str:
    """Return the path of a file from a folder above it on, with slashes on every system."""
    return path.removeprefix(root).lstrip(os.sep).replace(os.sep, "/")


def read_image(reader: Any, index: int, mode: str) -> tuple[Image.Image, Any]:
    """Read one image of a reader of timm's.

    Args:
        reader: The reader.
        index: Number of the image.
        mode: ``"RGB"`` or ``"L"``, as Pillow calls them.

    Returns:
        The image, and its label.

    Raises:
        UnavailableError: It cannot be read; names it.
    """
    from PIL import Image

    try:
        file, label, *_ = reader[index]
        with file, Image.open(file) as image:
            return converted(image, mode), label
    except Exception as error:
        # Damaged files raise errors of every kind: in the system, in Pillow and in its codecs.
        raise unreadable(name_of(reader, index), error) from error


def name_of(reader: Any, index: int) -> str:
    """Return the path of an image, or its number where it has none."""
    return str(reader.filename(index, absolute=True) or f"number {index}")


def unreadable(name: str, error: Exception) -> UnavailableError:
    """Make one line of what went wrong with an image."""
    from PIL import UnidentifiedImageError

    # Pillow names a file object here.
    damaged = isinstance(error, UnidentifiedImageError)
    reason = "it is empty, damaged or no image" if damaged else " ".join(str(error).split())
    return UnavailableError(f"image {name!r} cannot be read: {reason or type(error).__name__}")


def converted(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to a mode of 8 bits, grey of 16 bits too.

    Pillow would cut off all that is brighter than 255, so that grey becomes black and white.

    Args:
        image: The image.
        mode: ``"RGB"`` or ``"L"``.

    Raises:
        ValueError: Nobody knows what is white in it.
    """
    from PIL import Image

    # Older releases of Pillow open a PNG of 16 bits with 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = np.asarray(image).astype(np.float64) / _STEP
        return Image.fromarray(np.rint(grey).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels have mode {image.mode}, of no known range; give 8 or 16 bits"
        )
    return image.convert(mode)
