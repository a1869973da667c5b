"""The PiT supernet: shared weights, and what a candidate sees of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tftas_optuna.errors import TftasError
from tftas_optuna.models import PiT
from tftas_optuna.supernet._base import Supernet
from tftas_optuna.supernet.linear import CentredLinear
from tftas_optuna.supernet.pit.passes import PiTPass
from tftas_optuna.supernet.pit.patches import PatchClasses, Patches, PatchGrid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tftas_optuna.architecture import PiTArchitecture
    from tftas_optuna.supernet.trace import LinearTrace

PATCHES: dict[str, Callable[[tuple[int, ...], torch.device], Patches]] = {
    "exact": PatchGrid,
    "collapsed": PatchClasses,
}


class PiTSupernet(Supernet["PiTArchitecture"]):
    """One set of weights that every candidate of a study is cut from.

    Weights have the names and the layout of timm's ``PoolingVisionTransformer``. A candidate sees
    the upper left corner of every matrix (of queries, keys and values each), scaled by the root
    of the ratio of the fan-ins: linear layers of a PiT start uniform within
    1 / sqrt(fan-in), so each slice is distributed as the stand-alone network's own weights are.
    ``benchmarks/pit_seeds.py`` measures how steady the ranking is.
    """

    fidelities = tuple(PATCHES)
    traits = ("patch_size", "stride")

    def __init__(self, largest: PiTArchitecture, **arguments: Any) -> None:
        self._known_shapes: dict[PiTArchitecture, dict[str, tuple[int, ...]]] = {}
        super().__init__(largest, **arguments)
        self._means: dict[str, Tensor] = {}
        for name, weight in self._absolute.items():
            if _is_linear(name):
                self._means[name] = weight.mean()
                weight.sub_(self._means[name])
        self._plain_norms = all(
            bool((weight == (1 if name.endswith("weight") else 0)).all())
            for name, weight in self._absolute.items()
            if "norm" in name
        )
        self._patches: dict[str, Patches] = {}

    def _limits(self, arch: PiTArchitecture) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
        largest = self.largest
        if len(arch.depth) != len(largest.depth):
            raise TftasError(
                f"depth lists {len(arch.depth)} stages, the supernet has {len(largest.depth)}"
            )
        return {
            "depth": (arch.depth, largest.depth),
            "width": (arch.widths, largest.widths),
            "hidden width": (arch.hidden_dims, largest.hidden_dims),
        }

    def _traces(self, archs: Sequence[PiTArchitecture], fidelity: str) -> list[LinearTrace]:
        (arch,) = archs
        with torch.inference_mode(False), torch.enable_grad():
            if fidelity not in self._patches:
                grids = self.largest.grids(self.img_size)
                self._patches[fidelity] = PATCHES[fidelity](grids, self.device)
            weights = self._slices(arch, self._absolute)
            linears = {
                name.removesuffix(".weight"): CentredLinear(
                    weights[name],
                    self._means[name] * self._scale(name, arch),
                    weights[name.removesuffix("weight") + "bias"],
                )
                for name in weights
                if _is_linear(name)
            }
            patches = self._patches[fidelity]
            return PiTPass(arch, linears, weights, patches, plain_norms=self._plain_norms).run()

    def pass_bytes(self, fidelity: str) -> int:
        """Estimate the memory that one candidate takes in :meth:`traces`, in bytes."""
        largest = self.largest
        kept = 0
        for i, side in enumerate(largest.grids(self.img_size)):
            tokens = 10 if fidelity == "collapsed" else side * side + 1
            width, hidden = largest.widths[i], largest.hidden_dims[i]
            per_token = 9 * width + 3 * hidden + 3 * largest.num_heads[i] * tokens
            kept += largest.depth[i] * tokens * per_token
        return (kept + sum(weight.numel() for weight in self._absolute.values())) * (
            self.dtype.itemsize
        )

    def _slices(self, arch: PiTArchitecture, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        slices = {}
        for name, shape in self._shapes_of(arch).items():
            parts = 3 if ".qkv." in name else 1
            whole = source[name].unflatten(0, (parts, -1))
            sizes = (parts, shape[0] // parts, *shape[1:])
            cut = whole[tuple(slice(size) for size in sizes)].flatten(0, 1).to(self.dtype)
            scale = self._scale(name, arch)
            slices[name] = cut * scale if scale != 1 else cut
        return slices

    def _scale(self, name: str, arch: PiTArchitecture) -> float:
        full, own = self._shapes(), self._shapes_of(arch)
        return float((_fan_in(name, full) / _fan_in(name, own)) ** 0.5)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes_of(self.largest)

    def _shapes_of(self, arch: PiTArchitecture) -> dict[str, tuple[int, ...]]:
        if arch not in self._known_shapes:
            model = PiT(
                arch,
                num_classes=self.num_classes,
                img_size=self.img_size,
                in_chans=self.in_chans,
                device="meta",
            )
            self._known_shapes[arch] = {n: tuple(p.shape) for n, p in model.named_parameters()}
        return self._known_shapes[arch]

    def _draw(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        if name in ("pos_embed", "cls_token"):
            return nn.init.trunc_normal_(weight, std=0.02, generator=generator)
        if "norm" in name:
            return weight.fill_(1.0 if name.endswith("weight") else 0.0)
        # PyTorch's default for linear layers and convolutions.
        bound = _fan_in(name, self._shapes()) ** -0.5
        return weight.uniform_(-bound, bound, generator=generator)


def _is_linear(name: str) -> bool:
    """Tell a linear layer's weight from those of norms and convolutions, and from biases."""
    layer, _, kind = name.rpartition(".")
    return kind == "weight" and "norm" not in layer and not layer.endswith("conv")


def _fan_in(name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Count the inputs that one output of a layer sums; 1 for all other weights."""
    layer, _, kind = name.rpartition(".")
    if "norm" in layer or kind not in ("weight", "bias"):
        return 1
    _, *inputs = shapes[f"{layer}.weight"]
    return int(torch.Size(inputs).numel())
