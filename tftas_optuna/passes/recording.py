"""The passes that several indicators need of one network, each made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tftas_optuna.errors import TftasError
from tftas_optuna.passes.anatomy import Anatomy, read_anatomy
from tftas_optuna.passes.listening import Forward, Listeners
from tftas_optuna.passes.running import evaluating
from tftas_optuna.passes.tally import Needs, Network, Tally
from tftas_optuna.supernet import generator_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from tftas_optuna.passes.images import Images
    from tftas_optuna.passes.structure import Structure
    from tftas_optuna.passes.tally import Event, Watcher

# Told while the network runs forward; all others need a way back.
_FORWARD: frozenset[Event] = frozenset({"activations", "features", "outputs"})
_KEPT: tuple[Event, ...] = ("activation_gradients", "blocks")


def record(
    model: nn.Module,
    structure: Structure,
    indicators: Sequence[Watcher],
    images: Images,
    seed: int,
) -> list[Tally]:
    """Run the passes that some indicators need, all of them at once where they are the same.

    Args:
        model: The network. It is not changed: its weights are lent to it, in eval mode.
        structure: What of it counts.
        indicators: What is computed.
        images: Batches enough for each of them.
        seed: Of the random signs at the ends of blocks.

    Returns:
        One tally for each indicator, complete.

    Raises:
        TftasError: The network has nothing of what one of them looks at, or no logits.
    """
    anatomy = read_anatomy(model, structure)
    network = Network([weight for _, weight in anatomy.matrices], len(images.batches[0][0]))
    tallies = [indicator.tally(network) for indicator in indicators]
    _check(type(model).__name__, anatomy, indicators)
    by_dtype: dict[torch.dtype, list[tuple[Needs, Tally]]] = {}
    for indicator, tally in zip(indicators, tallies, strict=True):
        dtype = torch.float64 if indicator.needs.double else images.batches[0][0].dtype
        by_dtype.setdefault(dtype, []).append((indicator.needs, tally))
    with evaluating(model):
        for dtype, wanted in by_dtype.items():
            passes = _Passes(model, anatomy, images, dtype, seed)
            for batch in range(max(needs.batches for needs, _ in wanted)):
                listeners: Listeners = {}
                for needs, tally in wanted:
                    if batch < needs.batches:
                        for event in needs.events:
                            listeners.setdefault(event, []).append(tally)
                passes.run(batch, listeners)
    return tallies


def _check(name: str, anatomy: Anatomy, indicators: Sequence[Watcher]) -> None:
    for indicator in indicators:
        looks = {"activations", "activation_gradients"} & indicator.needs.events
        if looks and not any(block.activations for block in anatomy.blocks):
            raise TftasError(
                f"{name} has no activation function that is a module of its blocks, which"
                f" {indicator.name} looks at"
            )


class _Passes:
    """The passes of one network.

    Args:
        model: The network, in eval mode.
        anatomy: Where it is watched.
        images: What goes in.
        dtype: Floating-point type of the passes, whatever that of the network is.
        seed: Of the random signs.
    """

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        images: Images,
        dtype: torch.dtype,
        seed: int,
    ) -> None:
        self._model = model
        self._anatomy = anatomy
        self._images = images
        self._dtype = dtype
        self._seed = seed
        self._own = {n: p.detach().to(dtype) for n, p in model.named_parameters()}
        self._names = list(
            dict.fromkeys(p.parameter for m, _ in anatomy.matrices for p in m.pieces)
        )

    def run(self, batch: int, listeners: Listeners) -> None:
        """Run what somebody listens to on one batch."""
        images, labels = self._images.batches[batch]
        images = images.to(self._dtype)
        if "curvatures" in listeners:
            self._curve(images, labels, listeners)
        if "gradients_by_image" in listeners:
            self._one_by_one(images, listeners)
        events = set(listeners) - {"curvatures", "gradients_by_image"}
        if events <= _FORWARD:
            if events:
                with torch.inference_mode():
                    self._forward(images, listeners)
            return
        with torch.enable_grad():
            weights = "weight_gradients" in events
            # Somewhere before the first block the way back has to end.
            if not weights or events & {"blocks", "image_gradients"}:
                images = images.detach().requires_grad_()
            keep = any(event in events for event in _KEPT)
            forward = self._forward(images, listeners, weights=weights, keep=keep)
            self._back(forward, images, labels, listeners)

    def _forward(
        self,
        images: Tensor,
        listeners: Listeners,
        *,
        weights: bool = False,
        keep: bool = False,
    ) -> Forward:
        own = dict(self._own)
        if weights:
            own |= {name: own[name].detach().requires_grad_() for name in self._names}
        return Forward(self._model, self._anatomy, own, images, listeners, keep=keep)

    def _back(
        self, forward: Forward, images: Tensor, labels: Tensor, listeners: Listeners
    ) -> None:
        """Go back as often as somebody asks; what was kept goes with the last time."""
        for i, (block, x, out) in enumerate(forward.ends if "blocks" in listeners else ()):
            signs = _signs(self._seed, i, out)
            (grad,) = torch.autograd.grad(out, x, signs, retain_graph=True)
            for tally in listeners["blocks"]:
                tally.block(
                    *(block.tokens(each, len(images)).flatten(0, 1) for each in (grad, signs))
                )
        by_image = "image_gradients" in listeners
        by_weight = "weight_gradients" in listeners
        by_activation = "activation_gradients" in listeners
        if by_weight or by_activation:
            sources = self._sources(forward) if by_weight else []
            activated = forward.activated if by_activation else []
            found = torch.autograd.grad(
                _loss(forward.logits, labels),
                [*sources, *(x for _, x in activated)],
                retain_graph=by_image,
                allow_unused=True,
            )
            if by_weight:
                self._tell_weights(forward, found[: len(sources)], listeners["weight_gradients"])
            for (block, x), gradient in zip(activated, found[len(sources) :], strict=True):
                for tally in listeners["activation_gradients"] if gradient is not None else ():
                    tally.activation_gradient(
                        *(block.tokens(each.detach(), len(images)) for each in (x, gradient))
                    )
        if by_image:
            (gradient,) = torch.autograd.grad(forward.logits.sum(), images)
            for tally in listeners["image_gradients"]:
                tally.image_gradients(gradient.flatten(1))

    def _sources(self, forward: Forward) -> list[Tensor]:
        return [forward.parameters[name] for name in self._names]

    def _tell_weights(
        self, forward: Forward, gradients: Sequence[Tensor | None], tallies: Sequence[Tally]
    ) -> None:
        by_name = self._by_name(forward, gradients)
        for matrix, weight in self._anatomy.matrices:
            values, gradient = matrix.of(forward.parameters).detach(), matrix.of(by_name)
            for tally in tallies:
                tally.weight_gradient(weight, values, gradient)

    def _by_name(self, forward: Forward, gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(forward.parameters[name]) if gradient is None else gradient
            for name, gradient in zip(self._names, gradients, strict=True)
        }

    def _curve(self, images: Tensor, labels: Tensor, listeners: Listeners) -> None:
        """Multiply the Hessian by the gradient: the gradient of half the gradient's square."""
        # Fused attention has no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            forward = self._forward(images, {}, weights=True)
            sources = self._sources(forward)
            first = torch.autograd.grad(
                _loss(forward.logits, labels), sources, create_graph=True, allow_unused=True
            )
            half_square = torch.stack([g.square().sum() / 2 for g in first if g is not None]).sum()
            second = torch.autograd.grad(half_square, sources, allow_unused=True)
        by_name = self._by_name(forward, second)
        for matrix, weight in self._anatomy.matrices:
            values = matrix.of(forward.parameters).detach()
            for tally in listeners["curvatures"]:
                tally.curvature(weight, values, matrix.of(by_name))

    def _one_by_one(self, images: Tensor, listeners: Listeners) -> None:
        for image in images.split(1):
            with torch.enable_grad():
                forward = self._forward(image, {}, weights=True)
                found = torch.autograd.grad(
                    forward.logits.sum(), self._sources(forward), allow_unused=True
                )
            by_name = self._by_name(forward, found)
            for tally in listeners["gradients_by_image"]:
                tally.gradients_by_image([by_name[name] for name in self._names])


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def _signs(seed: int, block: int, like: Tensor) -> Tensor:
    """Draw random signs; for a block of one place in the network and one shape always the same."""
    generator = generator_of(seed, f"signs.{block}")
    drawn = torch.randint(2, like.shape, generator=generator)
    return drawn.to(like.device, like.dtype).mul_(2).sub_(1)
