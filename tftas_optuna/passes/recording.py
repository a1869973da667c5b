"""The passes through one network that several indicators share."""

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
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from tftas_optuna.passes.images import Images
    from tftas_optuna.passes.structure import Structure
    from tftas_optuna.passes.tally import Event, Watcher

# Events of the forward pass; all others need a backward pass.
_FORWARD: frozenset[Event] = frozenset({"activations", "features", "outputs"})
_KEPT: tuple[Event, ...] = ("activation_gradients", "blocks")
# Of gradients image by image, those of so many entries are kept at a time (1 GB in float32), or
# those of so few images by all weights.
_ENTRIES = 1 << 28
_IMAGES = 8


def record(
    model: nn.Module,
    structure: Structure,
    indicators: Sequence[Watcher],
    images: Images,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
) -> list[Tally]:
    """Run the passes that the indicators need, sharing passes between them.

    Args:
        model: The network; it is not changed.
        structure: The weights that count in it.
        indicators: The indicators.
        images: Enough batches for each of them.
        seed: Seed of the random signs at the ends of blocks.
        weights: The weights of the network, by name; None for those that it has.

    Returns:
        One complete tally for each indicator.

    Raises:
        TftasError: The network lacks something that an indicator looks at, or has no logits.
    """
    weights = dict(model.named_parameters()) if weights is None else weights
    anatomy = read_anatomy(model, structure, weights)
    network = Network([weight for _, weight in anatomy.matrices], len(images.batches[0][0]))
    tallies = [indicator.tally(network) for indicator in indicators]
    _check(type(model).__name__, anatomy, indicators)
    by_dtype: dict[torch.dtype, list[tuple[Needs, Tally]]] = {}
    for indicator, tally in zip(indicators, tallies, strict=True):
        dtype = torch.float64 if indicator.needs.double else images.batches[0][0].dtype
        by_dtype.setdefault(dtype, []).append((indicator.needs, tally))
    with evaluating(model):
        for dtype, members in by_dtype.items():
            passes = _Passes(model, anatomy, weights, images, dtype, seed)
            for batch in range(max(needs.batches for needs, _ in members)):
                listeners: Listeners = {}
                for needs, tally in members:
                    if batch < needs.batches:
                        for event in needs.events:
                            listeners.setdefault(event, []).append(tally)
                passes.run(batch, listeners)
    return tallies


def _check(name: str, anatomy: Anatomy, indicators: Sequence[Watcher]) -> None:
    for indicator in indicators:
        sees_activations = {"activations", "activation_gradients"} & indicator.needs.events
        if sees_activations and not any(block.activations for block in anatomy.blocks):
            raise TftasError(
                f"{name} has no activation function that is a module of its blocks, which"
                f" {indicator.name} looks at"
            )


