"""Judges networks on labelled images, and classifies images that have no labels."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from timm.data import create_loader

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.image_folders import name_of
from tftas_optuna.retrain.images import NamedImages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from tftas_optuna.retrain.deployed import Deployed

    Callback = Callable[[int, int], None]

# Top-5 says nothing where there are no more than five classes.
_TOP = 5
# A matrix of more classes is large, and nobody reads it in a picture.
MOST_CONFUSED = 100
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a network makes of labelled images.

    Attributes:
        classes: Names of the classes, in the order of the network's outputs.
        confusion: Numbers of images, a row for each class and a column for each prediction.
        top5: Images whose class is among the five most probable; None if there are no more than
            five classes.
        seconds: Time in the network, without reading images.
    """

    classes: tuple[str, ...]
    confusion: Tensor
    top5: int | None
    seconds: float

    @property
    def n_images(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    def by_class(self) -> list[dict[str, Any]]:
        """Return ``class``, ``n_images`` and ``top1`` of each class that has images.

        ``taken_for`` is the class that most of the wrong ones were taken for, None if all are
        right.
        """
        rows = []
        for i, (name, row) in enumerate(zip(self.classes, self.confusion.tolist(), strict=True)):
            total, right = sum(row), row[i]
            if not total:
                continue
            row[i] = 0
            most = max(range(len(row)), key=row.__getitem__)
            rows.append(
                {
                    "class": name,
                    "n_images": total,
                    "top1": _percent(right, total),
                    "taken_for": self.classes[most] if row[most] else None,
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: accuracies in per cent, and times in seconds.

        ``confusion``, with its ``class_names``, is left out where there are more than
        :data:`MOST_CONFUSED` classes.
        """
        n, matrix = self.n_images, self.confusion
        return {
            "n_images": n,
            "num_classes": len(self.classes),
            "top1": _percent(int(matrix.trace()), n),
            "top5": None if self.top5 is None else _percent(self.top5, n),
            "seconds_per_image": float(f"{self.seconds / n:.3g}"),
            "classes": self.by_class(),
            **(
                {"class_names": list(self.classes), "confusion": matrix.tolist()}
                if len(self.classes) <= MOST_CONFUSED
                else {}
            ),
        }


class Prediction(NamedTuple):
    """What a network makes of an image.

    Attributes:
        file: Path of the image.
        classes: Names of the most probable classes, or their numbers, the most probable first.
        probabilities: Their probabilities.
    """

    file: str
    classes: list[str]
    probabilities: list[float]


def match_classes(
    network: Deployed, folders: Sequence[str], where: object
) -> tuple[list[int], str]:
    """Find the output of a network for each class of some images, by name.

    Args:
        network: The network.
        folders: Names of the classes in the order of their labels.
        where: What the images are called.

    Returns:
        For each label the output, and a line that says what differs; empty if nothing does.

    Raises:
        TftasError: The network does not know one of the classes, or has no names and another
            number of outputs.
    """
    name, own = str(network.source), network.class_names
    if own is None:
        if len(folders) != network.num_classes:
            raise TftasError(
                f"{name} has {network.num_classes} classes, without names, and {where} has"
                f" {len(folders)}; give images of the classes that it was trained on"
            )
        note = (
            f"{name} names no classes: its outputs 0 to {len(folders) - 1} are taken for the"
            f" folders in their order, {folders[0]!r} to {folders[-1]!r}"
        )
        return list(range(len(folders))), note
    numbers = {label: i for i, label in enumerate(own)}
    unknown = [folder for folder in folders if folder not in numbers]
    if unknown:
        raise TftasError(
            f"{where} has {len(folders)} classes, and {name} does not know {_listed(unknown)}; its"
            f" {len(own)} classes are {_listed(own)}"
        )
    without = [label for label in own if label not in set(folders)]
    note = f"{where} has no images of {_listed(without)}" if without else ""
    return [numbers[folder] for folder in folders], note


def evaluate(
    network: Deployed,
    reader: Any,
    outputs: Sequence[int],
    *,
    batch_size: int,
    workers: int,
    callback: Callback = lambda done, total: None,
) -> Evaluation:
    """Evaluate a network on labelled images.

    Args:
        network: The network.
        reader: timm's reader of the images.
        outputs: The network's output for each label; see :func:`match_classes`.
        batch_size: Images at a time.
        workers: Processes that read images.
        callback: Called after every batch with the number of images done and their total.

    Raises:
        UnavailableError: An image cannot be read; names it.
    """
    count = network.num_classes
    confusion = torch.zeros(count * count, dtype=torch.long)
    top5, seconds, done = 0, 0.0, 0
    labels = torch.tensor(outputs)
    for batch in _batches(network, reader, batch_size, workers):
        if batch.errors:
            raise UnavailableError(f"{batch.errors[0]}; replace or delete it")
        truth = labels[torch.tensor(batch.labels)]
        confusion += torch.bincount(
            truth * count + batch.logits.argmax(1), minlength=count * count
        )
        if count > _TOP:
            top5 += int((batch.logits.topk(_TOP).indices == truth[:, None]).sum())
        seconds += batch.seconds
        done += len(truth)
        callback(done, len(reader))
    return Evaluation(
        network.class_names or tuple(map(str, range(count))),
        confusion.view(count, count),
        top5 if count > _TOP else None,
        seconds,
    )


def predict(
    network: Deployed,
    reader: Any,
    *,
    top: int,
    batch_size: int,
    workers: int,
    callback: Callback = lambda done, total: None,
    unreadable: Callable[[str], None],
) -> Iterator[Prediction]:
    """Classify images.

    Args:
        network: The network.
        reader: timm's reader of the images; their labels do not matter.
        top: Number of classes to tell for each.
        batch_size: Images at a time.
        workers: Processes that read images.
        callback: Called after every batch with the number of images done and their total.
        unreadable: Called for every image that cannot be read, with a line that names it.

    Yields:
        The predictions, in the order of the images.

    Raises:
        TftasError: The network has fewer classes.
    """
    if top > network.num_classes:
        raise TftasError(f"--top is {top}, and {network.source} has {network.num_classes} classes")
    names = network.class_names or tuple(map(str, range(network.num_classes)))
    done = 0
    for batch in _batches(network, reader, batch_size, workers):
        for error in batch.errors:
            unreadable(error)
        best = batch.logits.softmax(1).topk(top)
        for place, classes, probabilities in zip(
            batch.places, best.indices.tolist(), best.values.tolist(), strict=True
        ):
            yield Prediction(
                name_of(reader, place), [names[number] for number in classes], probabilities
            )
        done += len(batch.places) + len(batch.errors)
        callback(done, len(reader))


class _Batch(NamedTuple):
    """Logits of some images: their places in the reader, labels, and what could not be read."""

    places: list[int]
    labels: list[int]
    logits: Tensor
    seconds: float
    errors: list[str]


class _Pictures(NamedImages):
    """Prepared images, each with its place and label; an unreadable one is its error."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        try:
            image, label = super().__getitem__(index)
        except UnavailableError as error:
            return str(error), (index, -1)
        return image, (index, label)


def _batches(network: Deployed, reader: Any, batch_size: int, workers: int) -> Iterator[_Batch]:
    loader = create_loader(
        _Pictures(reader, network.mode, skipping=False),
        batch_size=batch_size,
        num_workers=min(workers, -(-len(reader) // batch_size)),
        collate_fn=list,
        use_prefetcher=False,
        persistent_workers=False,
        device=torch.device("cpu"),
        **network.preparation,
    )
    for entries in loader:
        errors = [image for image, _ in entries if isinstance(image, str)]
        read = [entry for entry in entries if not isinstance(entry[0], str)]
        logits, seconds = torch.zeros(0, network.num_classes), 0.0
        if read:
            images = torch.stack([image for image, _ in read])
            start = time.perf_counter()
            logits = network.logits(images)
            seconds = time.perf_counter() - start
        yield _Batch(
            [place for _, (place, _) in read],
            [int(label) for _, (_, label) in read],
            logits,
            seconds,
            errors,
        )


def _percent(part: int, total: int) -> float:
    return round(100 * part / total, 4)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
