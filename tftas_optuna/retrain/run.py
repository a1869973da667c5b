"""Trains a network or a supernet in a directory, from its last checkpoint if there is one."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.retrain.checkpoints import Checkpoints, checkpoint_bytes, read_last
from tftas_optuna.retrain.data import data_config, make_loaders, open_data
from tftas_optuna.retrain.folder import RunFolder
from tftas_optuna.retrain.images import check_readable
from tftas_optuna.retrain.learning_rate import with_learning_rate
from tftas_optuna.retrain.recipe import AUTO
from tftas_optuna.retrain.trainees import SingleNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.network import Network
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.retrain.trainees import Trainee
    from tftas_optuna.retrain.training import Step, Training
    from tftas_optuna.scoring.conditions import SupernetSource

_logger = logging.getLogger(__name__)
_VERSIONS = ("tftas-optuna", "torch", "timm")
# Facts about the data that a result leaves out, or has under another name.
_ELSEWHERE = ("dataset", "digest")
_SHORT = 16


class Epoch(NamedTuple):
    """The metrics after an epoch.

    Attributes:
        row: The line of ``metrics.csv``.
        epochs: Epochs of the whole training.
    """

    row: dict[str, Any]
    epochs: int


def train(
    trainee: Trainee,
    recipe: Recipe,
    source: DataSource,
    out: Path,
    *,
    world: World,
    num_classes: int | None = None,
    workers: int = 0,
    tensorboard: bool = False,
    pause: Callable[[int], bool] = lambda _: False,
    callback: Callable[[Step | Epoch], None] = lambda _: None,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a network or a supernet, or continue its training, and keep it.

    The directory then holds ``recipe.yaml`` (resolved), ``run.yaml``, ``metrics.csv`` (one line
    per epoch), ``steps.csv`` (losses on the way), the checkpoints of timm's saver, and what is
    trained after the last epoch, averaged if the recipe averages: a network as
    ``model.safetensors`` with ``config.json``, a supernet as ``supernet.safetensors`` with
    ``supernet.yaml``; and ``lr.csv``, the range test, if the recipe's learning rate is ``auto``. A
    killed training continues after its last whole epoch; on one CPU with the
    same number of workers it ends with the same metrics as an uninterrupted one.

    Args:
        trainee: What is trained.
        recipe: How to train it.
        source: The data.
        out: The directory, the same for all processes.
        world: This process among all.
        num_classes: Number of classes that the data must have; None for any.
        workers: Processes that load images, for each process that trains.
        tensorboard: Whether to write ``tensorboard/`` as well.
        pause: Called with the number of epochs done, before each epoch but the first; the training
            stops there if it returns true, the same in all processes. The same call without it
            continues.
        callback: Called after every step and every epoch.
        told: Called with a line about the data, and with what is worth knowing on the way.

    Returns:
        ``top1``, ``top5`` (per cent) and ``loss`` after the last epoch, ``best_top1`` and its
        ``best_epoch`` (from 0, as in ``metrics.csv``), and ``n_params``, ``num_classes``,
        ``epochs``, ``n_train``, ``n_val``, the splits (with ``val_fraction`` and ``split_seed``
        if one was divided), ``data_digest``, ``seconds``; ``lr``, if a range test found it. Of a
        paused training, ``top1``, ``top5``, ``loss``, ``epochs`` so far, and ``n_params``.

    Raises:
        TftasError: The recipe, the weights or the number of classes do not fit.
        UnavailableError: Data, weights or checkpoints cannot be used, or the disk is full.
    """
    given_recipe, recipe = recipe, fit_recipe(recipe, world)
    if recipe.aug_repeats != given_recipe.aug_repeats:
        _logger.warning("one process trains without repeated augmentation (aug_repeats 0)")
    images, classes = open_data(
        source,
        in_chans=trainee.in_chans,
        num_classes=num_classes,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
    )
    told(images.summary(classes))
    if trainee.num_classes not in (None, classes):
        told(
            f"it was searched or written for {trainee.num_classes} classes; its classifier gets"
            f" {classes} outputs"
        )
    with _deterministic(world):
        model = trainee.build(classes, images.class_names, recipe)
        n_params = sum(parameter.numel() for parameter in model.parameters())
        config = data_config(model, recipe, images.class_names)
        folder = RunFolder(out)
        if not folder.begun:
            check_readable(images.val, world, workers=workers)
        world.barrier()
        if world.primary:
            folder.prepare(
                recipe,
                {
                    **trainee.identity(),
                    "num_classes": classes,
                    "n_params": n_params,
                    "data": images.about,
                    "data_dir": str(source.root.resolve()),
                    "processes": world.size,
                    "workers": workers,
                    "device": str(world.device),
                    "versions": {name: metadata.version(name) for name in _VERSIONS},
                },
                needed_bytes=checkpoint_bytes(
                    model, history=recipe.checkpoint_hist, ema=recipe.model_ema
                ),
            )
        world.barrier()
        done = folder.result()
        if done is not None:
            return done
        train_loader, val_loader = make_loaders(images, config, recipe, world, workers=workers)

        def begin(recipe: Recipe) -> Training:
            fresh = trainee.build(classes, images.class_names, recipe)
            return trainee.training(fresh, recipe, train_loader, classes, world)

        found = {}
        if recipe.lr == AUTO:
            recipe = with_learning_rate(recipe, folder, begin)
            found = {"lr": recipe.lr}
            told(f"learning rate {recipe.lr:.2g} by a range test (lr.csv)")
        training = trainee.training(model, recipe, train_loader, classes, world)
        with limit_threads(training.threads):
            rows = _train(
                training,
                val_loader,
                folder,
                tensorboard=tensorboard,
                pause=pause,
                callback=_watch_chance(callback, recipe, images.about["n_val"], classes, told),
            )
            if len(rows) < recipe.epochs:
                # Files of the primary process are read next.
                world.barrier()
                last = {name: rows[-1][name] for name in ("top1", "top5", "loss")}
                return {**last, "epochs": len(rows), "n_params": n_params}
            kept = trainee.keep(training, val_loader, out)
    best = max(rows, key=lambda row: row["top1"])
    result = {
        "top1": rows[-1]["top1"],
        "top5": rows[-1]["top5"],
        "loss": rows[-1]["loss"],
        "best_top1": best["top1"],
        "best_epoch": best["epoch"],
        "epochs": recipe.epochs,
        "n_params": n_params,
        "num_classes": classes,
        **{name: value for name, value in images.about.items() if name not in _ELSEWHERE},
        "data_digest": images.about["digest"][:_SHORT],
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        **found,
        **kept,
    }
    if world.primary:
        folder.write_result(result)
    world.barrier()
    return result


