"""The training data: any data set that timm knows, checked before training."""

from __future__ import annotations

import dataclasses
import logging
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.data import ImageDataset, create_dataset, create_loader, resolve_data_config
from timm.models import get_model_input_config
from torch.utils.data import IterableDataset, RandomSampler

from tftas_optuna._given import expect, shown
from tftas_optuna.errors import TftasError, UnavailableError, first_line
from tftas_optuna.retrain._timm import mend_posterize
from tftas_optuna.retrain.images import NamedImages, read_file
from tftas_optuna.retrain.splits import (
    check_apart,
    contents,
    digest,
    divide,
    find_splits,
    list_files,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.retrain.splits import File

_LOG = logging.getLogger(__name__)
_SHOWN = 3
_PREPARED = ("input_size", "mean", "std", "interpolation", "crop_pct")

# Seed for drawing held-back images; fixed so that trainings with other seeds stay comparable.
_SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class DataSource:
    """Where the images are, in the words of timm's ``create_dataset``.

    Attributes:
        root: The directory.
        dataset: Name of the data set; empty for folders with one folder of images per class.
        train_split: Split to train on.
        val_split: Split to evaluate on; None for ``validation`` of a data set, and for the first
            folder that exists of ``val``, ``valid``, ``validation`` and ``test``.
        download: Whether the data set may be downloaded.
        val_fraction: Fraction of the images of each class to evaluate on, if one folder holds
            all; None for two folders.

    Raises:
        TftasError: A name is no text, or the fraction is out of range or does not apply to these
            data.
    """

    root: Path
    dataset: str = ""
    train_split: str = "train"
    val_split: str | None = None
    download: bool = False
    val_fraction: float | None = None

    def __post_init__(self) -> None:
        expect("dataset", self.dataset, str, "the name of a data set, or ''")
        expect("train_split", self.train_split, str, "a name")
        expect("val_split", self.val_split, (str, type(None)), "a name or None")
        if self.val_fraction is None:
            return
        if not isinstance(self.val_fraction, int | float) or not 0 < self.val_fraction < 1:
            raise TftasError(
                f"--val-fraction is {shown(self.val_fraction)}, allowed: between 0 and 1"
            )
        if self.dataset or self.val_split is not None:
            given = f"data set {self.dataset}" if self.dataset else f"--val-split {self.val_split}"
            raise TftasError(
                f"--val-fraction divides a folder of classes and does not apply to {given}; give"
                " one of them"
            )


@dataclasses.dataclass(frozen=True)
class Images:
    """Opened data sets.

    Attributes:
        train: The training data.
        val: The evaluation data.
        class_names: Names of the classes in the order of their numbers; None if the data set does
            not list them.
        about: Facts that identify the data, wherever they are stored: ``dataset``,
            ``train_split``, ``val_split``, ``digest`` of their files or else of what is known,
            ``n_train``, ``n_val``; if one folder was divided, ``val_fraction``, ``split_seed``.
    """

    train: Any
    val: Any
    class_names: tuple[str, ...] | None
    about: dict[str, Any]

    def summary(self, num_classes: int) -> str:
        """Describe the data in one line."""
        about = self.about
        which = f"{about['train_split']} and {about['val_split']}"
        if "val_fraction" in about:
            which = f"{about['val_fraction']} of each class held back"
        return (
            f"train {about['n_train']}, val {about['n_val']} images, {num_classes} classes"
            f" ({which})"
        )


def open_data(
    source: DataSource, *, in_chans: int, num_classes: int | None, batch_size: int, seed: int
) -> tuple[Images, int]:
    """Open the data to train and to evaluate on, and count their classes.

    Args:
        source: Where the data are.
        in_chans: Input channels of the network.
        num_classes: Number of classes that the data must have; None for any.
        batch_size: Images per step; the training data must fill at least one batch.
        seed: Seed of data sets that shuffle themselves.

    Returns:
        The data sets and the number of classes.

    Raises:
        TftasError: The number of classes is needed or is not that of the data.
        UnavailableError: The data are missing or empty, both sets are the same, or their classes
            differ.
    """
    if not source.dataset and not source.root.is_dir():
        raise UnavailableError(
            f"data directory {source.root} does not exist; give a directory with"
            " train/CLASS/IMAGE and val/CLASS/IMAGE as --data-dir"
        )
    splits = source.train_split, source.val_split or "validation"
    mode = "L" if in_chans == 1 else "RGB"
    if source.dataset:
        train = _open(source, splits[0], mode, batch_size, seed, training=True)
        val = _open(source, splits[1], mode, batch_size, seed, training=False)
        # torchvision's small data sets take any unknown split for the test set.
        same = getattr(train, "train", None), getattr(val, "train", None)
        if splits[0] == splits[1] or (same[0] is not None and same[0] == same[1]):
            raise UnavailableError(
                f"splits {splits[0]} and {splits[1]} of {source.dataset} are the same images; give"
                " two as --train-split and --val-split"
            )
    else:
        train, val, splits = _open_folders(source, mode)
    names, val_names = _class_names(train), _class_names(val)
    if names is not None and val_names is not None and names != val_names:
        unshared = sorted(set(names) ^ set(val_names))
        raise UnavailableError(
            f"{source.root}: {len(names)} classes to train on, {len(val_names)} to evaluate on"
            + (f"; only one of them has {unshared[0]!r}" if unshared else "")
        )
    hidden = next((name for name in names or () if name.startswith(".")), None)
    if hidden is not None:
        raise UnavailableError(
            f"{source.root}: {hidden!r} is hidden, so it is not a class; delete it"
        )
    if num_classes is None and names is None:
        raise TftasError(
            f"data set {source.dataset or splits[0]} does not list its classes; give --num-classes"
        )
    if num_classes is not None and names is not None and num_classes != len(names):
        raise TftasError(
            f"--num-classes is {num_classes}, but {source.root} has {len(names)} classes"
        )
    if not isinstance(train, IterableDataset) and len(train) < batch_size:
        raise UnavailableError(
            f"{source.root} has {len(train)} images to train on, fewer than one batch of"
            f" {batch_size}; give a smaller --batch-size"
        )
    files = [_files(data, source) for data in (train, val)]
    if None in files:
        parts: list[Any] = [source.dataset, *splits, len(train), len(val), names or num_classes]
    else:
        trained, evaluated = cast("list[list[File]]", files)
        check_apart(trained, evaluated)
        parts = [contents(trained), contents(evaluated), names]
        _warn_of_empty(trained)
    about: dict[str, Any] = {
        "dataset": source.dataset,
        "train_split": splits[0],
        "val_split": splits[1],
        "digest": digest(parts),
        "n_train": len(train),
        "n_val": len(val),
    }
    if source.val_fraction is not None:
        about |= {"val_fraction": source.val_fraction, "split_seed": _SPLIT_SEED}
    return Images(train, val, names, about), num_classes or len(names or ())


def data_config(
    model: nn.Module, recipe: Recipe, class_names: tuple[str, ...] | None
) -> dict[str, Any]:
    """Resolve input size, normalisation and evaluation crop as timm does.

    The model's ``pretrained_cfg`` is updated, so that a saved model records how its images were
    prepared and what its classes are called.
    """
    overrides = {
        name: value
        for name in ("mean", "std", "interpolation", "crop_pct")
        if (value := getattr(recipe, name)) is not None
    }
    # Of a timm model the configuration tells the size of timm's own training.
    config: dict[str, Any] = {
        **resolve_data_config(overrides, model=model),
        "input_size": get_model_input_config(model)["input_size"],
    }
    cast("Any", model).pretrained_cfg.update(
        {name: config[name] for name in _PREPARED},
        label_names=class_names,
    )
    return config


def make_loaders(
    images: Images, config: dict[str, Any], recipe: Recipe, world: World, *, workers: int
) -> tuple[Any, Any]:
    """Return timm's loaders of training and evaluation images for this process."""
    shared: dict[str, Any] = dict(
        input_size=config["input_size"],
        batch_size=recipe.batch_size // (world.size * recipe.grad_accum_steps),
        mean=config["mean"],
        std=config["std"],
        num_workers=workers,
        distributed=world.distributed,
        pin_memory=world.device.type == "cuda",
        device=world.device,
        # Workers that live on would carry their random state from epoch to epoch, and a resumed
        # training could not catch up with it.
        persistent_workers=False,
    )
    augmentation: dict[str, Any] = dict(
        scale=recipe.scale,
        ratio=recipe.ratio,
        color_jitter=recipe.color_jitter,
    )
    train = create_loader(
        images.train,
        is_training=True,
        no_aug=recipe.no_aug,
        re_prob=recipe.reprob,
        re_mode=recipe.remode,
        re_count=recipe.recount,
        hflip=recipe.hflip,
        vflip=recipe.vflip,
        auto_augment=recipe.aa,
        num_aug_repeats=recipe.aug_repeats,
        interpolation=recipe.train_interpolation,
        **augmentation,
        **shared,
    )
    mend_posterize(images.train.transform)
    val = create_loader(
        images.val,
        is_training=False,
        interpolation=config["interpolation"],
        crop_pct=config["crop_pct"],
        **shared,
    )
    return train, val


def set_order(loader: Any, *, seed: int, epoch: int) -> None:
    """Fix the order of one epoch's images, the same on any number of processes.

    The images of step ``k`` are then one slice of one permutation, whether one process takes
    them all or several take turns.
    """
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler):
        sampler.generator = torch.Generator().manual_seed(seed + epoch)
    elif hasattr(sampler, "set_epoch"):
        sampler.seed = seed
        sampler.set_epoch(epoch)
    if hasattr(loader.dataset, "set_epoch"):
        loader.dataset.set_epoch(epoch)


