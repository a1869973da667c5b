"""The learning rate by a range test: one short training in which it grows from step to step.

Smith, *Cyclical Learning Rates for Training Neural Networks* (WACV 2017), section 3.3.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from timm.utils import random_seed

from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.data import set_order
from tftas_optuna.retrain.folder import LEARNING_RATES
from tftas_optuna.retrain.training import DivergedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tftas_optuna.retrain.folder import RunFolder
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.retrain.training import Batch, Training

LOWEST, HIGHEST = 1e-4, 1.0
STEPS = 240
# Weight of the losses before in the smoothed one.
_SMOOTHING = 0.9
# The test ends where the smoothed loss is this many times the lowest one.
_DIVERGED = 1.25
# Steps at its beginning that tell what the loss is before it falls, and how noisy it is.
_BEFORE = 20
# How far the learning rate is below the one at the lowest loss.
_BELOW = 5.0
# What is taken where a test says nothing.
_USUAL = 1e-3
_LOG = logging.getLogger(__name__)


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
        DivergedError: The loss is not finite from the first step on.
        UnavailableError: The range test of the directory is damaged.
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
    try:
        tried = [Tried(**row) for row in rows]
    except TypeError as error:
        raise UnavailableError(
            f"{folder.path / LEARNING_RATES} is damaged; delete it for another range test, or give"
            " another --out"
        ) from error
    lr = choose(tried)
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
    for step, lr in enumerate(np.geomspace(LOWEST, HIGHEST, STEPS).tolist()):
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
    Where the loss fell by less than its noise, the test says nothing, and 0.001 is taken.

    Raises:
        DivergedError: The loss was not finite from the first step on.
    """
    if not tried:
        raise DivergedError(
            "the range test of --lr auto has no finite loss; give a number as --lr, and look at"
            " the images"
        )
    # The first losses are hardly smoothed: one of them may be the lowest by chance.
    before, after = tried[:_BEFORE], tried[_BEFORE:] or tried
    best = min(after, key=lambda step: step.smoothed)
    losses = [step.loss for step in before]
    if len(tried) > _BEFORE and best.smoothed > fmean(losses) - stdev(losses):
        _LOG.warning(
            "the range test found no learning rate at which the loss falls; %g is taken, and --lr"
            " gives another",
            _USUAL,
        )
        return _USUAL
    return best.lr / _BELOW