def train_network(
    network: Network,
    recipe: Recipe,
    source: DataSource,
    out: Path,
    *,
    world: World,
    weights: str | SupernetSource = "scratch",
    **options: Any,
) -> dict[str, Any]:
    """Train one network; see :func:`train`, whose other arguments it takes.

    Args:
        network: The network.
        recipe: How to train it.
        source: The data.
        out: The directory, the same for all processes.
        world: This process among all.
        weights: Weights to start from; see :func:`tftas_optuna.retrain.network.build_network`.
        **options: Further arguments of :func:`train`.
    """
    return train(SingleNetwork(network, weights), recipe, source, out, world=world, **options)


def _train(
    training: Training,
    val_loader: Any,
    folder: RunFolder,
    *,
    tensorboard: bool,
    pause: Callable[[int], bool],
    callback: Callable[[Step | Epoch], None],
) -> list[dict[str, Any]]:
    world, epochs = training.world, training.recipe.epochs
    state = read_last(folder.path)
    start = 0 if state is None else int(state["epoch"]) + 1
    if not world.agree(start):
        raise UnavailableError(
            f"{folder.path} differs between the machines; give an --out that all of them share"
        )
    rows = folder.rows(before_epoch=start)
    if len(rows) != start:
        raise UnavailableError(
            f"{folder.path / 'metrics.csv'} has {len(rows)} of {start} epochs; give another --out"
        )
    saver = None
    if world.primary:
        saver = Checkpoints(
            training.network,
            training.optimizer,
            task=training.task,
            amp_scaler=training.scaler,
            checkpoint_dir=str(folder.path),
            max_history=training.recipe.checkpoint_hist,
        )
        folder.cut_steps(before_step=start * training.steps)
    if state is not None:
        training.load(state)
        if saver is not None:
            saver.restore(state)
    board = _Board(folder.path / "tensorboard", start) if tensorboard and world.primary else None

    def on_step(step: Step) -> None:
        if world.primary and step.loss is not None:
            update = step.epoch * step.steps + step.step
            folder.add_step(
                {"step": update, "epoch": step.epoch, "loss": step.loss, "lr": step.lr}
            )
            if board is not None:
                board.add(update, {"step/loss": step.loss, "step/lr": step.lr})
        callback(step)

    for epoch in range(start, epochs):
        if epoch and pause(epoch):
            break
        begin = time.monotonic()
        train_loss = training.train_epoch(epoch, callback=on_step)
        metrics = training.evaluate(val_loader)
        rows.append(
            {
                "epoch": epoch,
                "lr": max(group["lr"] for group in training.optimizer.param_groups),
                "train_loss": train_loss,
                **metrics,
                "seconds": round(time.monotonic() - begin, 3),
            }
        )
        if saver is not None:
            # Metrics first, so that they have all epochs of the checkpoint.
            folder.write_rows(rows)
            saver.save(epoch, metrics["top1"])
        if board is not None:
            board.add(epoch, {f"epoch/{name}": value for name, value in rows[-1].items()})
        callback(Epoch(rows[-1], epochs))
    return rows


