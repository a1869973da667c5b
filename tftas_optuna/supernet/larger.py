"""Larger networks of timm that candidates are cut from: ``timm:NAME``.

Weights of a larger network are a good start for a smaller one (Xu et al., Initializing Models
with Larger Ones, ICLR 2024). Here the larger network becomes the supernet of a space: its
channels, heads and hidden units are put into one order, and every candidate is a slice of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tftas_optuna._given import LOCAL, TIMM
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean
from tftas_optuna.supernet.arranging import ORDERS, LargerWeights
from tftas_optuna.supernet.files import Preprocessing, SupernetWeights
from tftas_optuna.supernet.slicing import BLOCKS, Slicing

if TYPE_CHECKING:
    from torch import Tensor

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.supernet._base import Supernet

_OPTIONS = {"order": ORDERS, "blocks": BLOCKS}
# The best on average in benchmarks/larger_starts.py, by little.
_DEFAULTS = {"order": "even", "blocks": "first"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LargerNetwork(SupernetWeights):
    """A plain Vision Transformer of timm with its pretrained weights.

    Attributes:
        name: Its name in timm, or ``local-dir:PATH``.
        order: Which channels, heads and hidden units come first; one of
            :data:`tftas_optuna.supernet.arranging.ORDERS`.
        architecture: Its architecture.
        input_size: Channels, height and width of its images.
    """

    adapts: ClassVar[bool] = True

    name: str
    order: str
    architecture: Architecture
    input_size: tuple[int, int, int]

    def for_supernet(self, supernet: Supernet) -> dict[str, Tensor]:
        """Return the weights as those of a supernet; timm resamples them for its images.

        A classifier with other outputs than the supernet's is left out.

        Raises:
            TftasError: The supernet does not fit into the network.
            UnavailableError: The network cannot be read any more.
        """
        own, theirs = supernet.largest, self.architecture
        if own.family != theirs.family:
            raise TftasError(f"the space is of family {own.family}, the network {theirs.family}")
        size = (supernet.in_chans, supernet.img_size, supernet.img_size)
        tensors = self.tensors
        if size != self.input_size or _patch_size(own) != _patch_size(theirs):
            tensors = self._resampled(supernet)
        if self.num_classes != supernet.num_classes:
            tensors = {n: t for n, t in tensors.items() if not n.startswith("head.")}
        return supernet.arranged(LargerWeights(self.architecture, tensors), self.order)

    @property
    def source(self) -> str:
        """What ``--supernet`` takes to open it, in every working directory."""
        name = self.name
        if name.startswith(LOCAL):
            name = f"{LOCAL}{Path(name.removeprefix(LOCAL)).resolve()}"
        return f"{TIMM}{name},order={self.order},blocks={self.slicing.blocks}"

    @property
    def digest(self) -> str:
        """SHA-256 of the tensors, and of how they are arranged."""
        rule = f"order {self.order}, blocks {self.slicing.blocks}"
        return hashlib.sha256(f"{super().digest} {rule}".encode()).hexdigest()

    def _resampled(self, supernet: Supernet) -> dict[str, Tensor]:
        from tftas_optuna.models.plain import open_timm
        from tftas_optuna.models.positions import resample_map

        largest: Any = supernet.largest
        if self.architecture.family == "pit":
            # timm does not resample the positions of its PiTs.
            tensors = open_timm(self.name, in_chans=supernet.in_chans).state_dict()
            side = largest.grids(supernet.img_size)[0]
            positions = resample_map(tensors["pos_embed"], (side, side))
            return {**tensors, "pos_embed": positions}
        network = open_timm(
            self.name,
            img_size=supernet.img_size,
            in_chans=supernet.in_chans,
            patch_size=largest.patch_size,
        )
        return network.state_dict()


def _patch_size(arch: Any) -> int:
    return int(arch.patch_size)


def is_larger(source: str | None) -> bool:
    """Return whether a source of a supernet names a network of timm."""
    return source is not None and source.startswith(TIMM)


def read_larger(source: str) -> LargerNetwork:
    """Open the network that a source names.

    Args:
        source: ``timm:NAME`` or ``timm:local-dir:PATH``, with ``,order=`` and ``,blocks=`` if
            these are not to be the defaults.

    Raises:
        TftasError: timm has no such network, or it is no plain Vision Transformer, or has no
            pretrained weights, or an option is unknown.
        UnavailableError: It cannot be read or downloaded.
    """
    # Loading timm takes longer than scoring a generation.
    from tftas_optuna.models.plain import open_timm, plain_architecture

    name, options = _parse(source)
    # What is not plain is not worth a download.
    architecture = plain_architecture(open_timm(name, weights=False))
    network = open_timm(name)
    model: Any = network
    config = model.pretrained_cfg
    try:
        preprocessing = Preprocessing.from_dict(config)
        labels = tuple(map(str, config.get("label_names") or ()))
    except (LookupError, TypeError, ValueError) as error:
        raise UnavailableError(f"{name} has a damaged description ({error})") from error
    if labels and len(labels) != model.num_classes:
        raise UnavailableError(
            f"{name} has {model.num_classes} classes, and names {len(labels)}; mend label_names in"
            " its config.json"
        )
    return LargerNetwork(
        name=name,
        order=options["order"],
        architecture=architecture,
        input_size=(model.in_chans, *model.patch_embed.img_size),
        tensors=network.state_dict(),
        preprocessing=preprocessing,
        num_classes=model.num_classes or None,
        class_names=labels or None,
        slicing=Slicing(blocks=options["blocks"], qkv_bias="rows"),
    )


def network_name(source: str) -> str:
    """Return the name of the network of a source, without its options."""
    return _parse(source)[0]


def _parse(source: str) -> tuple[str, dict[str, str]]:
    name, *given = re.split(r",(?=[a-z]+=)", source.removeprefix(TIMM))
    options = dict(_DEFAULTS)
    for option in given:
        key, _, value = option.partition("=")
        if key not in _OPTIONS:
            raise TftasError(f"supernet {source!r} has {key!r}{did_you_mean(key, _OPTIONS)}")
        if value not in _OPTIONS[key]:
            raise TftasError(
                f"supernet {source!r} has {key} {value!r}{did_you_mean(value, _OPTIONS[key])}"
            )
        options[key] = value
    if not name:
        raise TftasError(f"supernet {source!r} names no network; give timm:NAME")
    return name, options
