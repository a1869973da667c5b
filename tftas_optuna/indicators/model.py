"""Scores any Vision Transformer as a plain module, by gradients of its weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators._registry import make_indicator
from tftas_optuna.indicators.dss import layer_score
from tftas_optuna.indicators.gradient import DenseGradient

if TYPE_CHECKING:
    from tftas_optuna.indicators.dss import LayerScore
    from tftas_optuna.supernet.trace import Role


def score_model(
    model: nn.Module,
    *,
    indicator: str = "dss",
    img_size: int | tuple[int, int] | None = None,
    head_weight: float = 1.0,
) -> float:
    """Score a stand-alone network with the weights it has.

    The network is not changed: absolute weights are lent to it for one pass, in eval mode.

    Args:
        model: A timm Vision Transformer, or a module built like one: attention modules hold
            linear layers ``qkv`` and ``proj``; other linear layers outside the patch embedding
            count as MLP; ``get_classifier()`` or ``head`` is the classifier.
        indicator: Name of the indicator.
        img_size: Height and width of the all-ones input, in pixels; by default the model's own.
        head_weight: Factor of the classifier; see :class:`tftas_optuna.indicators.dss.DSS`.

    Raises:
        TftasError: The indicator does not exist, or the model has no attention to score.
    """
    rows = explain_model(model, indicator=indicator, img_size=img_size, head_weight=head_weight)
    return math.fsum(row.value for row in rows)


def explain_model(
    model: nn.Module,
    *,
    indicator: str = "dss",
    img_size: int | tuple[int, int] | None = None,
    head_weight: float = 1.0,
) -> list[LayerScore]:
    """Score a network layer by layer; see :func:`score_model`."""
    scored = make_indicator(indicator, head_weight=head_weight)
    roles = _counted_layers(model)
    absolute = {
        name: parameter.detach().abs().requires_grad_(name in roles)
        for name, parameter in model.named_parameters()
    }
    counted = {name: absolute[name] for name in roles}
    like = next(iter(absolute.values()))
    ones = torch.ones(1, *input_shape(model, img_size), dtype=like.dtype, device=like.device)
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            logits = torch.func.functional_call(model, absolute, (ones,))
            gradients = torch.autograd.grad(logits.sum(), list(counted.values()))
    finally:
        model.train(was_training)
    rows = []
    for (name, weight), gradient in zip(counted.items(), gradients, strict=True):
        shape = (weight.shape[0], weight.shape[1])
        layer, role = name.removesuffix(".weight"), roles[name]
        whole = weight.detach()
        terms = scored.layer(
            layer, role, [shape], lambda *_, whole=whole: whole, DenseGradient(gradient)
        )
        rows.append(layer_score(layer, role, shape, terms))
    return rows


def _counted_layers(model: nn.Module) -> dict[str, Role]:
    """Weights that count and what they do, by parameter name, in the order of the modules."""
    attention: set[nn.Module] = set()
    for module in model.modules():
        children = dict(module.named_children())
        if all(isinstance(children.get(name), nn.Linear) for name in ("qkv", "proj")):
            attention.update((children["qkv"], children["proj"]))
    if not attention:
        raise TftasError(
            f"{type(model).__name__} has no attention with linear layers qkv and proj: nothing"
            " to score"
        )
    get_classifier = getattr(model, "get_classifier", None)
    head = get_classifier() if callable(get_classifier) else getattr(model, "head", None)
    stem = getattr(model, "patch_embed", None)
    skipped = set(stem.modules()) if isinstance(stem, nn.Module) else set()
    roles: dict[str, Role] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module not in skipped:
            if module in attention:
                roles[f"{name}.weight"] = "attention"
            else:
                roles[f"{name}.weight"] = "head" if module is head else "mlp"
    return roles


def count_macs(model: nn.Module, *, img_size: int | tuple[int, int] | None = None) -> int:
    """Count the multiply-accumulates of one image with torch's FLOP counter.

    Args:
        model: Any module that takes images.
        img_size: Height and width of the input, in pixels; by default the model's own.
    """
    like = next(model.parameters())
    image = torch.zeros(1, *input_shape(model, img_size), dtype=like.dtype, device=like.device)
    # The counter trips over views of parameters that require gradients.
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    was_training = model.training
    model.eval()
    try:
        # Only the plain form of attention is made of products that the counter knows everywhere.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as c:
            torch.func.functional_call(model, weights, (image,))
    finally:
        model.train(was_training)
    return int(c.get_total_flops()) // 2


def input_shape(
    model: nn.Module, img_size: int | tuple[int, int] | None = None
) -> tuple[int, int, int]:
    """Channels, height and width of the images a model takes, its own unless given."""
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
