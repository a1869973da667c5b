"""A family of somebody else's: a small Vision Transformer that tftas-optuna has never seen.

The tests install this file as a package of its own; nothing in tftas-optuna names it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from optuna.distributions import CategoricalDistribution
from torch import nn

from tftas_optuna import Architecture, SearchSpace, TftasError
from tftas_optuna.architecture import Costs
from tftas_optuna.families import Family
from tftas_optuna.supernet import LinearTrace, PlainWeights, Supernet


@dataclasses.dataclass(frozen=True)
class Tower(Architecture):
    """Equal blocks with one head."""

    family: ClassVar[str] = "tower"

    width: int
    depth: int
    form: str = "plain"
    patch_size: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.width, int) or self.width < 1:
            raise TftasError(f"width is {self.width!r}, allowed is 1 or more", key=("width",))

    def costs(self, *, img_size: int = 224, num_classes: int = 1000, in_chans: int = 3) -> Costs:
        pixels, tokens, w = (
            in_chans * self.patch_size**2,
            (img_size // self.patch_size) ** 2,
            self.width,
        )
        hidden = 2 * w if self.form == "plain" else 3 * w
        matrices = self.depth * (4 * w * w + 2 * w * hidden)
        vectors = self.depth * (4 * w + w + hidden + 4 * w)
        n_params = w * (pixels + 1) + matrices + vectors + num_classes * (w + 1)
        macs = tokens * (w * pixels + matrices + 2 * self.depth * tokens * w) + w * num_classes
        return Costs(n_params, macs)

    def summary(self) -> str:
        return f"{self.width} x {self.depth}, {self.form}"


@dataclasses.dataclass(frozen=True)
class TowerSpace(SearchSpace):
    family: ClassVar[str] = "tower"

    name: str
    width: tuple[int, ...]
    depth: tuple[int, ...]
    img_size: int = 8
    in_chans: int = 3
    num_classes: int = 3

    @property
    def supernet(self) -> Tower:
        return self.largest()

    @classmethod
    def from_dict(cls, data):
        sizes = {key: value for key, value in data.items() if key != "family"}
        return cls(**{**sizes, "width": tuple(data["width"]), "depth": tuple(data["depth"])})

    def to_dict(self):
        fields = dataclasses.asdict(self)
        return {
            "family": self.family,
            **fields,
            "width": list(self.width),
            "depth": list(self.depth),
        }

    def cardinality(self) -> int:
        return len(self.width) * len(self.depth) * 2

    def smallest(self) -> Tower:
        return Tower(min(self.width), min(self.depth))

    def largest(self) -> Tower:
        return Tower(max(self.width), max(self.depth), "wide")

    def parameters(self):
        choices = {"width": self.width, "depth": self.depth, "form": ("plain", "wide")}
        return {name: CategoricalDistribution(values) for name, values in choices.items()}

    def from_params(self, params):
        for name, found in self.parameters().items():
            if params.get(name) not in found.choices:
                raise TftasError(f"parameter {name} is {params.get(name)!r}")
        return Tower(params["width"], params["depth"], params["form"])

    def to_params(self, arch):
        params = {name: getattr(arch, name, None) for name in ("width", "depth", "form")}
        if self.from_params(params) != arch:
            raise TftasError(f"{arch!r} is not in space {self.name}")
        return params


class TowerBlock(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class TowerNetwork(nn.Module):
    timm_cfg = {"classifier": "head", "first_conv": "stem"}

    def __init__(
        self,
        architecture: Tower,
        *,
        num_classes: int = 1000,
        img_size: int = 224,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        width = architecture.width
        hidden = 2 * width if architecture.form == "plain" else 3 * width
        self.num_classes, self.num_features, self.global_pool = num_classes, width, global_pool
        self.stem = nn.Conv2d(in_chans, width, architecture.patch_size, architecture.patch_size)
        self.blocks = nn.Sequential(
            *(TowerBlock(width, hidden) for _ in range(architecture.depth))
        )
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def get_classifier(self):
        return self.head

    def forward(self, images):
        tokens = self.blocks(self.stem(images).flatten(2).transpose(1, 2))
        return self.head(self.head_drop(tokens.mean(1)))


class TowerSupernet(Supernet[Tower]):
    traits = ("patch_size",)

    def limits(self, arch):
        sizes, most = self._shapes_of(arch), self.shapes()
        weights = [name for name in sizes if name not in most]
        if weights:
            raise TftasError(f"depth is {arch.depth}, the supernet has {self.largest.depth}")
        return {name: (sizes[name], most[name]) for name in sizes}

    def shapes(self):
        return self._shapes_of(self.largest)

    def _shapes_of(self, arch):
        with torch.device("meta"):
            model = TowerNetwork(
                arch,
                num_classes=self.num_classes,
                img_size=self.img_size,
                in_chans=self.in_chans,
            )
        return {name: tuple(weight.shape) for name, weight in model.named_parameters()}

    def draw(self, name, weight, generator):
        if "norm" in name:
            return weight.fill_(float(name.endswith("weight")))
        return weight.normal_(std=1 / math.sqrt(max(weight[0].numel(), 1)), generator=generator)

    def slices(self, arch, source):
        return {
            name: source[name][tuple(slice(size) for size in shape)].to(self.dtype)
            for name, shape in self._shapes_of(arch).items()
        }

    def traces(self, archs, fidelity):
        (arch,) = archs
        layers = []
        with torch.inference_mode(False), torch.enable_grad():
            model = self.subnet(arch).requires_grad_(False)
            model.load_state_dict(self.slices(arch, self.absolute))
            linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
            for name, module in linear.items():
                module.register_forward_hook(
                    lambda module, x, y, name=name: layers.append((name, module, x[0], y))
                )
            size = (1, self.in_chans, self.img_size, self.img_size)
            images = torch.ones(size, dtype=self.dtype, device=self.device, requires_grad=True)
            logits = model(images)
            deltas = torch.autograd.grad(logits.sum(), [y for *_, y in layers])
        found = zip(reversed(layers), reversed(deltas), strict=True)
        return [self._trace(*layer, delta) for layer, delta in found]

    def _trace(self, name, module, x, y, delta):
        role = "attention" if name.endswith(("qkv", "proj")) else "mlp"
        weight = module.weight
        tokens = [part.detach().reshape(1, 1, -1, part.shape[-1]) for part in (x, delta)]
        return LinearTrace(
            [name],
            "head" if name == "head" else role,
            [[tuple(weight.shape)]],
            PlainWeights(weight[None]),
            *tokens,
        )


def family() -> Family:
    return Family("tower", Tower, TowerSpace, TowerNetwork, TowerSupernet)
