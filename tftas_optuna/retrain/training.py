"""One training: timm's task, optimizer and schedule, epoch by epoch."""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import timm
import torch
from timm.data import Mixup
from timm.loss import create_classification_loss
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask, LogitDistillationTask
from timm.task.evaluator import evaluation_sample_limit
from timm.utils import NativeScaler, dispatch_clip_grad, random_seed, unwrap_model

from tftas_optuna._given import LOCAL
from tftas_optuna._reading import reading
from tftas_optuna.devices import layer_macs, threads_for
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.retrain.data import set_order
from tftas_optuna.retrain.images import without_tracebacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.recipe import Recipe

_TEACHERS = "give a model of timm's, or local-dir:PATH of one that was trained"

Batch = tuple["Tensor", "Tensor"]


class Step(NamedTuple):
    """The progress of an epoch.

    Attributes:
        epoch: The epoch, from 0.
        step: Optimizer step of the epoch, from 0.
        steps: Optimizer steps of an epoch.
        loss: Training loss of this step, averaged over all processes; None where it was not
            collected.
        lr: Learning rate of this step.
    """

    epoch: int
    step: int
    steps: int
    loss: float | None
    lr: float


class DivergedError(UnavailableError):
    """The loss of a training is not finite."""


class Training:
    """The state of a training.

    An epoch depends only on the weights, the optimizer's state, the seed and its number: it sets
    all random states anew, so that a resumed training repeats an uninterrupted one.

    Args:
        model: The network.
        recipe: How it is trained.
        loader: Training images of this process.
        num_classes: Outputs of the network.
        world: This process among all.

    Raises:
        TftasError: The optimizer does not exist, or the recipe does not fit the machine.
        UnavailableError: The teacher cannot be loaded or does not fit.
    """

    distributed_options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, model: nn.Module, recipe: Recipe, loader: Any, num_classes: int, world: World
    ) -> None:
        self.recipe, self.loader, self.world = recipe, loader, world
        self.steps = len(loader) // recipe.grad_accum_steps
        model = model.to(world.device)
        self.task = _make_task(model, recipe, num_classes, world.device)
        self.ema = recipe.model_ema
        if self.ema:
            self.task.setup_ema(decay=recipe.model_ema_decay, use_warmup=recipe.model_ema_warmup)
        self.optimizer = _make_optimizer(model, recipe)
        # A schedule neither begins nor ends above its peak, which may be low: lr is scaled to the
        # batch, or found by a range test.
        peak = recipe.scaled_lr
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched=recipe.sched,
            num_epochs=recipe.epochs,
            warmup_epochs=recipe.warmup_epochs,
            warmup_lr=min(recipe.warmup_lr, peak),
            min_lr=min(recipe.min_lr, peak),
            decay_epochs=recipe.decay_epochs,
            decay_rate=recipe.decay_rate,
            step_on_epochs=not recipe.sched_on_updates,
            updates_per_epoch=self.steps,
        )
        self.scaler = NativeScaler(world.device.type) if recipe.amp == "float16" else None
        self.mixup = _make_mixup(recipe, num_classes)
        if world.distributed:
            self.task.prepare_distributed(
                device_ids=[world.device] if world.device.type == "cuda" else None,
                **self.distributed_options,
            )

    @property
    def threads(self) -> int | None:
        """Number of CPU threads that suit its passes; None for all that PyTorch has."""
        if self.world.device.type != "cpu":
            return None
        model: Any = self.example()
        images = self.recipe.batch_size // (self.world.size * self.recipe.grad_accum_steps)
        macs = layer_macs(model, model.pretrained_cfg["input_size"])
        return threads_for(macs * images, self.world.device)

    def example(self) -> nn.Module:
        """Return a network of the size that is trained."""
        model: nn.Module = unwrap_model(self.task.get_eval_model(ema=False))
        return model

    @property
    def network(self) -> nn.Module:
        """The network that is evaluated and kept: the averaged one if there is one."""
        network: nn.Module = unwrap_model(self.task.get_eval_model(ema=self.ema))
        return network

    def load(self, state: dict[str, Any]) -> None:
        """Restore a checkpoint of timm's saver."""
        self.task.load_checkpoint_state(state["state_dict"])
        if self.ema:
            self.task.load_checkpoint_state(state["state_dict_ema"], ema=True)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state[self.scaler.state_dict_key])

    def train_epoch(self, epoch: int, *, callback: Callable[[Step], None]) -> float:
        """Train one epoch.

        Args:
            epoch: Its number, from 0.
            callback: Called after every optimizer step; losses are collected at every
                ``log_interval``-th.

        Returns:
            The training loss, averaged over all images and processes.

        Raises:
            DivergedError: The loss is not finite.
            UnavailableError: A process gets too few images.
        """
        recipe = self.recipe
        random_seed(_epoch_seed(recipe.seed, epoch), self.world.rank)
        set_order(self.loader, seed=recipe.seed, epoch=epoch)
        self.scheduler.step(epoch)
        if self.mixup is not None and recipe.mixup_off_epoch:
            self.mixup.mixup_enabled = epoch < recipe.mixup_off_epoch
        self.task.train()
        total = torch.zeros((), device=self.world.device)
        batches = iter(self.loader)
        for step in range(self.steps):
            update = epoch * self.steps + step
            self.scheduler.step_update(update)
            loss = self.step(batches, update)
            self.task.update_ema(step=update + 1)
            total += loss
            shown = update % recipe.log_interval == 0
            lr = max(group["lr"] for group in self.optimizer.param_groups)
            callback(Step(epoch, step, self.steps, self.world.mean(loss) if shown else None, lr))
        mean = self.world.mean(total / self.steps)
        if not math.isfinite(mean):
            kept = "; the checkpoint before is kept" if epoch else ""
            clip = " or --set clip_grad=1" if recipe.clip_grad is None else ""
            raise DivergedError(
                f"the training loss is {mean} in epoch {epoch}{kept}. Begin again with a lower"
                f" --lr{clip}, and another --out"
            )
        return mean

    @torch.no_grad()
    def evaluate(self, loader: Any) -> dict[str, float]:
        """Return the cross-entropy of the network, and its top-1 and top-5 in per cent."""
        return self.evaluate_each([lambda: None], loader)[0]

    @torch.no_grad()
    def evaluate_each(
        self, choices: Sequence[Callable[[], None]], loader: Any
    ) -> list[dict[str, float]]:
        """Evaluate the network in several configurations in one pass over the images.

        Args:
            choices: Functions that configure the network, called before every batch.
            loader: The images.

        Returns:
            For each, ``loss``, ``top1`` and ``top5``.
        """
        network = self.network
        network.eval()
        limit = evaluation_sample_limit(loader)
        evaluators = [self.task.create_evaluator(max_samples=limit) for _ in choices]
        with without_tracebacks():
            for images, targets in loader:
                for choose, evaluator in zip(choices, evaluators, strict=True):
                    choose()
                    with self._autocast():
                        output = network(images)
                    evaluator.update(output, targets)
        results = [e.compute(distributed=self.world.distributed) for e in evaluators]
        return [{name: r[name] for name in ("loss", "top1", "top5")} for r in results]

    def step(self, batches: Iterator[Batch], update: int) -> Tensor:
        """Take one optimizer step.

        Args:
            batches: Batches of images and labels; one is used for each accumulated step.
            update: Number of the step, from 0 at the beginning of the training.

        Returns:
            The loss, a scalar: the mean over accumulated steps and passes.
        """
        parts = self.recipe.grad_accum_steps
        total = torch.zeros((), device=self.world.device)
        for part in range(parts):
            images, targets = self._next(batches)
            if self.mixup is not None:
                images, targets = self.mixup(images, targets)
            passes = self.passes(images, targets, update)
            for number, losses in enumerate(passes, start=1):
                last = part == parts - 1 and number == len(passes)
                with nullcontext() if last else self.task.no_sync():
                    with self._autocast():
                        loss = losses() / parts
                    self._backward(loss, last)
                total += loss.detach() / len(passes)
        self.optimizer.zero_grad()
        return total

    def passes(
        self, images: Tensor, targets: Tensor, update: int
    ) -> Sequence[Callable[[], Tensor]]:
        """Return the passes of a step, functions that compute a loss; gradients add up."""
        return [lambda: self.task(images, targets)["loss"]]

    def _next(self, batches: Iterator[Batch]) -> Batch:
        with without_tracebacks():
            batch = next(batches, None)
        if batch is None:
            raise UnavailableError(
                "the images ran out in the middle of an epoch; a data set in shards needs one for"
                f" each of the --workers of all {self.world.size} processes"
            )
        return batch

    def _backward(self, loss: Tensor, last: bool) -> None:
        clip = self.recipe.clip_grad
        if self.scaler is not None:
            self.scaler(
                loss,
                self.optimizer,
                clip_grad=clip,
                clip_mode=self.recipe.clip_mode,
                parameters=self.task.get_clip_parameters(),
                need_update=last,
            )
            return
        loss.backward()
        if last:
            if clip is not None:
                dispatch_clip_grad(
                    self.task.get_clip_parameters(), clip, mode=self.recipe.clip_mode
                )
            self.optimizer.step()

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.recipe.amp == "float16" else torch.bfloat16
        return torch.autocast(self.world.device.type, dtype, enabled=self.recipe.amp != "none")


