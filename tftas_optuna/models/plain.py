"""Plain Vision Transformers of timm: opened by name, and the architectures that they are."""

from __future__ import annotations

import contextlib
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
from timm.layers import PatchEmbed
from timm.models import get_pretrained_cfg
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from tftas_optuna._given import LOCAL
from tftas_optuna._reading import reading
from tftas_optuna.architecture import Architecture, AutoFormerArchitecture, PiTArchitecture
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean, first_line
from tftas_optuna.models._build import build_undrawn
from tftas_optuna.models.stock import create_timm
from tftas_optuna.models.undrawn import Undrawn

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADDRESSES = (LOCAL, "hf-hub:", "hf_hub:")


def open_timm(name: str, *, weights: bool = True, **sizes: Any) -> nn.Module:
    """Build a network of timm.

    Args:
        name: Its name, ``NAME.TAG``, ``local-dir:PATH`` or ``hf-hub:ID``.
        weights: Whether to load its pretrained weights; otherwise they are uninitialised.
        **sizes: ``img_size``, ``in_chans``, ``num_classes`` or ``patch_size``, if they are to be
            others than its own; timm resamples the weights.

    Returns:
        The network, in eval mode.

    Raises:
        TftasError: There is no such network, or it has no pretrained weights, or not these sizes.
        UnavailableError: It cannot be read or downloaded, or contradicts itself.
    """
    address = name.startswith(_ADDRESSES)
    if not address and not timm.is_model(name):
        raise TftasError(
            f"timm has no network {name!r}{did_you_mean(name, timm.list_models(), most=0)}"
        )
    if weights and not address and not _has_weights(name):
        raise TftasError(
            f"timm has no pretrained weights of {name!r}; give another network, or local-dir:PATH"
        )
    with building(name), contextlib.ExitStack() as opened:
        if address:
            # What is in a directory may be anything.
            local = Path(name.removeprefix(LOCAL)) if name.startswith(LOCAL) else None
            opened.enter_context(
                reading(local, lambda reason: f"{name} cannot be loaded: {reason}")
            )
        if not weights:
            opened.enter_context(Undrawn())
        network: Any = create_timm(name, pretrained=weights, **sizes).eval()
    described = network.pretrained_cfg.get("num_classes")
    if "num_classes" not in sizes and described != network.num_classes > 0:
        # timm would draw the classifier, another one each time.
        raise UnavailableError(
            f"{name} has {network.num_classes} classes, and is described as having {described};"
            " write the right number into its config.json"
        )
    return cast("nn.Module", network)


def _has_weights(name: str) -> bool:
    cfg = get_pretrained_cfg(name)
    return cfg is not None and bool(cfg.has_weights)


@contextlib.contextmanager
def building(name: str) -> Iterator[None]:
    """Turn the errors of timm into one line, while a network is built.

    The Hugging Face Hub does not log its ten attempts; the error says that they failed.

    Args:
        name: What the network is called.

    Raises:
        TftasError: It cannot be built so.
        UnavailableError: It cannot be read or downloaded.
    """
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except TftasError:
        raise
    except (TypeError, AssertionError, ValueError) as error:
        raise TftasError(f"{name} cannot be built: {first_line(error)}") from error
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"{name}: {first_line(error)}") from error
    finally:
        logger.setLevel(before)


def plain_architecture(network: nn.Module) -> Architecture:
    """Return the architecture of a plain Vision Transformer of timm.

    Plain are ``VisionTransformer`` (``vit_*``, ``deit_*``) and ``PoolingVisionTransformer``
    (``pit_*``) as in their papers: with a class token, learned absolute positions and biases, and
    without register tokens, layer scale, further norms or another activation than GELU.

    Args:
        network: A network of timm.

    Returns:
        An architecture whose network has weights of the same names and shapes, and computes the
        same with them. Its heads have a ``head_dim``.

    Raises:
        TftasError: It is another network; the message says what it has that plain ones have not.
    """
    model = cast("Any", network)
    name = getattr(model, "pretrained_cfg", {}).get("architecture") or type(model).__name__
    try:
        found = _read(model)
        expected = build_undrawn(
            found,
            img_size=model.patch_embed.img_size[0],
            num_classes=model.num_classes,
            in_chans=model.in_chans,
        )
        _compare(network, expected)
    except _NotPlainError as error:
        raise TftasError(
            f"{name} is no plain Vision Transformer of timm: {error}; give a vit_*, deit_* or"
            " pit_* that is"
        ) from None
    return found


