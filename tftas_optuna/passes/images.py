"""The images that indicators look at: noise, or pictures of the user's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.image_folders import read_folder, read_image
from tftas_optuna.supernet import generator_of

if TYPE_CHECKING:
    from torch import Tensor


class Images(NamedTuple):
    """Batches of images with labels.

    Attributes:
        batches: Of each batch the images, (n, channels, height, width), and the labels, (n,).
    """

    batches: tuple[tuple[Tensor, Tensor], ...]

    def to(self, device: torch.device, dtype: torch.dtype) -> Images:
        """Move them; labels keep their type."""
        return Images(
            tuple((images.to(device, dtype), labels.to(device)) for images, labels in self.batches)
        )

    @property
    def digest(self) -> str:
        """What tells them from others."""
        digest = hashlib.sha256()
        for images, labels in self.batches:
            digest.update(images.float().cpu().numpy().tobytes())
            digest.update(labels.cpu().numpy().tobytes())
        return digest.hexdigest()


def noise(
    seed: int, n_images: int, shape: tuple[int, int, int], num_classes: int, batches: int = 1
) -> Images:
    """Draw images from N(0, 1), with labels drawn uniformly from the classes.

    The first batch of several is the one that a single batch would be.

    Args:
        seed: Their seed.
        n_images: Images of one batch.
        shape: Channels, height and width.
        num_classes: Classes.
        batches: How many batches.
    """
    drawn = []
    for batch in range(batches):
        images = torch.randn(n_images, *shape, generator=generator_of(seed, f"images.{batch}"))
        labels = torch.randint(
            num_classes, (n_images,), generator=generator_of(seed, f"labels.{batch}")
        )
        drawn.append((images, labels))
    return Images(tuple(drawn))


def pictures(
    data_dir: str,
    seed: int,
    n_images: int,
    shape: tuple[int, int, int],
    num_classes: int,
    batches: int = 1,
) -> Images:
    """Draw pictures from a folder with one folder for each class, cropped to their middle.

    They are read by timm, scaled and normalised as its evaluation does by default.

    Args:
        data_dir: The folder; with folders ``train`` or ``val`` in it, the first of them.
        seed: Which are drawn, without repetition.
        n_images: Images of one batch.
        shape: Channels, height and width.
        num_classes: Classes that the network tells apart.
        batches: How many batches.

    Raises:
        TftasError: There are more classes, or not so many images, or they are not of colour.
        UnavailableError: There is no such folder, or a picture in it cannot be read.
    """
    from timm.data import create_transform

    if not Path(data_dir).is_dir():
        raise UnavailableError(f"data_dir {data_dir!r} is no folder; give one with a folder each")
    if shape[0] != 3:
        raise TftasError(f"pictures have 3 channels, this space has {shape[0]}; use noise")
    folder = Path(data_dir)
    # Where there is no train, timm takes these in this order.
    names = ("train", "val", "valid", "validation")
    root = next((folder / name for name in names if (folder / name).is_dir()), folder)
    reader = read_folder(root)
    classes = len(reader.class_to_idx)
    if classes > num_classes:
        raise TftasError(
            f"data_dir {data_dir!r} has {classes} classes, more than num_classes, which is"
            f" {num_classes}; give the number of its folders"
        )
    wanted = n_images * batches
    if len(reader) < wanted:
        raise TftasError(
            f"data_dir {data_dir!r} holds {len(reader)} images, {wanted} are needed; give"
            " more, or a smaller n_images"
        )
    transform = create_transform(shape, is_training=False)
    order = torch.randperm(len(reader), generator=generator_of(seed, "pictures"))[:wanted]
    read, labels = [], []
    for i in order.tolist():
        picture, label = read_image(reader, i, "RGB")
        read.append(transform(picture))
        labels.append(label)
    stacked, marks = torch.stack(read), torch.tensor(labels)
    return Images(tuple(zip(stacked.split(n_images), marks.split(n_images), strict=True)))