def _make_task(
    model: nn.Module, recipe: Recipe, num_classes: int, device: torch.device
) -> ClassificationTask | LogitDistillationTask:
    criterion = create_classification_loss(
        recipe.loss, smoothing=recipe.smoothing, soft_targets=recipe.mixing
    )
    if recipe.teacher is None:
        return ClassificationTask(model, criterion, device=device, verbose=False)
    return LogitDistillationTask(
        model,
        _make_teacher(recipe.teacher, model, num_classes, device),
        criterion,
        task_loss_weight=1 - recipe.distillation_alpha,
        temperature=recipe.distillation_tau,
        device=device,
        verbose=False,
    )


def _make_teacher(
    name: str, student: nn.Module, num_classes: int, device: torch.device
) -> nn.Module:
    local = Path(name.removeprefix(LOCAL)) if name.startswith(LOCAL) else None
    with reading(local, lambda reason: f"teacher {name} cannot be loaded: {reason}; {_TEACHERS}"):
        teacher: nn.Module = timm.create_model(name, pretrained=True)
    if teacher.num_classes != num_classes:
        raise UnavailableError(
            f"teacher {name} knows {teacher.num_classes} classes, the data have {num_classes};"
            " give a teacher trained on these classes"
        )
    teacher.to(device).eval().requires_grad_(False)
    shape = (1, *cast("Any", student).pretrained_cfg["input_size"])
    try:
        with torch.no_grad():
            teacher(torch.zeros(shape, device=device))
    except (AssertionError, RuntimeError) as error:
        raise UnavailableError(
            f"teacher {name} does not take images of {'x'.join(map(str, shape[1:]))}"
        ) from error
    return teacher


def _make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    extra: dict[str, Any] = {"eps": recipe.opt_eps, "betas": recipe.opt_betas}
    try:
        return create_optimizer_v2(
            model,
            opt=recipe.opt,
            lr=recipe.scaled_lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            layer_decay=recipe.layer_decay,
            **{name: value for name, value in extra.items() if value is not None},
        )
    except (ValueError, TypeError, AssertionError) as error:
        raise TftasError(f"recipe: opt {recipe.opt!r} cannot be made: {error}") from error


def _make_mixup(recipe: Recipe, num_classes: int) -> Mixup | None:
    if not recipe.mixing:
        return None
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        cutmix_minmax=recipe.cutmix_minmax,
        prob=recipe.mixup_prob,
        switch_prob=recipe.mixup_switch_prob,
        mode=recipe.mixup_mode,
        label_smoothing=recipe.smoothing,
        num_classes=num_classes,
    )


def _epoch_seed(seed: int, epoch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1
