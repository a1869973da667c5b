"""Looks at a folder of images before anything is trained: how many, of what size and colours."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.errors import UnavailableError
from tftas_optuna.image_folders import name_of, read_folder, unreadable
from tftas_optuna.retrain.splits import training_folder

if TYPE_CHECKING:
    from pathlib import Path

# Images that are opened, evenly spaced over all of them.
_SAMPLE = 64
# Pillow's modes without colours.
_GREY = ("1", "L", "LA", "I", "F")


class Survey(NamedTuple):
    """What a folder of images holds to train on.

    Attributes:
        n_images: Number of images.
        num_classes: Number of classes.
        side: Median of the shorter sides of the images that were opened, in pixels.
        in_chans: 1 if all of these are grey, else 3.
        n_opened: Number of images that were opened.
        alike: Whether all of these have the same size.
    """

    n_images: int
    num_classes: int
    side: int
    in_chans: int
    n_opened: int
    alike: bool


def survey(root: Path) -> Survey:
    """Look at the images of a directory: those in its folder ``train``, or in itself.

    Only the headers of some images are read. Images that cannot be read are left out.

    Args:
        root: A directory with ``train/CLASS/IMAGE``, or with ``CLASS/IMAGE``.

    Raises:
        UnavailableError: There are no images, none that can be read, or one class alone.
    """
    from PIL import Image

    if not root.is_dir():
        raise UnavailableError(
            f"{root} is no directory; give one with train/CLASS/IMAGE or CLASS/IMAGE"
        )
    folder = training_folder(root)
    reader = read_folder(folder)
    if len(reader.class_to_idx) < 2:
        (name,) = reader.class_to_idx
        raise UnavailableError(
            f"all images in {folder} are of one class, {name!r}; give a directory with one folder"
            " for each class"
        )
    sizes, modes, errors = [], [], []
    for index in range(0, len(reader), -(-len(reader) // _SAMPLE)):
        try:
            file, *_ = reader[index]
            with file, Image.open(file) as image:
                sizes.append(image.size)
                modes.append(image.mode)
        except Exception as error:
            # Damaged files can raise any error, from the system, from Pillow or from its codecs.
            errors.append(unreadable(name_of(reader, index), error))
    if not sizes:
        raise errors[0]
    return Survey(
        n_images=len(reader),
        num_classes=len(reader.class_to_idx),
        side=int(median(map(min, sizes))),
        in_chans=1 if all(mode.partition(";")[0] in _GREY for mode in modes) else 3,
        n_opened=len(sizes),
        alike=len(set(sizes)) == 1,
    )
