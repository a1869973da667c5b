"""Ground truth for the indicator: tiny networks whose weights follow a recipe.

The values come from the widespread repaired reference code in float64. Every parameter is drawn
from a generator seeded with the CRC-32 of its name.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.supernet.autoformer import AutoFormerSupernet

FILES = ("autoformer_head_dim_16.json", "autoformer_head_dim_64.json")
CASES: dict[str, dict[str, Any]] = {
    name: case
    for file in FILES
    for name, case in json.loads((Path(__file__).parent / "oracle" / file).read_text()).items()
}


def weights(case: dict[str, Any]) -> dict[str, Tensor]:
    """Draw the signed weights of the case's supernet, in float64."""
    # LayerNorm weights are around 1 in the strong cases only.
    scale = {"plain": 0.02, "strong": 0.2}[case["weights"]]
    drawn = {}
    for name, entry in case["parameters"].items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        weight = scale * torch.randn(entry["shape"], generator=generator, dtype=torch.float64)
        if case["weights"] == "strong" and "norm" in name and name.endswith("weight"):
            weight += 1
        first = torch.tensor(entry["first3"], dtype=torch.float64)
        torch.testing.assert_close(weight.flatten()[:3], first, rtol=1e-9, atol=1e-9)
        drawn[name] = weight
    return drawn


def architectures(
    case: dict[str, Any],
) -> tuple[AutoFormerArchitecture, AutoFormerArchitecture]:
    """Return the supernet's and the candidate's architecture."""
    kwargs, candidate = case["model_kwargs"], case["candidate"]
    shared = dict(
        head_dim=kwargs["embed_dim"] // kwargs["num_heads"],
        patch_size=kwargs["patch_size"],
        relative_position=kwargs["relative_position"],
        max_relative_position=kwargs["max_relative_position"],
        abs_pos=kwargs["abs_pos"],
        global_pool="avg" if kwargs["gp"] else "token",
    )
    largest = AutoFormerArchitecture(
        kwargs["embed_dim"],
        (kwargs["num_heads"],) * kwargs["depth"],
        (kwargs["mlp_ratio"],) * kwargs["depth"],
        **shared,
    )
    arch = AutoFormerArchitecture(
        candidate["embed_dim"][0],
        tuple(candidate["num_heads"]),
        tuple(candidate["mlp_ratio"]),
        **shared,
    )
    return largest, arch


def supernet(case: dict[str, Any], dtype: torch.dtype = torch.float64) -> AutoFormerSupernet:
    """Load the case's weights into a supernet."""
    largest, _ = architectures(case)
    return AutoFormerSupernet(
        largest,
        img_size=case["model_kwargs"]["img_size"],
        num_classes=case["model_kwargs"]["num_classes"],
        state_dict=weights(case),
        dtype=dtype,
    )