class _NotPlainError(Exception):
    """A network has something that plain ones have not."""


def _read(network: Any) -> Architecture:
    kind = type(network)
    if kind is VisionTransformer:
        return _read_vit(network)
    if kind is PoolingVisionTransformer:
        return _read_pit(network)
    raise _NotPlainError(f"it is a {kind.__name__}")


def _read_vit(network: Any) -> AutoFormerArchitecture:
    blocks, embed = network.blocks, network.patch_embed
    if not len(blocks):
        raise _NotPlainError("it has no blocks")
    for what, has in (
        ("blocks of another kind", any(type(block) is not Block for block in blocks)),
        ("another patch embedding", type(embed) is not PatchEmbed),
        ("no class token", network.cls_token is None),
        ("register tokens", network.reg_token is not None),
        ("no absolute positions", network.pos_embed is None),
        ("no position of the class token", network.no_embed_class),
        ("patches that are not square", len(set(embed.patch_size)) > 1),
        (f"global_pool {network.global_pool!r}", network.global_pool not in ("avg", "token")),
        ("its class token pooled with the patches", network.pool_include_prefix),
        ("a norm after pooling", not isinstance(network.fc_norm, nn.Identity)),
        ("no MLP of two layers", not hasattr(blocks[0].mlp, "fc1")),
    ):
        if has:
            raise _NotPlainError(f"it has {what}")
    width, depth, attention = network.embed_dim, len(blocks), blocks[0].attn
    return AutoFormerArchitecture(
        width,
        num_heads=(attention.num_heads,) * depth,
        mlp_ratio=(_ratio(blocks[0].mlp.fc1.out_features, width),) * depth,
        head_dim=attention.head_dim,
        patch_size=embed.patch_size[0],
        relative_position=False,
        global_pool=network.global_pool,
        layer_norm_eps=blocks[0].norm1.eps,
    )


def _read_pit(network: Any) -> PiTArchitecture:
    stages, conv = network.transformers, network.patch_embed.conv
    if network.num_tokens > 1:
        raise _NotPlainError("it has a distillation token")
    if len(set(network.base_dims)) > 1:
        raise _NotPlainError("its stages have heads of different widths")
    if not all(len(stage.blocks) for stage in stages):
        raise _NotPlainError("it has a stage without blocks")
    block = stages[0].blocks[0]
    return PiTArchitecture(
        network.base_dims[0],
        depth=tuple(len(stage.blocks) for stage in stages),
        num_heads=tuple(network.heads),
        mlp_ratio=_ratio(block.mlp.fc1.out_features, block.mlp.fc1.in_features),
        patch_size=conv.kernel_size[0],
        stride=conv.stride[0],
    )


def _ratio(hidden_dim: int, width: int) -> float:
    """Return the MLP ratio that gives a hidden width, which is rounded down."""
    ratio = hidden_dim / width
    return ratio if int(width * ratio) == hidden_dim else math.nextafter(ratio, math.inf)


def _compare(network: nn.Module, expected: nn.Module) -> None:
    """Check that two networks have the same weights, and what has no weights."""
    own, plain = network.state_dict(), expected.state_dict()
    for name in sorted(own.keys() | plain.keys()):
        if name not in plain:
            raise _NotPlainError(f"it has {name}")
        if name not in own:
            raise _NotPlainError(f"it has no {name}")
        if own[name].shape != plain[name].shape:
            raise _NotPlainError(
                f"its {name} is {tuple(own[name].shape)}, not {tuple(plain[name].shape)}"
            )
    other = dict(expected.named_modules())
    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm) and module.eps != other[name].eps:
            raise _NotPlainError(f"{name} has an epsilon of {module.eps:g}")
        if name.endswith(".act") and repr(module) != repr(other[name]):
            raise _NotPlainError(f"{name} is {module!r}")
