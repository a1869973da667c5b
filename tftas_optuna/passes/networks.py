"""Passes through stand-alone networks of any kind, and the weights that count in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tftas_optuna.errors import TftasError
from tftas_optuna.passes.images import noise
from tftas_optuna.passes.running import evaluating, run_with
from tftas_optuna.passes.structure import Structure, read_structure

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.passes.images import Images


class View(NamedTuple):
    """The images that a stand-alone network sees.

    Attributes:
        shape: Channels, height and width of the images.
        per_batch: Images in one batch of noise.
        seed: Seed of the noise.
        images: Images to use in place of noise.
    """

    shape: tuple[int, int, int]
    per_batch: int
    seed: int = 0
    images: Images | None = None

    def images_for(self, model: nn.Module, batches: int) -> Images:
        """Return batches of images, on the device and in the type of a network."""
        like = next(model.parameters())
        images = self.images
        if images is None:
            classes = getattr(model, "num_classes", 1000)
            images = noise(self.seed, self.per_batch, self.shape, classes, batches)
        return images.to(like.device, like.dtype)


def check_classifier(model: nn.Module) -> None:
    """Check that a network has a classifier.

    Raises:
        TftasError: It has none.
    """
    if getattr(model, "num_classes", None) == 0:
        raise TftasError(
            f"{type(model).__name__} has no classifier, so there are no logits to add up; build it"
            " with num_classes"
        )


def inspect_model(model: nn.Module, *, img_size: int | tuple[int, int] | None = None) -> Structure:
    """Find the weights of a network that count, from its structure and one pass through it.

    Raises:
        TftasError: The network has no recognised attention, or does not take such images.
    """
    structure = read_structure(model)
    layers = {
        piece.parameter.removesuffix(".weight"): piece.parameter
        for matrix in structure.counted
        if matrix.role == "mlp"
        for piece in matrix.pieces
    }
    blind: dict[str, str] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def check(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # Only the image requires gradients, so they mark all that depends on it.
            if inputs and not inputs[0].requires_grad:
                blind[name] = "never sees the image"

        return check

    modules = dict(model.named_modules())
    hooks = [
        modules[layer].register_forward_pre_hook(watch(name)) for layer, name in layers.items()
    ]
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}
    shape = input_shape(model, img_size)
    try:
        with evaluating(model), torch.enable_grad():
            run_with(model, fixed, _ones(model, shape).requires_grad_() * 1)
    except (torch.OutOfMemoryError, TftasError):
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TftasError(
            f"{type(model).__name__} does not take an image of {' x '.join(map(str, shape))}:"
            f" {reason}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    kept = [matrix for matrix in structure.counted if matrix.pieces[0].parameter not in blind]
    return Structure(kept, {**structure.left_out, **blind}, structure.blocks)


def ones_gradients(
    model: nn.Module, names: set[str], shape: tuple[int, int, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return absolute weights and their gradients for one image of ones, by name.

    Batch normalisation with the statistics of an untrained network normalises nothing, so with
    positive weights the activations grow from layer to layer. Such networks are computed in
    float64, and refused if a relative change of the image by 1e-9 changes the result.

    Args:
        model: The network.
        names: The weights to take gradients by.
        shape: Channels, height and width of the image.

    Raises:
        TftasError: The gradients are not finite, or rounding errors decide them.
    """
    model_name = type(model).__name__
    batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    own = next(model.parameters()).dtype
    images = _ones(model, shape)
    for dtype in dict.fromkeys((torch.float64,) if batch_norm else (own, torch.float64)):
        weights = {n: p.detach().to(dtype).abs() for n, p in model.named_parameters()}
        gradients = _backward(model, weights, names, images.to(dtype))
        if all(bool(gradient.isfinite().all()) for gradient in gradients.values()):
            break
    else:
        raise TftasError(
            f"the gradients of {model_name} are not finite, even in float64: it has no"
            " normalisation that works untrained, and grows without bound"
        )
    if batch_norm:
        noise = torch.Generator().manual_seed(0)
        moved = 1 + 1e-9 * torch.randn(images.shape, generator=noise, dtype=torch.float64)
        gradients_moved = _backward(model, weights, names, moved.to(images.device))
        total, total_moved = (
            math.fsum(float((g[name] * weights[name]).abs().sum()) for name in names)
            for g in (gradients, gradients_moved)
        )
        if not abs(total - total_moved) <= 1e-4 * abs(total):
            raise TftasError(
                f"rounding decides the gradients of {model_name}: it has no normalisation that"
                " works untrained, and grows without bound"
            )
    return weights, gradients


def _backward(
    model: nn.Module, weights: dict[str, Tensor], names: set[str], images: Tensor
) -> dict[str, Tensor]:
    """Return the gradients of the summed outputs by the named weights; zeros for unused ones."""
    leaves = {n: w.detach().requires_grad_() if n in names else w for n, w in weights.items()}
    with torch.enable_grad():
        total = run_with(model, leaves, images).sum()
    gradients: tuple[Tensor | None, ...] = (None,) * len(names)
    if total.requires_grad:
        gradients = torch.autograd.grad(total, [leaves[name] for name in names], allow_unused=True)
    return {
        name: torch.zeros_like(weights[name]) if gradient is None else gradient
        for name, gradient in zip(names, gradients, strict=True)
    }


def _ones(model: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    like = next(model.parameters())
    return torch.ones(1, *shape, dtype=like.dtype, device=like.device)


def count_macs(model: nn.Module, *, img_size: int | tuple[int, int] | None = None) -> int:
    """Count the multiply-accumulates of one image with torch's FLOP counter.

    Args:
        model: Any module that takes images.
        img_size: Height and width of the input, in pixels; by default the model's own.
    """
    images = torch.zeros_like(_ones(model, input_shape(model, img_size)))
    # The counter fails on parameters that modules share.
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}
    # The counter knows the products of plain attention on every device, but not fused attention.
    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run_with(model, fixed, images)
    return int(counter.get_total_flops()) // 2


def input_shape(
    model: nn.Module, img_size: int | tuple[int, int] | None = None
) -> tuple[int, int, int]:
    """Return channels, height and width of a model's input; the size is its own by default."""
    config = getattr(model, "pretrained_cfg", None) or {}
    channels, height, width = config.get("input_size", (3, 224, 224))
    channels = getattr(model, "in_chans", channels)
    own = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if img_size is None and own is not None:
        height, width = own
    elif isinstance(img_size, int):
        height = width = img_size
    elif img_size is not None:
        if len(img_size) != 2:
            raise TftasError(f"img_size is {img_size}, allowed is one number, or height and width")
        height, width = img_size
    return channels, height, width
