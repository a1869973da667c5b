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
    """Images of a reader of timm's; errors name the image that cannot be read.

    Args:
        reader: The reader.
        mode: ``"RGB"`` or ``"L"``, as Pillow calls them.
        skipping: Whether to use the next image, with a warning, in place of one that cannot be
            read, as timm does; otherwise it is an error.
    """

    def __init__(self, reader: Any, mode: str, *, skipping: bool) -> None:
        super().__init__(None, reader=reader, input_img_mode=mode)
        self._skipping = skipping
        # Workers start anew in every epoch, so they share which images were reported.
        self._reported = torch.zeros(len(reader) if skipping else 0, dtype=torch.uint8)
        self._reported.share_memory_()

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        for place in range(index, index + _IN_A_ROW):
            try:
                image, label = read_image(self.reader, place % len(self), self.input_img_mode)
            except UnavailableError as error:
                if not self._skipping:
                    raise
                self._report(place % len(self), error)
            else:
                image = image if self.transform is None else self.transform(image)
                return image, -1 if label is None else label
        raise UnavailableError(
            f"image {name_of(self.reader, index)!r} cannot be read, nor those after it"
        )

    def _report(self, index: int, error: UnavailableError) -> None:
        if self._reported[index]:
            return
        self._reported[index] = 1
        n_reported = int(self._reported.sum())
        if n_reported <= _SHOWN:
            last = "; others will not be named" if n_reported == _SHOWN else ""
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
    """Check before training that all images can be read; each process reads its share.

    Args:
        images: The evaluation images, without a transform.
        world: This process among all.
        workers: Processes that read.

    Raises:
        UnavailableError: One cannot be read.
    """
    if isinstance(images, IterableDataset):
        return
    share = range(world.rank, len(images), world.size)
    loader = DataLoader(
        # Readers keep archives open, and processes must not share them.
        Subset(_ReadErrors(copy.deepcopy(images)), share),
        batch_size=_AT_ONCE,
        num_workers=min(workers, len(share) // _AT_ONCE),
        collate_fn=list,
        # The default generator would change what is drawn later.
        generator=torch.Generator(),
    )
    errors = [error for batch in loader for error in batch if error]
    if errors:
        more = f" (and {len(errors) - 1} more to evaluate on)" if len(errors) > 1 else ""
        raise UnavailableError(f"{errors[0]}{more}; replace or delete it")


class _ReadErrors(Dataset[str]):
    """The error of reading each image; empty if there is none."""

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
    """Reduce an error of a worker, which includes its traceback, to its last line."""
    try:
        yield
    except UnavailableError as error:
        *_, last = str(error).strip().splitlines()
        raise UnavailableError(last.partition("UnavailableError: ")[2] or last) from error
