"""The supernets and images that indicators are computed on."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from functools import partial
from typing import TYPE_CHECKING

import torch

from tftas_optuna._given import TIMM
from tftas_optuna.devices import resolve_device
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.families import get_family
from tftas_optuna.passes import labelled
from tftas_optuna.passes.ground import Ground
from tftas_optuna.scoring.conditions import (
    Conditions,
    ImageSource,
    SupernetSource,
    batches_seen,
    check_labelled,
    sees_labelled,
)
from tftas_optuna.spaces import get_space, space_from_dict, space_names
from tftas_optuna.supernet.files import Preprocessing
from tftas_optuna.supernet.larger import is_larger, network_name
from tftas_optuna.supernet.slicing import PREFIXES

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from tftas_optuna.passes.images import Images
    from tftas_optuna.passes.labelled import LabelledImages
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet


class Basis:
    """The supernets and images for one set of conditions.

    Args:
        conditions: The conditions.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...

    Attributes:
        conditions: The conditions.
        device: The device, as torch names it.
        grounds: One for each seed: the supernet and its images.

    Raises:
        TftasError: The device does not exist.
    """

    def __init__(self, conditions: Conditions, device: str | torch.device) -> None:
        self.conditions = conditions
        self.device = resolve_device(device)
        self.dtype: torch.dtype = getattr(torch, conditions.dtype)
        self._images: dict[tuple[int, int], Images] = {}
        self._labelled: dict[bool, LabelledImages] = {}
        images = conditions.images or ImageSource()
        self.grounds = tuple(
            Ground(
                open_supernet(conditions, offset, device=self.device, dtype=self.dtype),
                conditions.supernet.seed + offset,
                lambda batches, offset=offset: self.images(offset, batches),  # type: ignore[misc]
                self.labelled,
                images.n_images,
                images.data_dir,
            )
            for offset in range(conditions.n_seeds)
        )

    def images(self, offset: int = 0, batches: int = 1) -> Images:
        """Return the images for one supernet; they are drawn or read at the first call.

        Args:
            offset: Position of the supernet, from 0.
            batches: Number of batches.

        Raises:
            TftasError: The pictures do not fit the conditions.
            UnavailableError: The pictures cannot be read.
        """
        key = offset, batches
        if key not in self._images:
            drawn = read_images(self.conditions, batches, offset)
            self._images[key] = drawn.to(self.device, self.dtype)
        return self._images[key]

    def labelled(self, held_out: bool = False) -> LabelledImages:
        """Return the labelled images; they are read at the first call.

        Args:
            held_out: Whether to return those that no objective sees.

        Raises:
            TftasError: The conditions have none, or they do not fit.
            UnavailableError: They cannot be read, or are not those of the conditions.
        """
        if held_out not in self._labelled:
            images = read_labelled(self.conditions, held_out)
            source = self.conditions.evaluation
            assert source is not None
            if not held_out and source.digest not in (None, images.digest):
                raise UnavailableError(
                    f"data_dir {source.data_dir!r} holds other images on {platform.node()} than"
                    " where this began; copy them there"
                )
            self._labelled[held_out] = images.to(self.device)
        return self._labelled[held_out]

    def conditions_seen(self, batches: int) -> Conditions:
        """Return the conditions with the digest of the pictures, which are read for it."""
        images = self.conditions.images
        if images is None or images.digest is not None or not batches:
            return self.conditions
        digest = self.images(0, batches).digest
        return dataclasses.replace(
            self.conditions, images=dataclasses.replace(images, digest=digest)
        )


def open_supernet(
    conditions: Conditions,
    offset: int = 0,
    *,
    new_classifier: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Supernet:
    """Open the supernet that candidates are cut from: drawn, trained, or a larger network.

    Args:
        conditions: The conditions.
        offset: Position of the supernet among those of several seeds, from 0.
        new_classifier: Whether the classifier is drawn if the trained one is for other classes;
            that of a larger network always is.
        device: Where scoring runs.
        dtype: Floating-point type of the scoring.

    Raises:
        TftasError: The trained weights are of another space or other sizes.
        UnavailableError: They cannot be read, or have changed.
    """
    space, source = conditions.space, conditions.supernet
    trained = source.trained
    make = partial(
        get_family(space.family).supernet,
        space.supernet,
        seed=source.seed + offset,
        img_size=conditions.img_size,
        num_classes=conditions.num_classes,
        in_chans=space.in_chans,
        slicing=PREFIXES if trained is None else trained.slicing,
        device=device,
        dtype=dtype,
    )
    drawn = make()
    if trained is None:
        return drawn
    what = (
        f"{source.path} holds no weights for space {space.name!r} with images of"
        f" {conditions.img_size} pixels and {conditions.num_classes} classes"
    )
    for name, value in trained.traits.items():
        own = getattr(space.supernet, name, value)
        if own != value:
            raise TftasError(f"{what}: it was trained with {name} {value}, the space has {own}")
    try:
        tensors = dict(trained.for_supernet(drawn))
        if conditions.num_classes != trained.num_classes and (new_classifier or trained.adapts):
            tensors |= {name: drawn.drawn(name) for name in drawn.classifier()}
        # Where heads share the width, the smallest candidate has the most of them.
        members = trained.members or (space.smallest(), space.largest())
        supernet = make(state_dict=tensors, trained=() if trained.adapts else members)
    except TftasError as error:
        raise TftasError(f"{what}: {error}") from error
    more = sorted(tensors.keys() - supernet.shapes())
    if more:
        raise TftasError(
            f"{what}: it has further tensors ({', '.join(more[:3])}"
            f"{', ...' if len(more) > 3 else ''}), as checkpoints of other programs have, which"
            " may cut the same tensors differently"
        )
    return supernet


def space_of(supernet: str | os.PathLike[str] | SupernetSource) -> SearchSpace | None:
    """Return the space of a trained supernet: the recorded one, or the preset that it fits.

    Args:
        supernet: The source of the supernet, as :class:`tftas_optuna.Scorer` takes it.

    Returns:
        The space; None for a drawn supernet, which may be of any space.

    Raises:
        TftasError: Its weights fit no preset.
        UnavailableError: It cannot be read, or the recorded space is damaged.
    """
    source = supernet if isinstance(supernet, SupernetSource) else SupernetSource.of(supernet)
    trained = source.trained
    if trained is None:
        return None
    if is_larger(source.path):
        return get_space(f"{TIMM}{network_name(str(source.path))}")
    if trained.space is not None:
        try:
            return space_from_dict(trained.space)
        except TftasError as error:
            raise UnavailableError(f"{source.path}: its space is damaged ({error})") from error
    for name in space_names():
        space = get_space(name)
        with contextlib.suppress(TftasError):
            open_supernet(Conditions.of(space, supernet=source))
            return space
    raise TftasError(
        f"{source.path} fits none of the spaces {', '.join(space_names())}; name its own one"
    )


def read_images(conditions: Conditions, batches: int, offset: int = 0) -> Images:
    """Draw or read the images for one supernet.

    Args:
        conditions: The conditions.
        batches: Number of batches.
        offset: Position of the supernet, from 0.

    Raises:
        TftasError: The pictures do not fit the conditions.
        UnavailableError: The pictures cannot be read.
    """
    images = conditions.images or ImageSource()
    shape = (conditions.space.in_chans, conditions.img_size, conditions.img_size)
    seed, classes = conditions.supernet.seed + offset, conditions.num_classes
    return images.read(seed, shape, classes, batches)


def read_labelled(conditions: Conditions, held_out: bool = False) -> LabelledImages:
    """Read the labelled images of conditions, prepared as for the network.

    Args:
        conditions: The conditions.
        held_out: Whether to read those that no objective sees.

    Raises:
        TftasError: The conditions have none, or they do not fit.
        UnavailableError: They cannot be read.
    """
    source, space, trained = conditions.evaluation, conditions.space, conditions.supernet.trained
    if source is None:
        raise TftasError("there are no labelled images; give a folder of them as data_dir")
    if trained is not None:
        preprocessing = trained.preprocessing
    else:
        from timm.data import resolve_model_data_config

        network = open_supernet(conditions).blank(space.smallest())
        preprocessing = Preprocessing.from_dict(resolve_model_data_config(network))
    return labelled.read_labelled(
        source.data_dir,
        source.n_images,
        (space.in_chans, conditions.img_size, conditions.img_size),
        preprocessing,
        (trained and trained.class_names) or conditions.num_classes,
        held_out=held_out,
    )


def resolve_images(conditions: Conditions, indicators: Sequence[str]) -> Conditions:
    """Return the conditions with the digests of all images, without those that are not seen.

    Args:
        conditions: The conditions.
        indicators: Names of the indicators.

    Raises:
        TftasError: The pictures do not fit the conditions, or labelled images are needed, or
            trained weights for them.
        UnavailableError: The pictures cannot be read.
    """
    conditions = _resolve_labelled(conditions, indicators)
    images, batches = conditions.images or ImageSource(), batches_seen(indicators)
    if not batches:
        return dataclasses.replace(conditions, images=None)
    if images.data_dir is not None:
        digest = read_images(conditions, batches).digest
        images = dataclasses.replace(images, digest=digest)
    return dataclasses.replace(conditions, images=images)


def _resolve_labelled(conditions: Conditions, indicators: Sequence[str]) -> Conditions:
    check_labelled(indicators, conditions)
    source = conditions.evaluation
    if source is None or not sees_labelled(indicators):
        return dataclasses.replace(conditions, evaluation=None)
    images = read_labelled(conditions)
    source = dataclasses.replace(source, digest=images.digest, seen=images.seen)
    return dataclasses.replace(conditions, evaluation=source)
