"""DSS of timm networks as the paper words it: slow, in float64, told by the names of parameters.

Shares no code with the package: absolute weights are written into a copy, autograd gives the
gradients of the weights, full singular value decompositions the norms.
"""

from __future__ import annotations

import copy
import re
from typing import NamedTuple

import timm
import torch
from torch import nn

MAKES = r"(?:qkv|qk|kv|q|k|v|q_proj|k_proj|v_proj|wq|wk|wv|query|key|value|to_query|to_key|v_gate"
MAKES += r"|qkv_proj|qkvs)"
CONV = r"(?:\.(?:conv|proj|linear|c|\d+))*"
# Generators of position biases and what cuts the image into patches.
NEVER = r"patch_embed|^stem|^embeds\.|cpb_mlp|rel_pos|pos_proj|meta_mlp|pos_embed"


class Case(NamedTuple):
    """How one timm model is checked.

    Attributes:
        img_size: Height and width of the image.
        conv: Which 1x1 convolutions count, besides linear layers.
        built: Whether the image size is an argument of the model.
    """

    img_size: int
    conv: str = "(?!)"
    built: bool = True


CASES = {
    "beit_base_patch16_224": Case(64),
    "beit3_base_patch16_224": Case(64),
    "cait_xxs24_224": Case(64),
    "caformer_s18": Case(64, built=False),
    "coat_lite_tiny": Case(64),
    "coat_tiny": Case(64),
    "coatnet_nano_rw_224": Case(64, r"^stages\.[23]\.blocks\.\d+\.(attn|mlp|shortcut)"),
    "coatnet_rmlp_nano_rw_224": Case(64, r"^stages\.[23]\.blocks\.\d+\.(attn|mlp|shortcut)"),
    "convit_tiny": Case(64),
    "crossvit_9_240": Case(240),
    "csatv2": Case(256, built=False),
    "davit_tiny": Case(64, built=False),
    "deit3_small_patch16_224": Case(64),
    "deit_tiny_distilled_patch16_224": Case(64),
    "edgenext_xx_small": Case(64, built=False),
    "efficientformer_l1": Case(224, built=False),
    "efficientformerv2_s0": Case(
        224,
        r"token_mixer\.(q|k|v|talking_head[12]|proj)\.|^stages\.(2\.blocks\.[45]|3\.blocks"
        r"\.[23])\.mlp\.fc|^stages\.3\.downsample\.attn\.(q\.proj|k|v|proj)\.|talking_head",
        built=False,
    ),
    "eva02_tiny_patch14_224": Case(56),
    "eva02_base_patch16_clip_224": Case(64),
    "flexivit_small": Case(64),
    "gcvit_xxtiny": Case(224),
    "maxvit_rmlp_pico_rw_256": Case(128),
    "maxvit_tiny_pm_256": Case(128),
    "maxxvit_rmlp_nano_rw_256": Case(128),
    "mobilenetv4_hybrid_medium": Case(128, r"\.attn\.(query|key|value|output)\.proj", built=False),
    "mobilevit_xxs": Case(64, built=False),
    "mobilevitv2_050": Case(64, r"\.transformer\.", built=False),
    "mvitv2_tiny": Case(64),
    "naflexvit_base_patch16_map": Case(64, built=False),
    "nest_tiny": Case(112),
    "pit_ti_224": Case(64),
    "pit_s_224": Case(64),
    "pit_ti_distilled_224": Case(64),
    "pvt_v2_b0": Case(64, built=False),
    "pvt_v2_b2_li": Case(64, r"\.attn\.sr\.", built=False),
    "samvit_base_patch16_224": Case(64),
    "swiftformer_xs": Case(64, r"local_representation|\.linear\.fc", built=False),
    "swin_s3_tiny_224": Case(224),
    "swin_tiny_patch4_window7_224": Case(112),
    "test_vit3": Case(64),
    "tiny_vit_5m_224": Case(224, built=False),
    "tnt_s_patch16_224": Case(64),
    "twins_pcpvt_small": Case(64),
    "twins_svt_small": Case(64),
    "vit_base_patch16_xp_224": Case(64),
    "vit_dlittle_patch16_reg1_gap_256": Case(64),
    "vit_dpwee_patch16_reg1_gap_256": Case(64),
    "vit_dwee_patch16_reg1_gap_256": Case(64),
    "vit_pe_core_tiny_patch16_384": Case(64),
    "vit_pwee_patch16_reg1_gap_256": Case(64),
    "vit_relpos_small_patch16_224": Case(64),
    "vit_small_patch14_dinov2": Case(56),
    "vit_small_patch16_dinov3": Case(64),
    "vit_small_patch16_rope_224": Case(64),
    "vit_small_patch16_rope_mixed_224": Case(64),
    "vit_small_patch32_224": Case(64),
    "vit_srelpos_small_patch16_224": Case(64),
    "vit_tiny_patch16_224": Case(64),
    "vit_tiny_r_s16_p8_224": Case(64),
    "vit_wee_patch16_reg1_gap_256": Case(64),
    "vitamin_small_224": Case(64),
    "volo_d1_224": Case(64),
    "xcit_nano_12_p16_224": Case(64),
}


