"""The ground that an engine computes on: one supernet and its images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.passes.images import Images
    from tftas_optuna.passes.labelled import LabelledImages
    from tftas_optuna.supernet import Supernet


@dataclasses.dataclass(frozen=True)
class Ground:
    """One supernet and the images that indicators see with it.

    Attributes:
        supernet: The supernet.
        seed: The seed of its weights, of the images and of everything else that is random.
        images: Returns the given number of batches of images.
        labelled: Returns the labelled images for evaluation; those held out if called with True.
        per_batch: Images in one batch.
        data_dir: Folder of the pictures; None for noise.
    """

    supernet: Supernet
    seed: int
    images: Callable[[int], Images]
    labelled: Callable[[bool], LabelledImages]
    per_batch: int
    data_dir: str | None = None
