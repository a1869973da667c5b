"""Labelled images that the slices of a trained supernet are evaluated on.

A folder has two shares: one for objectives, and one that no objective sees, for the figures that
are reported.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.image_folders import read_folder, read_image, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tftas_optuna.supernet.files import Preprocessing

_VAL_NAMES = ("val", "valid", "validation")
_TEST_NAME = "test"


class LabelledImages(NamedTuple):
    """Labelled images, scaled and cropped as in training.

    Attributes:
        pixels: The images as bytes, shape (images, channels, height, width).
        labels: The numbers of their classes, shape (images,).
        mean: Mean of each channel, for images from 0 to 1.
        std: Standard deviation of each channel.
        seen: Which images these are, for people: ``"300 images of val"``.
    """

    pixels: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seen: str

    def to(self, device: torch.device) -> LabelledImages:
        """Return the same images on another device."""
        return self._replace(pixels=self.pixels.to(device), labels=self.labels.to(device))

    def normalised(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Return some images as a network takes them, computed as torchvision does."""
        images = self.pixels[start:stop].to(dtype).div_(255)
        mean, std = (
            torch.tensor(values, dtype=dtype, device=images.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return images.sub_(mean).div_(std)

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels and labels, as hexadecimal digits."""
        digest = hashlib.sha256()
        for tensor in (self.pixels, self.labels):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Listing:
    """Files of images to read; two are equal if no file has changed."""

    files: tuple[tuple[str, int, int, int], ...]
    seen: str
    reader: Any = dataclasses.field(compare=False)


def read_labelled(
    data_dir: str,
    n_images: int | None,
    shape: tuple[int, int, int],
    preprocessing: Preprocessing,
    classes: Sequence[str] | int,
    *,
    held_out: bool = False,
) -> LabelledImages:
    """Read the images that an objective sees, or those that are held out from all objectives.

    If there are folders of classes in both ``val`` and ``test``, objectives see ``val``, and
    ``test`` is held out.
    Otherwise they see half of the images of every class. Images are drawn by their names alone:
    they are the same for everyone, and hardly change when others are added.

    Args:
        data_dir: A folder of classes, or one that has a folder of classes ``val``, ``valid`` or
            ``validation``.
        n_images: The number of images, drawn evenly from the classes; None for all. Fewer are
            held out if there are no more.
        shape: Channels, height and width.
        preprocessing: How images are prepared for the network.
        classes: Names of the classes in the order of the network's outputs, or their number.
        held_out: Whether to read the images that no objective sees.

    Raises:
        TftasError: There are fewer images, the classes are not those of the network, or it takes
            neither one channel nor three.
        UnavailableError: The folder does not exist, a class has a single image to divide, or an
            image cannot be read.
    """
    if shape[0] not in (1, 3):
        raise TftasError(f"images have 1 or 3 channels, this space has {shape[0]}")
    listing = _list(data_dir, n_images, classes, held_out)
    if not held_out:
        # What is wrong with the other share is better said before a search than at its end.
        _list(data_dir, n_images, classes, held_out=True)
    pixels, labels = _decoded(listing, shape, preprocessing)
    mean, std = (
        tuple(values) if len(values) == shape[0] else (sum(values) / len(values),) * shape[0]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return LabelledImages(pixels, labels, mean, std, listing.seen)


def _list(
    data_dir: str, n_images: int | None, classes: Sequence[str] | int, held_out: bool
) -> _Listing:
    root = Path(data_dir)
    if not root.is_dir():
        raise UnavailableError(f"data_dir {data_dir!r} is no folder; give one with a folder each")
    val = next((root / name for name in _VAL_NAMES if (root / name).is_dir()), None)
    apart = val is not None and _has_folders(root / _TEST_NAME)
    folder = root / _TEST_NAME if apart and held_out else val or root
    reader = read_folder(folder)
    _check_classes(folder, list(reader.class_to_idx), classes)
    by_class: dict[int, list[str]] = {}
    for path, label in reader.samples:
        by_class.setdefault(label, []).append(path)
    lots = {path: _lot(within(path, reader.root)) for path, _ in reader.samples}
    rank: dict[str, int] = {}
    for label, paths in by_class.items():
        paths.sort(key=lots.__getitem__)
        if not apart:
            if len(paths) < 2:
                raise UnavailableError(
                    f"{folder} has one image of class {list(reader.class_to_idx)[label]!r}, and"
                    " two are needed: one to search on, one to report on; add one, or a folder"
                    f" {_TEST_NAME} beside {val.name if val else _VAL_NAMES[0]}"
                )
            half = -(-len(paths) // 2)
            paths = paths[half:] if held_out else paths[:half]
        rank |= {path: number for number, path in enumerate(paths)}
    if n_images is not None and n_images > len(rank) and not held_out:
        share = "" if apart else ", half of its images"
        raise TftasError(
            f"{folder} has {len(rank)} images to search on{share}; n_images is {n_images}, allowed"
            " are at most as many"
        )
    # The first ones of every class, then the second ones, ...
    chosen = set(sorted(rank, key=lambda path: (rank[path], lots[path]))[:n_images])
    part = copy.copy(reader)
    part.samples = [sample for sample in reader.samples if sample[0] in chosen]
    files = []
    for path, label in part.samples:
        stat = os.stat(path)
        files.append((path, label, stat.st_size, stat.st_mtime_ns))
    others = held_out and not apart
    return _Listing(
        tuple(files),
        f"{len(files):,} others" if others else f"{len(files):,} images of {folder.name}",
        part,
    )


def _check_classes(folder: Path, names: list[str], classes: Sequence[str] | int) -> None:
    """Check that the folders of classes are the classes of the network, in its order."""
    if isinstance(classes, int):
        if len(names) != classes:
            raise TftasError(
                f"{folder} has {len(names)} classes, the network {classes}; give a folder of its"
                " classes, or one with such a folder called val"
            )
        return
    theirs = list(classes)
    if names == theirs:
        return
    for one, other, fact in (
        (names, theirs, "is a folder of {folder}, but no class of the supernet"),
        (theirs, names, "is a class of the supernet, but no folder of {folder}"),
    ):
        lacking = next((name for name in one if name not in set(other)), None)
        if lacking is not None:
            raise TftasError(
                f"class {lacking!r} {fact.format(folder=folder)}; give the classes that it was"
                " trained on, or a folder with them called val"
            )
    place = next(i for i, pair in enumerate(zip(names, theirs, strict=True)) if pair[0] != pair[1])
    raise TftasError(
        f"class {place} of {folder} is {names[place]!r}, of the supernet {theirs[place]!r}: the"
        " same classes in another order; name the folders as in training"
    )


# Scoring, its digest and the next search in this process want the same images.
@lru_cache(maxsize=2)
def _decoded(
    listing: _Listing, shape: tuple[int, int, int], preprocessing: Preprocessing
) -> tuple[Tensor, Tensor]:
    from timm.data import create_transform

    transform = create_transform(
        shape,
        is_training=False,
        crop_pct=preprocessing.crop_pct,
        interpolation=preprocessing.interpolation,
        normalize=False,
    )
    mode = "L" if shape[0] == 1 else "RGB"
    pixels = torch.empty((len(listing.files), *shape), dtype=torch.uint8)

    def read(i: int) -> None:
        pixels[i] = transform(read_image(listing.reader, i, mode)[0])

    # Pillow decodes and scales without Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(read, range(len(listing.files))):
            pass
    return pixels, torch.tensor([label for _, label, *_ in listing.files])


def _has_folders(folder: Path) -> bool:
    """Return whether a folder may be one of classes; ImageNet's test has images without labels."""
    return folder.is_dir() and any(
        path.is_dir() and not path.name.startswith(".") for path in folder.iterdir()
    )


def _lot(name: str) -> bytes:
    return hashlib.sha256(f"labelled/{name}".encode("utf-8", "surrogateescape")).digest()
