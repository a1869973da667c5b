"""The images that indicators see: noise, or the user's pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from statistics import fmean
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
        batches: For each batch the images, shape (n, channels, height, width), and the labels,
            shape (n,).
    """

    batches: tuple[tuple[Tensor, Tensor], ...]

    def to(self, device: torch.device, dtype: torch.dtype) -> Images:
        """Return the same images on another device and in another type; labels keep theirs."""
        return Images(
            tuple((images.to(device, dtype), labels.to(device)) for images, labels in self.batches)
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the images and labels, as hexadecimal digits."""
        digest = hashlib.sha256()
        for images, labels in self.batches:
            digest.update(images.float().cpu().numpy().tobytes())
            digest.update(labels.cpu().numpy().tobytes())
        return digest.hexdigest()


def noise(
    seed: int, n_images: int, shape: tuple[int, int, int], num_classes: int, batches: int = 1
) -> Images:
    """Draw images from N(0, 1) with uniformly random labels.

    A batch does not depend on how many others are drawn.

    Args:
        seed: Seed of the images and labels.
        n_images: Images in one batch.
        shape: Channels, height and width.
        num_classes: Number of classes.
        batches: Number of batches.
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
    """Draw pictures from a folder that has one folder for each class.

    They are read by timm, and scaled, centre-cropped and normalised as for its evaluation.

    Args:
        data_dir: The folder; if it has a folder ``train`` or ``val``, that one is used.
        seed: Seed of the draw, which is without repetition.
        n_images: Images in one batch.
        shape: Channels, height and width.
        num_classes: Number of classes of the network.
        batches: Number of batches.

    Raises:
        TftasError: The folder has more classes than the network or too few images, or the
            network takes neither one channel nor three.
        UnavailableError: The folder does not exist, or a picture in it cannot be read.
    """
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform

    if not Path(data_dir).is_dir():
        raise UnavailableError(f"data_dir {data_dir!r} is no folder; give one with a folder each")
    if shape[0] not in (1, 3):
        raise TftasError(f"pictures have 1 or 3 channels, this space has {shape[0]}; use noise")
    folder = Path(data_dir)
    # timm looks for these folders in the same order.
    names = ("train", "val", "valid", "validation")
    root = next((folder / name for name in names if (folder / name).is_dir()), folder)
    reader = read_folder(root)
    classes = len(reader.class_to_idx)
    if classes > num_classes:
        raise TftasError(
            f"data_dir {data_dir!r} has {classes} classes, more than num_classes, which is"
            f" {num_classes}; give the number of its folders"
        )
    needed = n_images * batches
    if len(reader) < needed:
        raise TftasError(
            f"data_dir {data_dir!r} holds {len(reader)} images, {needed} are needed; give"
            " more, or a smaller n_images"
        )
    grey = shape[0] == 1
    mean, std = (
        # One channel gets the mean over the colours, as in timm's training.
        (fmean(values),) if grey else values
        for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    transform = create_transform(shape, is_training=False, mean=mean, std=std)
    order = torch.randperm(len(reader), generator=generator_of(seed, "pictures"))[:needed]
    images, labels = [], []
    for i in order.tolist():
        picture, label = read_image(reader, i, "L" if grey else "RGB")
        images.append(transform(picture))
        labels.append(label)
    image_batches = torch.stack(images).split(n_images)
    label_batches = torch.tensor(labels).split(n_images)
    return Images(tuple(zip(image_batches, label_batches, strict=True)))
