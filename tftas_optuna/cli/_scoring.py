"""Scores what a name stands for: an exported file, a published architecture, a timm model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
from timm.utils import random_seed

from tftas_optuna.architecture import read_architecture, read_yaml
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.indicators import Scorer, explain_model
from tftas_optuna.indicators.model import count_macs, input_shape, inspect_model
from tftas_optuna.models import build_model
from tftas_optuna.spaces import published_architectures, space_from_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from tftas_optuna.indicators import LayerScore

_CLASSES = 1000


class Scored(NamedTuple):
    """A scored network.

    Attributes:
        row: Its score, its costs, and what they were taken for.
        layers: What each layer adds to the score; empty unless asked for.
        left_out: Why a weight does not count, by name; empty unless asked for.
    """

    row: dict[str, Any]
    layers: list[LayerScore]
    left_out: dict[str, str]


def check_names(names: Sequence[str]) -> None:
    """Make sure that every name stands for something.

    Raises:
        TftasError: One does not.
    """
    published = published_architectures()
    for name in names:
        if not (_is_file(name) or name in published or timm.is_model(name)):
            raise TftasError(
                f"{name!r} is neither a file, a timm model, nor one of {', '.join(published)}"
            )


def score_by_name(
    name: str,
    seed: int | None,
    img_size: int | None,
    num_classes: int | None,
    device: torch.device,
    *,
    explain: bool = False,
) -> Scored:
    """Score one network and count its costs; None means the network's own setting."""
    published = published_architectures()
    if _is_file(name):
        arch, own = read_architecture(name)
        search = read_yaml(name).get("search")
    elif name in published:
        arch, own, search = published[name], {}, None
    else:
        model = _timm_model(name, seed or 0, img_size, num_classes).to(device)
        n_params = sum(parameter.numel() for parameter in model.parameters())
        macs = count_macs(model, img_size=img_size)
        return _score_fresh(name, model, seed, img_size, explain, n_params=n_params, macs=macs)
    sizes: dict[str, Any] = {
        "img_size": img_size or own.get("img_size", 224),
        "num_classes": num_classes or own.get("num_classes", _CLASSES),
    }
    in_chans = own.get("in_chans", 3)
    costs = arch.costs(**sizes, in_chans=in_chans)._asdict()
    if search is None:
        random_seed(seed or 0)
        model = build_model(arch, **sizes, in_chans=in_chans).to(device)
        return _score_fresh(name, model, seed, sizes["img_size"], explain, **costs)
    scorer = _scorer_of(name, search, seed, device, sizes)
    weights = f"{scorer.space.name} supernet, seed {scorer.seed}"
    row = {"name": name, "dss": scorer(arch), **costs, **sizes, "weights": weights}
    return Scored(row, scorer.explain(arch) if explain else [], {})


def _is_file(name: str) -> bool:
    return Path(name).is_file() or Path(name).suffix in (".yaml", ".yml", ".json")


def _scorer_of(
    name: str, search: Any, seed: int | None, device: torch.device, sizes: dict[str, Any]
) -> Scorer:
    try:
        space = space_from_dict(search["space"])
        own_seed, head_weight = int(search["seed"]), float(search["head_weight"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnavailableError(f"{name}: its search section is damaged ({error})") from error
    return Scorer(
        space,
        seed=own_seed if seed is None else seed,
        head_weight=head_weight,
        device=device,
        **sizes,
    )


def _timm_model(name: str, seed: int, img_size: int | None, num_classes: int | None) -> nn.Module:
    """Build a timm model with fresh weights; one without a classifier gets one."""
    if num_classes is None and not timm.get_pretrained_cfg_value(name, "num_classes"):
        num_classes = _CLASSES
    wanted = {"img_size": img_size, "num_classes": num_classes}
    given: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    while True:
        random_seed(seed)
        try:
            model: nn.Module = timm.create_model(name, **given)
            return model
        except (TypeError, AssertionError, ValueError) as error:
            # Many networks take images of any size and no argument for it.
            if "img_size" not in str(error) or given.pop("img_size", None) is None:
                raise TftasError(f"timm model {name} cannot be built so: {error}") from error


def _score_fresh(
    name: str,
    model: nn.Module,
    seed: int | None,
    img_size: int | None,
    explain: bool,
    **costs: int,
) -> Scored:
    layers = explain_model(model, img_size=img_size)
    row = {
        "name": name,
        "dss": math.fsum(layer.value for layer in layers),
        **costs,
        "img_size": input_shape(model, img_size)[1],
        "num_classes": getattr(model, "num_classes", _CLASSES),
        "weights": f"fresh, seed {seed or 0}",
    }
    if not explain:
        return Scored(row, [], {})
    return Scored(row, layers, inspect_model(model, img_size=img_size).left_out)
