"""Reads the images of a training, and names those that cannot be read."""

from __future__ import annotations

import contextlib
import copy
import logging
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from timm.data import ImageDataset
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from tftas_optuna.errors import UnavailableError
from tftas_optuna.image_folders import converted, name_of, read_image, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tftas_optuna.retrain.distributed import World

_LOG = logging.getLogger(__name__)
# As many as timm tries; more in a row are no accident.
_IN_A_ROW = 10
_SHOWN = 10
_AT_ONCE = 64


class NamedImages(ImageDataset):
    """Images of a reader of timm's; what cannot be read is named.

    Args:
        reader: The reader.
        mode: ``"RGB"`` or ``"L"``, as Pillow calls them.
        skipping: Whether the next image takes the place of one that cannot be read, with a
            warning, as in timm; else it is an error.
    """

    def __init__(self, reader: Any, mode: str, *, skipping: bool) -> None:
        super().__init__(None, reader=reader, input_img_mode=mode)
        self._skipping = skipping
        # Workers come and go with every epoch; what one of them has told, all others see.
        self._told = torch.zeros(len(reader) if skipping else 0, dtype=torch.uint8)
        self._told.share_memory_()

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        for place in range(index, index + _IN_A_ROW):
            try:
                image, label = read_image(self.reader, place % len(self), self.input_img_mode)
            except UnavailableError as error:
                if not self._skipping:
                    raise
                self._tell(place % len(self), error)
            else:
                image = image if self.transform is None else self.transform(image)
                return image, -1 if label is None else label
        raise UnavailableError(
            f"image {name_of(self.reader, index)!r} cannot be read, nor those after it"
        )

    def _tell(self, index: int, error: UnavailableError) -> None:
        if self._told[index]:
            return
        self._told[index] = 1
        n_told = int(self._told.sum())
        if n_told <= _SHOWN:
            last = "; others will not be named" if n_told == _SHOWN else ""
            _LOG.warning("%s: the next one is trained on in its place%s", error, last)


def read_file(path: str) -> Image.Image:
    """Read an image for torchvision.

    Raises:
        UnavailableError: It cannot be read; names it.
    """
    try:
        with Image.open(path) as image:
            return converted(image, "RGB")
    except Exception as error:
        # Damaged files raise errors of every kind.
        raise unreadable(path, error) from error


def check_readable(images: Any, world: World, *, workers: int) -> None:
    """Read all images once, each process its share, before anything is trained.

    Args:
        images: What will be evaluated on, without a transform.
        world: This process among all.
        workers: Processes that read.

    Raises:
        UnavailableError: One cannot be read.
    """
    if isinstance(images, IterableDataset):
        return
    share = range(world.rank, len(images), world.size)
    loader = DataLoader(
        # Readers of archives keep them open, which processes must not share afterwards.
        Subset(_Complaints(copy.deepcopy(images)), share),
        batch_size=_AT_ONCE,
        num_workers=min(workers, len(share) // _AT_ONCE),
        collate_fn=list,
        # Not the one that everything else draws from.
        generator=torch.Generator(),
    )
    told = [complaint for batch in loader for complaint in batch if complaint]
    if told:
        more = f" (and {len(told) - 1} more of what is evaluated on)" if len(told) > 1 else ""
        raise UnavailableError(f"{told[0]}{more}; replace or delete it")


class _Complaints(Dataset[str]):
    """What is wrong with each image, or nothing."""

    def __init__(self, images: Any) -> None:
        self._images = images

    def __getitem__(self, index: int) -> str:
        try:
            self._images[index]
        except UnavailableError as error:
            return str(error)
        return ""


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """Keep the last line of an error of a worker, which comes with its traceback."""
    try:
        yield
    except UnavailableError as error:
        *_, last = str(error).strip().splitlines()
        raise UnavailableError(last.partition("UnavailableError: ")[2] or last) from error
