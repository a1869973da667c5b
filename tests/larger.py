"""Small networks of timm with weights that are all different, in directories, and their spaces."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from tftas_optuna import AutoFormerSpace, PiTSpace

VIT = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "mlp_ratio": 3.0}
PIT = {"base_dims": [8, 8], "depth": [3, 2], "heads": [2, 4], "patch_size": 8, "stride": 8}
SIZES = {"img_size": 32, "num_classes": 5}


def randomise(model: nn.Module) -> nn.Module:
    """Draw every weight, so that none is zero or one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weight.normal_(around, 0.2, generator=generator)
    return model.eval()


def keep(model: nn.Module, folder: Path, arguments: dict[str, object]) -> str:
    save_for_hf(model, folder, model_args={**arguments, "img_size": 32})
    return f"timm:local-dir:{folder}"


def vision_transformer() -> nn.Module:
    return randomise(timm.create_model("vit_tiny_patch16_224", **VIT, **SIZES))


def pooling_transformer() -> nn.Module:
    return randomise(timm.create_model("pit_ti_224", **PIT, **SIZES))


SPACE = AutoFormerSpace.from_dict(
    {
        "name": "around",
        "family": "autoformer",
        **SIZES,
        "patch_size": 8,
        "head_dim": 16,
        "relative_position": False,
        "global_pool": "token",
        "layer_norm_eps": 1e-6,
        "embed_dim": [32, 64],
        "depth": [2, 3, 4],
        "num_heads": [1, 2, 4],
        "mlp_ratio": [1, 3],
    }
)
PIT_SPACE = PiTSpace.from_dict(
    {
        "name": "pits",
        "family": "pit",
        **SIZES,
        "patch_size": 8,
        "stride": 8,
        "base_dim": [8],
        "depth": [[1, 2, 3], [1, 2]],
        "num_heads": [[1, 2], [2, 4]],
        "mlp_ratio": [1, 4],
    }
)
