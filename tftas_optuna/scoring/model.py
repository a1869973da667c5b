"""Scoring of any Vision Transformer that is a plain PyTorch module."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeAlias

import timm
import torch
from torch import nn

from tftas_optuna._given import expect, listed, whole
from tftas_optuna.devices import layer_macs, limit_threads, threads_for
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import get_indicator
from tftas_optuna.models.stock import create_timm
from tftas_optuna.passes.images import Images
from tftas_optuna.passes.networks import View, input_shape
from tftas_optuna.passes.running import evaluating
from tftas_optuna.scoring.conditions import DEFAULT_N_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tftas_optuna.metrics import Indicator
    from tftas_optuna.passes.layers import LayerScore

_CLASSES = 1000
_WHAT = "a network or the name of a timm model; a Scorer scores architectures and candidates"
ImageSize: TypeAlias = int | tuple[int, int]


def score_model(
    model: nn.Module | str,
    *,
    indicator: str | Indicator = "dss",
    img_size: ImageSize | None = None,
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
            ``get_classifier()`` or ``head`` for its classifier. Or the name of a timm model, whose
            weights are then drawn from the seed.
        indicator: Name of the indicator, or the indicator itself.
        img_size: Height and width of the input, in pixels; by default the model's own.
        n_images: Images in one batch, for indicators that see noise.
        seed: Seed of the noise, and of the weights of a model given by its name.
        images: Images to use in place of noise.
        **options: Options of the indicator, such as ``head_weight`` of DSS.

    Raises:
        TftasError: The indicator, an option or the timm model does not exist, or the model cannot
            be scored: it has no attention, no classifier, or its gradients vanish or overflow.

    Example:
        >>> from tftas_optuna import score_model
        >>> score = score_model("vit_tiny_patch16_224")
    """
    chosen = get_indicator(indicator).with_options(**options)
    model, view = _opened(model, img_size, n_images, seed, images)
    with _ready_for_passes(model, chosen, view):
        return chosen.score_network(model, view)


def explain_model(
    model: nn.Module | str,
    *,
    indicator: str | Indicator = "dss",
    img_size: ImageSize | None = None,
    n_images: int = DEFAULT_N_IMAGES,
    seed: int = 0,
    images: Images | None = None,
    **options: Any,
) -> list[LayerScore]:
    """Score a network layer by layer; see :func:`score_model`.

    Raises:
        TftasError: As for :func:`score_model`, or the indicator is not a sum over layers.
    """
    chosen = get_indicator(indicator).with_options(**options)
    model, view = _opened(model, img_size, n_images, seed, images)
    with _ready_for_passes(model, chosen, view):
        return chosen.explain_network(model, view)


@limit_threads(1)
def timm_model(
    name: str, *, seed: int = 0, img_size: ImageSize | None = None, num_classes: int | None = None
) -> nn.Module:
    """Build a timm model with weights from a seed, and a classifier even if it has none.

    Args:
        name: Name of the model.
        seed: Seed of the weights.
        img_size: Height and width of the input, in pixels; by default the model's own.
        num_classes: Outputs of the classifier; by default the model's own, or 1000.

    Raises:
        TftasError: There is no such model, or it cannot be built.
    """
    if not timm.is_model(name):
        raise TftasError(f"timm has no model {name!r}; timm.list_models('*vit*') lists its own")
    if num_classes is None and not timm.get_pretrained_cfg_value(name, "num_classes"):
        num_classes = _CLASSES
    classes = {} if num_classes is None else {"num_classes": num_classes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return create_timm(name, img_size=img_size, **classes)
        except (TypeError, AssertionError, ValueError) as error:
            raise TftasError(f"timm model {name} cannot be built: {error}") from error


def _opened(
    model: nn.Module | str,
    img_size: ImageSize | None,
    n_images: int,
    seed: int,
    images: Images | None,
) -> tuple[nn.Module, View]:
    """Return a network with the images that it sees, after a check of the arguments."""
    seed, n_images = whole("seed", seed, 0), whole("n_images", n_images)
    for size in () if img_size is None else listed(img_size):
        whole("img_size", size)
    if images is not None:
        expect("images", images, Images, "tftas_optuna.passes.images.Images")
    if isinstance(model, str):
        model = timm_model(model, seed=seed, img_size=img_size)
    expect("model", model, nn.Module, _WHAT)
    if next(model.parameters(), None) is None:
        raise TftasError(f"{type(model).__name__} has no weights to score; give {_WHAT}")
    return model, View(input_shape(model, img_size), n_images, seed, images)


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
