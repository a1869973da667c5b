"""The images: any data set that timm knows, checked before anything is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.data import create_dataset, create_loader, resolve_data_config
from torch.utils.data import IterableDataset, RandomSampler

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.retrain.reading import first_line

if TYPE_CHECKING:
    from torch import nn

    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class DataSource:
    """Where the images are, in the words of timm's ``create_dataset``.

    Attributes:
        root: The directory.
        dataset: Name of the data set; empty for folders with one folder of images per class,
            below ``train`` and ``validation`` (or ``val``).
        train_split: What is trained on.
        val_split: What is evaluated on.
        download: Whether the data set may be downloaded.
    """

    root: Path
    dataset: str = ""
    train_split: str = "train"
    val_split: str = "validation"
    download: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that tells two sources apart, wherever they are."""
        return {
            "dataset": self.dataset,
            "train_split": self.train_split,
            "val_split": self.val_split,
        }


@dataclasses.dataclass(frozen=True)
class Images:
    """Opened data sets.

    Attributes:
        train: What is trained on.
        val: What is evaluated on.
        class_names: Names of the classes in the order of their numbers; None where the data set
            does not tell.
    """

    train: Any
    val: Any
    class_names: tuple[str, ...] | None


def open_images(
    source: DataSource, *, in_chans: int, num_classes: int | None, batch_size: int, seed: int
) -> tuple[Images, int]:
    """Open both data sets and find the number of classes.

    Args:
        source: Where they are.
        in_chans: Channels that the network takes.
        num_classes: Classes that there must be; None to take those of the data.
        batch_size: Images of one step, of which there must be at least one batch.
        seed: Seed of data sets that shuffle themselves.

    Returns:
        The data sets and the number of classes.

    Raises:
        TftasError: The number of classes is needed or is not that of the data.
        UnavailableError: The data are missing, empty or at odds with each other.
    """
    if not source.dataset and not source.root.is_dir():
        raise UnavailableError(
            f"data directory {source.root} does not exist; give a directory with"
            " train/CLASS/IMAGE and val/CLASS/IMAGE as --data-dir"
        )
    train = _open(source, source.train_split, in_chans, batch_size, seed, training=True)
    val = _open(source, source.val_split, in_chans, batch_size, seed, training=False)
    roots = [getattr(getattr(data, "reader", None), "root", None) for data in (train, val)]
    if not source.dataset and roots[0] == roots[1]:
        raise UnavailableError(
            f"{source.root} has no two folders {source.train_split} and {source.val_split} (or"
            " val); training and evaluation would use the same images"
        )
    names, others = _class_names(train), _class_names(val)
    if names is not None and others is not None and names != others:
        odd = sorted(set(names) ^ set(others))
        raise UnavailableError(
            f"{source.root}: {len(names)} classes to train on, {len(others)} to evaluate on"
            + (f"; only one of them has {odd[0]!r}" if odd else "")
        )
    if num_classes is None and names is None:
        raise TftasError(
            f"data set {source.dataset} does not tell its classes; give --num-classes"
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
    return Images(train, val, names), num_classes or len(names or ())


def data_config(
    model: nn.Module, recipe: Recipe, class_names: tuple[str, ...] | None
) -> dict[str, Any]:
    """Resolve input size, normalisation and evaluation crop as timm does.

    The model's ``pretrained_cfg`` is updated, so that whatever is saved of it says how its
    images were prepared and what its outputs are called.
    """
    wanted = {
        name: value
        for name in ("mean", "std", "interpolation", "crop_pct")
        if (value := getattr(recipe, name)) is not None
    }
    config: dict[str, Any] = resolve_data_config(wanted, model=model)
    cast("Any", model).pretrained_cfg.update(
        {name: config[name] for name in ("mean", "std", "interpolation", "crop_pct")},
        label_names=class_names,
    )
    return config


def make_loaders(
    images: Images, config: dict[str, Any], recipe: Recipe, world: World, *, workers: int
) -> tuple[Any, Any]:
    """Make timm's loaders of training and evaluation images for this process."""
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
    source: DataSource, split: str, in_chans: int, batch_size: int, seed: int, *, training: bool
) -> Any:
    try:
        return create_dataset(
            source.dataset,
            root=str(source.root),
            split=split,
            is_training=training,
            download=source.download,
            batch_size=batch_size,
            seed=seed,
            input_img_mode="L" if in_chans == 1 else "RGB",
        )
    except Exception as error:
        # Every reader has errors of its own: missing files, packages, names, splits.
        what = f"{source.dataset or 'images'} ({split}) in {source.root}"
        raise UnavailableError(f"{what} cannot be opened: {first_line(error)}") from error


def _class_names(data: Any) -> tuple[str, ...] | None:
    by_name = getattr(getattr(data, "reader", data), "class_to_idx", None)
    # Readers of archives have an empty table.
    if not by_name:
        names = getattr(data, "classes", None)
        return tuple(map(str, names)) if names else None
    return tuple(str(name) for name in sorted(by_name, key=by_name.__getitem__))
