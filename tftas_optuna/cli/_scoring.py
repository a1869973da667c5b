"""Scores what a name stands for: an exported file, a published architecture, a timm model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from timm.utils import random_seed

from tftas_optuna.architecture import read_architecture, read_yaml
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.indicators import Scorer, score_model
from tftas_optuna.indicators.model import count_macs, input_shape
from tftas_optuna.models import build_model
from tftas_optuna.spaces import published_architectures, space_from_dict

if TYPE_CHECKING:
    import torch


def score_by_name(
    name: str,
    seed: int | None,
    img_size: int | None,
    num_classes: int | None,
    device: torch.device,
) -> dict[str, Any]:
    """Score one network and count its costs; None means the network's own setting."""
    published = published_architectures()
    if Path(name).is_file() or Path(name).suffix in (".yaml", ".yml", ".json"):
        arch, model = read_architecture(name)
        search = read_yaml(name).get("search")
    elif name in published:
        arch, model, search = published[name], {}, None
    else:
        return _score_timm(name, seed or 0, img_size, num_classes, device)
    sizes: dict[str, Any] = {
        "img_size": img_size or model.get("img_size", 224),
        "num_classes": num_classes or model.get("num_classes", 1000),
    }
    in_chans = model.get("in_chans", 3)
    if search is None:
        random_seed(seed or 0)
        dss = score_model(build_model(arch, **sizes, in_chans=in_chans).to(device))
        weights = f"fresh, seed {seed or 0}"
    else:
        scorer = _scorer_of(name, search, seed, device, sizes)
        dss, weights = scorer(arch), f"{scorer.space.name} supernet, seed {scorer.seed}"
    costs = arch.costs(**sizes, in_chans=in_chans)
    return _row(name, dss, costs.n_params, costs.macs, sizes["img_size"], weights)


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


def _score_timm(
    name: str, seed: int, img_size: int | None, num_classes: int | None, device: torch.device
) -> dict[str, Any]:
    if not timm.is_model(name):
        raise TftasError(
            f"{name!r} is neither a file, a timm model, nor one of"
            f" {', '.join(published_architectures())}"
        )
    given: dict[str, Any] = {"img_size": img_size, "num_classes": num_classes}
    random_seed(seed)
    try:
        model = timm.create_model(
            name, **{key: value for key, value in given.items() if value is not None}
        ).to(device)
    except TypeError as error:
        raise TftasError(f"timm model {name} cannot be built so: {error}") from error
    return _row(
        name,
        score_model(model, img_size=img_size),
        sum(parameter.numel() for parameter in model.parameters()),
        count_macs(model, img_size=img_size),
        input_shape(model, img_size)[1],
        f"fresh, seed {seed}",
    )


def _row(
    name: str, dss: float, n_params: int, macs: int, img_size: int, weights: str
) -> dict[str, Any]:
    return {
        "name": name,
        "dss": dss,
        "n_params": n_params,
        "macs": macs,
        "img_size": img_size,
        "weights": weights,
    }
