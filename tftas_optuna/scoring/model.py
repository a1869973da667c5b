"""Scoring of any Vision Transformer that is a plain PyTorch module."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tftas_optuna.devices import layer_macs, limit_threads, threads_for
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import get_indicator
from tftas_optuna.passes.networks import View, input_shape
from tftas_optuna.passes.running import evaluating
from tftas_optuna.scoring.conditions import DEFAULT_N_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from tftas_optuna.metrics import Indicator
    from tftas_optuna.passes.images import Images
    from tftas_optuna.passes.layers import LayerScore


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

    The network is not changed: the passes run in eval mode, on copies of its weights where the
    indicator needs absolute values. Which layers count, and in which role, follows from the
    structure of the network; see :mod:`tftas_optuna.passes.structure`.

    Args:
        model: Any timm Vision Transformer, or a module built like one, with
            ``get_classifier()`` or ``head`` for its classifier.
        indicator: Name of the indicator, or the indicator itself.
        img_size: Height and width of the input, in pixels; by default the model's own.
        n_images: Images in one batch, for indicators that see noise.
        seed: Seed of the noise.
        images: Images to use in place of noise.
        **options: Options of the indicator, such as ``head_weight`` of DSS.

    Raises:
        TftasError: The indicator or an option does not exist, or the model cannot be scored: it
            has no attention, no classifier, or its gradients vanish or overflow.
    """
    chosen = _with_options(indicator, options)
    view = View(input_shape(model, img_size), n_images, seed, images)
    with _ready_for_passes(model, chosen, view):
        return chosen.score_network(model, view)


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
        TftasError: As for :func:`score_model`, or the indicator is not a sum over layers.
    """
    chosen = _with_options(indicator, options)
    view = View(input_shape(model, img_size), n_images, seed, images)
    with _ready_for_passes(model, chosen, view):
        return chosen.explain_network(model, view)


def _with_options(indicator: str | Indicator, options: dict[str, Any]) -> Indicator:
    if isinstance(indicator, str):
        indicator = get_indicator(indicator)
    return indicator.with_options(**options)


@contextlib.contextmanager
def _ready_for_passes(model: nn.Module, indicator: Indicator, view: View) -> Iterator[None]:
    """Hold a network in eval mode, with a number of threads that suits its size.

    Raises:
        TftasError: There are too few images.
    """
    if indicator.batches and view.images is None and view.per_batch < 2:
        raise TftasError(f"n_images is {view.per_batch}, allowed is 2 or more")
    device = next(model.parameters()).device
    with contextlib.ExitStack() as stack:
        if device.type == "cpu":
            with limit_threads(1):
                macs = layer_macs(model, view.shape) * (view.per_batch if indicator.batches else 1)
            stack.enter_context(limit_threads(threads_for(macs, device)))
        stack.enter_context(evaluating(model))
        yield