def build(name: str, **arguments: int) -> nn.Module:
    """Build a model of :data:`CASES` with fresh weights and a classifier."""
    case = CASES[name]
    torch.manual_seed(0)
    size = {"img_size": case.img_size} if case.built else {}
    return timm.create_model(name, num_classes=10, **size, **arguments)


def dss(model: nn.Module, case: Case) -> float:
    """Add up the terms of the definition."""
    model = copy.deepcopy(model).double().eval()
    for parameter in model.parameters():
        parameter.data.abs_()
    model(torch.ones(1, 3, case.img_size, case.img_size, dtype=torch.float64)).sum().backward()

    pairs = {
        name: (parameter.detach().flatten(1), parameter.grad.flatten(1))
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and counts(name, parameter, case)
    }
    # Parallel blocks hold attention and MLP in one matrix: hidden units first in, last out.
    for name in [name for name in pairs if re.search(r"\.(in_proj|out_proj)\.", name)]:
        weight, grad = pairs.pop(name)
        if "in_proj" in name:
            hidden = len(weight) - 3 * weight.shape[1]
            pairs[f"{name}.qkv.weight"] = weight[hidden:], grad[hidden:]
            pairs[f"{name}.mlp"] = weight[:hidden], grad[:hidden]
        else:
            width = len(weight)
            pairs[f"{name}.attn_out_proj.weight"] = weight[:, :width], grad[:, :width]
            pairs[f"{name}.mlp"] = weight[:, width:], grad[:, width:]

    stacked: dict[tuple[str, int], list[str]] = {}
    for name, (weight, _) in pairs.items():
        made = re.fullmatch(rf"(.*\.)({MAKES})({CONV})\.weight", name)
        outlook = re.fullmatch(r"(network\.0\.\d+\.attn\.)(v|attn)()\.weight", name)
        if made or outlook:
            stacked.setdefault(((made or outlook)[1], weight.shape[1]), []).append(name)
    attention = {name for names in stacked.values() for name in names}
    total = 0.0
    for names in stacked.values():
        total += product(*(torch.cat([pairs[name][i] for name in names]) for i in (0, 1)))
    owners = {owner for owner, _ in stacked}
    for name, (weight, grad) in pairs.items():
        if name in attention:
            continue
        output = re.fullmatch(rf"(.*?\.)(proj|out_proj|output|final){CONV}\.weight", name)
        if (output and output[1] in owners) or "attn_out_proj" in name:
            total += product(weight, grad)
        else:
            total += float((weight * grad).abs().sum())
    return total


def counts(name: str, parameter: nn.Parameter, case: Case) -> bool:
    if not name.endswith(".weight") or re.search(NEVER, name):
        return False
    if parameter.ndim == 4:
        return parameter.shape[2:] == (1, 1) and bool(re.search(case.conv, name))
    return parameter.ndim == 2


def product(weight: torch.Tensor, grad: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(weight).sum() * torch.linalg.svdvals(grad).sum())
