"""The learning rate by a range test: one short training in which it grows from step to step.

Smith, *Cyclical Learning Rates for Training Neural Networks* (WACV 2017), section 3.3.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from timm.utils import random_seed

from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.data import set_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tftas_optuna.retrain.folder import RunFolder
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.retrain.training import Batch, Training

LOWEST, HIGHEST = 1e-5, 1.0
_STEPS = 200
# Weight of the losses before in the smoothed one.
_SMOOTHING = 0.9
# The test ends where the smoothed loss is this many times the lowest one.
_DIVERGED = 1.25
# How far the learning rate is below the one at the lowest loss.
_BELOW = 5.0


class Tried(NamedTuple):
    """One step of a range test.

    Attributes:
        lr: Learning rate of the step.
        loss: Training loss before the step, averaged over all processes.
        smoothed: The loss, averaged over the steps before with weights that fall exponentially.
    """

    lr: float
    loss: float
    smoothed: float


def with_learning_rate(
    recipe: Recipe, folder: RunFolder, begin: Callable[[Recipe], Training]
) -> Recipe:
    """Return a recipe with the learning rate of a range test, which its directory keeps.

    Args:
        recipe: The recipe.
        folder: The directory of the training; if it holds a range test, that one is used.
        begin: Makes a training by a recipe, with first weights of its own.

    Raises:
        UnavailableError: The loss is not finite from the first step on.
    """
    rows = folder.learning_rates()
    if not rows:
        lowest = dataclasses.replace(recipe, lr=LOWEST, lr_base_size=None)
        training = begin(lowest)
        with limit_threads(training.threads):
            rows = [tried._asdict() for tried in range_test(training)]
        if training.world.primary:
            folder.write_learning_rates(rows)
        training.world.barrier()
    lr = choose([Tried(**row) for row in rows])
    return dataclasses.replace(recipe, lr=lr, lr_base_size=None)


def range_test(training: Training) -> list[Tried]:
    """Train for some steps with a learning rate that grows exponentially, and watch the loss.

    The weights are useless afterwards.

    Args:
        training: The training; its schedule is not used.

    Returns:
        The steps until the loss diverges.
    """
    random_seed(training.recipe.seed, training.world.rank)
    set_order(training.loader, seed=training.recipe.seed, epoch=0)
    training.task.train()
    batches = _endless(training.loader)
    tried: list[Tried] = []
    average, lowest = 0.0, math.inf
    for step, lr in enumerate(np.geomspace(LOWEST, HIGHEST, _STEPS).tolist()):
        for group in training.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        loss = training.world.mean(training.step(batches, step))
        if not math.isfinite(loss):
            break
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed = average / (1 - _SMOOTHING ** (step + 1))
        tried.append(Tried(lr, loss, smoothed))
        lowest = min(lowest, smoothed)
        if smoothed > _DIVERGED * lowest:
            break
    return tried


def _endless(loader: Any) -> Iterator[Batch]:
    while True:
        yield from loader


def choose(tried: Sequence[Tried]) -> float:
    """Return the learning rate that a range test suggests.

    It is a fifth of the one at the lowest smoothed loss, from where on steps are too large. The
    fifth is a rule of thumb, tried on small networks and AdamW (``benchmarks/learning_rate.py``).

    Raises:
        UnavailableError: The loss was not finite from the first step on.
    """
    if not tried:
        raise UnavailableError(
            "the range test of --lr auto has no finite loss; give a number as --lr, and look at"
            " the images"
        )
    return min(tried, key=lambda step: step.smoothed).lr / _BELOW
