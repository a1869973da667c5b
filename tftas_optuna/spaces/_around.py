"""Spaces around a network of timm, of which it is the largest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna._given import LOCAL
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from tftas_optuna.spaces._base import SearchSpace

_RATIO_STEP = 0.5
# Images of ImageNet-1k, for networks without a classifier.
_CLASSES = 1000


def space_around(name: str) -> SearchSpace:
    """Return the space around a network of timm, for its images and classes.

    Args:
        name: Its name, ``NAME.TAG``, ``local-dir:PATH`` or ``hf-hub:ID``; no weights are read.

    Raises:
        TftasError: There is no such network, or it is no plain Vision Transformer.
        UnavailableError: It cannot be read or downloaded.
    """
    # timm and PyTorch take seconds to load.
    from tftas_optuna.models.plain import open_timm, plain_architecture

    network: Any = open_timm(name, weights=False)
    arch = plain_architecture(network)
    path = name.removeprefix(LOCAL)
    space = FAMILIES[arch.family].space.around(
        arch,
        # The same from every working directory.
        name=(Path(path).resolve() if path != name else Path(path)).name.rpartition(":")[2][:100],
        img_size=network.patch_embed.img_size[0],
        in_chans=network.in_chans,
        num_classes=network.num_classes or _CLASSES,
    )
    try:
        # Only what can be read back may be recorded.
        return type(space).from_dict(space.to_dict())
    except TftasError as error:
        raise TftasError(f"there is no space around {name}: {error}") from error


def from_half(most: int) -> list[int]:
    """Return the numbers from half of one up to it."""
    return list(range(math.ceil(most / 2), most + 1))


def ratios_to(most: float) -> list[float]:
    """Return the MLP ratios up to that of a network, from 1 in steps of 1/2."""
    steps = (1 + _RATIO_STEP * i for i in range(math.ceil(most / _RATIO_STEP)))
    return [*(ratio for ratio in steps if ratio < most), most]