class _Passes:
    """The passes through one network in one floating-point type.

    Args:
        model: The network, in eval mode.
        anatomy: The parts to watch.
        weights: The weights of the network, by name.
        images: The batches of images.
        dtype: Floating-point type of the passes; the network may have another one.
        seed: Seed of the random signs.
    """

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        weights: Mapping[str, Tensor],
        images: Images,
        dtype: torch.dtype,
        seed: int,
    ) -> None:
        self._model = model
        self._anatomy = anatomy
        self._images = images
        self._dtype = dtype
        self._seed = seed
        # As one block of memory each, so that all kernels sum in the same order.
        self._own = {n: weight.detach().to(dtype).contiguous() for n, weight in weights.items()}
        self._names = list(
            dict.fromkeys(p.parameter for m, _ in anatomy.matrices for p in m.pieces)
        )

    def run(self, batch: int, listeners: Listeners) -> None:
        """Run the passes that the listeners need on one batch."""
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
            # A backward pass must end at leaves: weights, or the images if it goes further back.
            if not weights or events & {"blocks", "image_gradients"}:
                images = images.detach().requires_grad_()
            keep = any(event in events for event in _KEPT)
            names = self._names if weights else ()
            forward = self._forward(images, listeners, by=names, keep=keep)
            self._back(forward, images, labels, listeners)

    def _forward(
        self,
        images: Tensor,
        listeners: Listeners,
        *,
        by: Sequence[str] = (),
        keep: bool = False,
    ) -> Forward:
        """Run the forward pass, for gradients by some weights."""
        own = self._own | {name: self._own[name].detach().requires_grad_() for name in by}
        return Forward(self._model, self._anatomy, own, images, listeners, keep=keep)

    def _back(
        self, forward: Forward, images: Tensor, labels: Tensor, listeners: Listeners
    ) -> None:
        """Run the backward passes; the last one frees the graph."""
        for i, (block, x, out) in enumerate(forward.ends if "blocks" in listeners else ()):
            signs = _signs(self._seed, i, out)
            (grad,) = torch.autograd.grad(out, x, signs, retain_graph=True)
            for tally in listeners["blocks"]:
                tally.block(*(block.tokens(g, len(images)).flatten(0, 1) for g in (grad, signs)))
        by_image = "image_gradients" in listeners
        by_weight = "weight_gradients" in listeners
        by_activation = "activation_gradients" in listeners
        if by_weight or by_activation:
            sources = self._sources(forward) if by_weight else []
            activated = forward.activated if by_activation else []
            gradients = torch.autograd.grad(
                _loss(forward.logits, labels),
                [*sources, *(x for _, x in activated)],
                retain_graph=by_image,
                allow_unused=True,
            )
            if by_weight:
                tallies = listeners["weight_gradients"]
                self._hand_on_weights(forward, gradients[: len(sources)], tallies)
            for (block, x), gradient in zip(activated, gradients[len(sources) :], strict=True):
                for tally in listeners["activation_gradients"] if gradient is not None else ():
                    tally.activation_gradient(
                        *(block.tokens(t.detach(), len(images)) for t in (x, gradient))
                    )
        if by_image:
            (gradient,) = torch.autograd.grad(forward.logits.sum(), images)
            for tally in listeners["image_gradients"]:
                tally.image_gradients(gradient.flatten(1))

    def _sources(self, forward: Forward) -> list[Tensor]:
        return [forward.parameters[name] for name in self._names]

    def _hand_on_weights(
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
        """Compute the Hessian times the gradient, as the gradient of half its square."""
        # Fused attention has no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            forward = self._forward(images, {}, by=self._names)
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
        """Compute the gradients of each image, by as many weights at a time as there is room."""
        for names in self._groups(len(images)):
            by_image: list[list[Tensor]] = []
            for image in images.split(1):
                with torch.enable_grad():
                    forward = self._forward(image, {}, by=names)
                sources = [forward.parameters[name] for name in names]
                by_image.append(_gradients(forward.logits.sum(), sources))
            for i in range(len(names)):
                rows = torch.stack([gradients[i].flatten() for gradients in by_image])
                for tally in listeners["gradients_by_image"]:
                    tally.gradients_by_image(rows)

    def _groups(self, n_images: int) -> Iterator[list[str]]:
        """Divide the weights, in their order, into groups whose gradients are kept at a time."""
        sizes = {name: n_images * self._own[name].numel() for name in self._names}
        most = max(_ENTRIES, _IMAGES * sum(sizes.values()) // n_images)
        group: list[str] = []
        for name, size in sizes.items():
            if group and sum(sizes[other] for other in group) + size > most:
                yield group
                group = []
            group.append(name)
        yield group


def _gradients(total: Tensor, sources: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of a sum; zeros for what it does not depend on."""
    # It may depend on none of them, which PyTorch takes for an error.
    if not total.requires_grad:
        return [torch.zeros_like(source) for source in sources]
    gradients = torch.autograd.grad(total, sources, allow_unused=True)
    return [
        torch.zeros_like(source) if gradient is None else gradient
        for source, gradient in zip(sources, gradients, strict=True)
    ]


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def _signs(seed: int, block: int, like: Tensor) -> Tensor:
    """Draw random signs that depend on the seed, the number of the block and the shape alone."""
    generator = generator_of(seed, f"signs.{block}")
    drawn = torch.randint(2, like.shape, generator=generator)
    return drawn.to(like.device, like.dtype).mul_(2).sub_(1)
