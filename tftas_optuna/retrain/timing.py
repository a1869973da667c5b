"""Measures how long training takes on this machine, by a few steps."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from tftas_optuna.devices import limit_threads, resolve_device
from tftas_optuna.retrain.data import data_config, make_loaders, open_data
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.learning_rate import LOWEST
from tftas_optuna.retrain.recipe import AUTO, load_recipe
from tftas_optuna.retrain.run import fit_recipe
from tftas_optuna.retrain.training import Training

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.retrain.trainees import Trainee
    from tftas_optuna.spaces import SearchSpace

# A batch grows until a step takes about this long, or it is that of the recipe.
_STEP_SECONDS = 0.3
_STEPS = 3
_SMALLEST_BATCH = 2


class StepTime(NamedTuple):
    """A measured step of training.

    Attributes:
        seconds: Seconds for one image, the median over the steps.
        batch_size: Images of each step.
        steps: Number of steps.
    """

    seconds: float
    batch_size: int
    steps: int


def usual_recipe() -> str:
    """Return the recipe that suits the device: ``quick`` on a CPU, ``autoformer`` on a GPU."""
    return "quick" if resolve_device("auto").type == "cpu" else "autoformer"


def where() -> str:
    """Return the name of the device that is trained on, with the threads of a CPU."""
    device = resolve_device("auto")
    if device.type != "cpu":
        return str(torch.cuda.get_device_name(device))
    return f"this CPU (threads: {torch.get_num_threads()})"


def time_step(space: SearchSpace, arch: Architecture, recipe_name: str) -> StepTime:
    """Measure optimizer steps of an architecture on noise, as `retrain` takes them.

    A step is forward, backward and the update of the weights; images are not read. Its batch is
    the recipe's, or a smaller one where that would take long or not fit into memory.

    Args:
        space: The space, whose sizes count.
        arch: The architecture.
        recipe_name: The recipe.
    """
    recipe = load_recipe(recipe_name)
    world = World(resolve_device("auto"))
    model = space.build(arch)
    # Training asks a loader for the number of its batches only.
    training = Training(model, recipe, range(1), space.num_classes, world)
    training.task.train()
    shape = cast("Any", model).pretrained_cfg["input_size"]

    def seconds(count: int) -> float:
        images = torch.randn(count, *shape, device=world.device)
        labels = torch.randint(space.num_classes, (count,), device=world.device)
        start = time.perf_counter()
        # The loss is only known once all has been computed.
        float(training.step(iter([(images, labels)] * recipe.grad_accum_steps), 0))
        return (time.perf_counter() - start) / recipe.grad_accum_steps

    batch = _SMALLEST_BATCH
    with limit_threads(training.threads):
        seconds(batch)
        times = [seconds(batch)]
        while batch < recipe.batch_size and 2 * times[0] <= _STEP_SECONDS:
            larger = min(2 * batch, recipe.batch_size)
            try:
                times = [seconds(larger)]
            except torch.cuda.OutOfMemoryError:
                break
            batch = larger
        while len(times) < _STEPS and sum(times) < _STEPS * _STEP_SECONDS:
            times.append(seconds(batch))
    return StepTime(median(times) / batch, batch, len(times))


def seconds_per_epoch(
    trainee: Trainee,
    recipe: Recipe,
    source: DataSource,
    *,
    world: World,
    num_classes: int | None = None,
    workers: int = 0,
) -> float:
    """Measure how long an epoch takes, by a few steps.

    Images are loaded as in a training, and evaluation is counted as a third of training, for each
    image.

    Args:
        trainee: What would be trained.
        recipe: How it would be trained.
        source: The data.
        world: This process among all.
        num_classes: Number of classes that the data must have; None for any.
        workers: Processes that load images.

    Raises:
        TftasError: The recipe, the weights or the number of classes do not fit.
        UnavailableError: Data or weights cannot be used.
    """
    recipe = fit_recipe(recipe, world)
    recipe = replace(recipe, lr=LOWEST if recipe.lr == AUTO else recipe.lr)
    images, classes = open_data(
        source,
        in_chans=trainee.in_chans,
        num_classes=num_classes,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
    )
    model = trainee.build(classes, images.class_names, recipe)
    config = data_config(model, recipe, images.class_names)
    loader, _ = make_loaders(images, config, recipe, world, workers=workers)
    training = trainee.training(model, recipe, loader, classes, world)
    training.task.train()
    with limit_threads(training.threads):
        batches = iter(loader)
        times = [time.monotonic()]
        for number in range(min(_STEPS + 1, training.steps)):
            training.step(batches, number)
            times.append(time.monotonic())
    # The first step of several warms up.
    timed = times[1:] if len(times) > 2 else times
    step = (timed[-1] - timed[0]) / (len(timed) - 1)
    share = 1 + images.about["n_val"] / images.about["n_train"] / 3
    return step * training.steps * share


def duration(seconds: float, longest: float = 120) -> str:
    """Return a length of time as a person says it: in minutes from the longest on, in seconds."""
    seconds = max(0.0, seconds)
    if seconds < longest:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