def _open(
    source: DataSource, split: str, mode: str, batch_size: int, seed: int, *, training: bool
) -> Any:
    """Open a data set through timm."""
    try:
        data = create_dataset(
            source.dataset,
            root=str(source.root),
            split=split,
            is_training=training,
            download=source.download,
            batch_size=batch_size,
            seed=seed,
            input_img_mode=mode,
        )
    except Exception as error:
        # Every reader raises its own errors: missing files, packages, names, splits.
        what = f"{source.dataset} ({split}) in {source.root}"
        raise UnavailableError(f"{what} cannot be opened: {first_line(error)}") from error
    # torchvision's folders read images with it.
    if hasattr(data, "loader"):
        data.loader = read_file
    if isinstance(data, ImageDataset):
        return NamedImages(data.reader, mode, skipping=training)
    return data


def _open_folders(source: DataSource, mode: str) -> tuple[Any, Any, tuple[str, str]]:
    """Open folders of classes, or archives."""
    try:
        if source.val_fraction is None:
            train, val = find_splits(source.root, source.train_split, source.val_split)
        else:
            train, val = divide(source.root, source.train_split, source.val_fraction, _SPLIT_SEED)
    except (OSError, tarfile.TarError) as error:
        raise UnavailableError(
            f"images in {source.root} cannot be opened: {first_line(error)}"
        ) from error
    images = NamedImages(train.reader, mode, skipping=True)
    return images, NamedImages(val.reader, mode, skipping=False), (train.name, val.name)


def _files(data: Any, source: DataSource) -> list[File] | None:
    if isinstance(data, NamedImages):
        return list_files(data.reader)
    return list_files(data, source.root)


def _warn_of_empty(files: Sequence[File]) -> None:
    empty = [file.name for file in files if not file.size]
    if empty:
        _LOG.warning(
            "empty images to train on: %d (%s%s); the next ones are used in their place",
            len(empty),
            ", ".join(empty[:_SHOWN]),
            ", ..." if len(empty) > _SHOWN else "",
        )


def _class_names(data: Any) -> tuple[str, ...] | None:
    reader = getattr(data, "reader", data)
    by_name = getattr(reader, "class_to_idx", None) or getattr(reader, "class_name_to_idx", None)
    # Readers of shards have an empty table.
    if not by_name:
        names = getattr(data, "classes", None)
        return tuple(map(str, names)) if names else None
    return tuple(str(name) for name in sorted(by_name, key=by_name.__getitem__))