def _watch_chance(
    callback: Callable[[Step | Epoch], None],
    recipe: Recipe,
    n_val: int,
    num_classes: int,
    told: Callable[[str], None],
) -> Callable[[Step | Epoch], None]:
    """Return a callback that also says so once if a training learns nothing.

    It looks after a fifth of the epochs, after the warm-up and not before the third epoch, at
    whether top-1 is within two standard errors of chance.
    """
    checked = max(3, recipe.warmup_epochs + 1, math.ceil(recipe.epochs / 5))
    chance = 1 / num_classes
    margin = 2 * math.sqrt(chance * (1 - chance) / n_val)
    advice = (
        "more --epochs, another --recipe" if recipe.lr == AUTO else "another --lr, such as auto"
    )

    def watch(event: Step | Epoch) -> None:
        callback(event)
        if not isinstance(event, Epoch) or event.row["epoch"] + 1 != checked:
            return
        if event.row["top1"] <= 100 * (chance + margin):
            told(
                f"top-1 {event.row['top1']:.2f} % after {checked} epochs is no better than chance"
                f" ({100 * chance:.2f} %); try {advice}, and look at the labels"
            )

    return watch


class _Board:
    """Writes the metrics for TensorBoard."""

    def __init__(self, path: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(path), purge_step=start or None)

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


def check_tensorboard() -> None:
    """Check that TensorBoard's files can be written.

    Raises:
        UnavailableError: It is not installed; names the extra.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            "--tensorboard needs TensorBoard; pip install 'tftas-optuna[tensorboard]'"
        ) from error


def fit_recipe(recipe: Recipe, world: World) -> Recipe:
    """Return the recipe with what depends on the machine resolved.

    Raises:
        TftasError: The recipe does not fit the processes or the device.
    """
    parts = world.size * recipe.grad_accum_steps
    batch, rest = divmod(recipe.batch_size, parts)
    if rest or not batch:
        raise TftasError(
            f"recipe: batch_size {recipe.batch_size} cannot be shared by {world.size} processes"
            f" and {recipe.grad_accum_steps} accumulated steps; give a multiple of {parts}"
        )
    if recipe.mixing and batch % 2:
        raise TftasError(
            f"recipe: mixup and cutmix need an even number of images at a time, not {batch}"
        )
    if recipe.amp == "float16" and world.device.type == "cpu":
        raise TftasError("recipe: amp float16 needs CUDA; give --set amp=bfloat16 or none")
    if recipe.aug_repeats and not world.distributed:
        # timm spreads the repetitions of an image over processes; one process has none.
        return dataclasses.replace(recipe, aug_repeats=0)
    return recipe


@contextlib.contextmanager
def _deterministic(world: World) -> Iterator[None]:
    """Add gradients in one order on a CPU, whatever the number of threads."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if world.device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


__all__ = ["Epoch", "check_tensorboard", "fit_recipe", "train", "train_network"]
