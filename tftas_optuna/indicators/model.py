"""Scores any Vision Transformer as a plain module, by gradients of its weights."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tftas_optuna.devices import layer_macs, limit_threads, threads_for
from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.base import Layer, LayerIndicator, LayerScore, Norms, checked
from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.indicators.function import score_network
from tftas_optuna.indicators.gradient import DenseGradient
from tftas_optuna.indicators.images import DEFAULT_N_IMAGES, Images, noise
from tftas_optuna.indicators.network import rows_of
from tftas_optuna.indicators.recording import record
from tftas_optuna.indicators.running import evaluating, run_with
from tftas_optuna.indicators.structure import Structure, read_structure
from tftas_optuna.indicators.tally import NetworkIndicator, Tally
from tftas_optuna.metrics import FunctionIndicator, get_indicator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.metrics import Indicator


def score_model(
    model: nn.Module,
    *,
    indicator: str | Indicator = "dss",
    img_size: int | tuple[int, int] | None = None,
    n_images: int = DEFAULT_N_IMAGES,
    seed: int = 0,
    images: Images | None = None,
    **options: Any,
) -> float:
    """Score a stand-alone network with the weights it has.

    The network is not changed: its weights, absolute ones where the indicator wants them, are
    lent to it for the passes, in eval mode. What of it counts, and as what, is told by its
    structure: see :mod:`tftas_optuna.indicators.structure`.

    Args:
        model: A timm Vision Transformer of any make, or a module built like one, with
            ``get_classifier()`` or ``head`` for its classifier.
        indicator: Name of the indicator, or the indicator itself.
        img_size: Height and width of the input, in pixels; by default the model's own.
        n_images: Images of one batch, for indicators that see noise.
        seed: Seed of the noise.
        images: What to see in place of noise.
        **options: Options of the indicator, such as ``head_weight`` of DSS.

    Raises:
        TftasError: The indicator or an option does not exist, or the model cannot be scored: it
            has no attention, no classifier, or its gradients vanish or overflow.
    """
    wanted = _wanted(indicator, options)
    if isinstance(wanted, FunctionIndicator):
        with _threads(model, img_size), evaluating(model):
            return score_network(wanted, model, input_shape(model, img_size))
    if isinstance(wanted, NetworkIndicator):
        with _threads(model, img_size, n_images):
            tally = _tally(model, wanted, img_size, n_images, seed, images)
            return checked(wanted.name, tally.value())
    return math.fsum(
        row.value for row in explain_model(model, indicator=wanted, img_size=img_size)
    )


def explain_model(
    model: nn.Module,
    *,
    indicator: str | Indicator = "dss",
    img_size: int | tuple[int, int] | None = None,
    n_images: int = DEFAULT_N_IMAGES,
    seed: int = 0,
    images: Images | None = None,
    **options: Any,
) -> list[LayerScore]:
    """Score a network layer by layer; see :func:`score_model`.

    Raises:
        TftasError: As there, or the indicator is no sum over layers.
    """
    wanted = _wanted(indicator, options)
    if isinstance(wanted, NetworkIndicator):
        with _threads(model, img_size, n_images):
            return rows_of(wanted, _tally(model, wanted, img_size, n_images, seed, images))
    if not isinstance(wanted, LayerIndicator):
        raise TftasError(f"indicator {wanted.name!r} is one number, not a sum over layers")
    _check_classifier(model)
    with _threads(model, img_size):
        return _layers(model, wanted, img_size)


def _layers(
    model: nn.Module, wanted: LayerIndicator, img_size: int | tuple[int, int] | None
) -> list[LayerScore]:
    counted = inspect_model(model, img_size=img_size).counted
    names = {piece.parameter for matrix in counted for piece in matrix.pieces}
    with evaluating(model):
        weights, gradients = _gradients(model, names, input_shape(model, img_size))
    rows = []
    norms: Norms = {}
    for matrix in counted:
        whole, gradient = matrix.of(weights), matrix.of(gradients)
        shape = (whole.shape[0], whole.shape[1])
        layer = Layer(
            matrix.name,
            matrix.role,
            [shape],
            lambda *_, whole=whole: whole,
            DenseGradient(gradient),
        )
        rows.append(LayerScore.of(layer, wanted.fold(layer, norms)))
    if not any(row.value for row in rows if row.role == "attention"):
        raise TftasError(
            f"no gradient reaches the attention of {type(model).__name__}: fresh weights of its"
            " classifier or of its normalisation are zeros"
        )
    return rows


def _threads(
    model: nn.Module, img_size: int | tuple[int, int] | None, n_images: int = 1
) -> contextlib.AbstractContextManager[None]:
    """Use as many threads as passes of so many images are worth."""
    device = next(model.parameters()).device
    if device.type != "cpu":
        return contextlib.nullcontext()
    with limit_threads(1):
        macs = layer_macs(model, input_shape(model, img_size)) * n_images
    return limit_threads(threads_for(macs, device))


def _wanted(indicator: str | Indicator, options: dict[str, Any]) -> Indicator:
    found = get_indicator(indicator) if isinstance(indicator, str) else indicator
    if isinstance(found, CompositeIndicator):
        raise TftasError(
            f"indicator {found.name!r} is a candidate's place in a search space, which a single"
            f" network has not; score its parts: {', '.join(found.parts)}"
        )
    return found.with_options(**options)


def _check_classifier(model: nn.Module) -> None:
    if getattr(model, "num_classes", None) == 0:
        raise TftasError(
            f"{type(model).__name__} has no classifier, so there are no logits to add up; build it"
            " with num_classes"
        )


def _tally(
    model: nn.Module,
    wanted: NetworkIndicator,
    img_size: int | tuple[int, int] | None,
    n_images: int,
    seed: int,
    images: Images | None,
) -> Tally:
    """Run the passes that an indicator needs."""
    _check_classifier(model)
    structure = inspect_model(model, img_size=img_size)
    like = next(model.parameters())
    if images is None:
        if n_images < 2:
            raise TftasError(f"n_images is {n_images}, allowed is 2 or more")
        classes = getattr(model, "num_classes", 1000)
        shape = input_shape(model, img_size)
        images = noise(seed, n_images, shape, classes, wanted.needs.batches)
    images = images.to(like.device, like.dtype)
    return record(model, structure, [wanted], images, seed)[0]


def inspect_model(model: nn.Module, *, img_size: int | tuple[int, int] | None = None) -> Structure:
    """Tell which weights of a network count, by its structure and by one pass through it.

    Raises:
        TftasError: It has no attention that is recognised, or does not take such images.
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
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs and not inputs[0].requires_grad:
                blind[name] = "never sees the image"

        return see

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


