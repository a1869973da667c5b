"""What one engine computes on: a supernet, and the images that are seen with it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.passes.images import Images
    from tftas_optuna.supernet import Supernet


@dataclasses.dataclass(frozen=True)
class Ground:
    """One supernet, and the images that are seen with it.

    Attributes:
        supernet: The weights.
        seed: Their seed, also that of the images and of all else that is drawn for them.
        images: Returns so many batches of images.
        per_batch: Images of one batch.
        data_dir: Folder of the pictures; None for noise.
    """

    supernet: Supernet
    seed: int
    images: Callable[[int], Images]
    per_batch: int
    data_dir: str | None = None
