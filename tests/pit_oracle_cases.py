"""Ground truth for PiT networks; see :mod:`oracle_cases`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import oracle_cases
import torch
from torch import Tensor

from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.supernet.pit import PiTSupernet

CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "oracle" / "pit.json").read_text()
)


def layer_name(reference: str) -> str:
    """Turn the reference's name of a layer or a parameter into timm's."""
    if not reference.startswith("pools."):
        return reference
    _, stage, rest = reference.split(".", 2)
    return f"transformers.{int(stage) + 1}.pool.{rest}"


def weights(case: dict[str, Any]) -> dict[str, Tensor]:
    """Draw the signed weights of the case, in float64, by timm's names."""
    return {layer_name(name): weight for name, weight in oracle_cases.weights(case).items()}


def architecture(case: dict[str, Any]) -> PiTArchitecture:
    kwargs = case["kwargs"]
    (base_dim,) = set(kwargs["base_dims"])
    return PiTArchitecture(
        base_dim,
        tuple(kwargs["depth"]),
        tuple(kwargs["heads"]),
        kwargs["mlp_ratio"],
        patch_size=kwargs["patch_size"],
        stride=kwargs["stride"],
    )


def supernet(case: dict[str, Any], dtype: torch.dtype = torch.float64) -> PiTSupernet:
    return PiTSupernet(
        architecture(case),
        img_size=case["kwargs"]["image_size"],
        num_classes=case["kwargs"]["num_classes"],
        state_dict=weights(case),
        dtype=dtype,
    )