def _gradients(
    model: nn.Module, names: set[str], shape: tuple[int, int, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return absolute weights and their gradients, by name.

    Batch normalisation with the statistics of an untrained network normalises nothing, and with
    positive weights activations grow from layer to layer. Such networks are computed in float64,
    and only where a change of the image by 1e-9 does not show.
    """
    name_of = type(model).__name__
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
            f"the gradients of {name_of} are not finite, even in float64: it has no"
            " normalisation that works untrained, and grows without bound"
        )
    if batch_norm:
        noise = torch.Generator().manual_seed(0)
        moved = 1 + 1e-9 * torch.randn(images.shape, generator=noise, dtype=torch.float64)
        others = _backward(model, weights, names, moved.to(images.device))
        one, other = (
            math.fsum(float((g[name] * weights[name]).abs().sum()) for name in names)
            for g in (gradients, others)
        )
        if not abs(one - other) <= 1e-4 * abs(one):
            raise TftasError(
                f"rounding decides the gradients of {name_of}: it has no normalisation that"
                " works untrained, and grows without bound"
            )
    return weights, gradients


def _backward(
    model: nn.Module, weights: dict[str, Tensor], names: set[str], images: Tensor
) -> dict[str, Tensor]:
    """Compute gradients of the summed outputs by some weights; zero where there is none."""
    lent = {n: w.detach().requires_grad_() if n in names else w for n, w in weights.items()}
    with torch.enable_grad():
        total = run_with(model, lent, images).sum()
    found: tuple[Tensor | None, ...] = (None,) * len(names)
    if total.requires_grad:
        found = torch.autograd.grad(total, [lent[name] for name in names], allow_unused=True)
    return {
        name: torch.zeros_like(weights[name]) if gradient is None else gradient
        for name, gradient in zip(names, found, strict=True)
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
    # The counter stumbles over parameters that modules hand to each other.
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}
    # Only the plain form of attention is made of products that the counter knows everywhere.
    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run_with(model, fixed, images)
    return int(counter.get_total_flops()) // 2


def input_shape(
    model: nn.Module, img_size: int | tuple[int, int] | None = None
) -> tuple[int, int, int]:
    """Return channels, height and width of a model's images: its own unless given."""
    config = getattr(model, "pretrained_cfg", None) or {}
    channels, height, width = config.get("input_size", (3, 224, 224))
    channels = getattr(model, "in_chans", channels)
    own = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if img_size is None and own is not None:
        height, width = own
    elif isinstance(img_size, int):
        height = width = img_size
    elif img_size is not None:
        height, width = img_size
    return channels, height, width
