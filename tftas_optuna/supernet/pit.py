"""The PiT supernet: shared weights, and what a candidate sees of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tftas_optuna.errors import TftasError
from tftas_optuna.models import PiT, build_model
from tftas_optuna.supernet._base import generator_of
from tftas_optuna.supernet.patches import PatchClasses, Patches, PatchGrid
from tftas_optuna.supernet.pit_pass import CentredLinear, PiTPass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tftas_optuna.pit_architecture import PiTArchitecture
    from tftas_optuna.supernet.trace import LinearTrace

PATCHES: dict[str, Callable[[tuple[int, ...], torch.device], Patches]] = {
    "exact": PatchGrid,
    "collapsed": PatchClasses,
}


class PiTSupernet:
    """One set of weights that every candidate of a study is cut from.

    Weights have the names and the layout of timm's ``PoolingVisionTransformer``. A candidate sees
    the upper left corner of every matrix (of queries, keys and values each), scaled by the root
    of the ratio of the fan-ins: linear layers of a PiT start uniform within
    1 / sqrt(fan-in), so each slice is distributed as the stand-alone network's own weights are.
    ``benchmarks/pit_seeds.py`` measures how steady the ranking is.

    Args:
        largest: The supernet itself; candidates are at most as wide and deep.
        seed: Seed of the weights; every tensor has a generator of its own.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        in_chans: Channels of the input.
        state_dict: Weights to use instead of drawing them from the seed.
        device: Where scoring runs.
        dtype: Floating-point type of the scoring.
    """

    def __init__(
        self,
        largest: PiTArchitecture,
        *,
        seed: int = 0,
        img_size: int = 224,
        num_classes: int = 1000,
        in_chans: int = 3,
        state_dict: Mapping[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.largest = largest
        self.img_size = img_size
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.device = torch.device(device)
        self.dtype = dtype
        self._known_shapes: dict[PiTArchitecture, dict[str, tuple[int, ...]]] = {}
        shapes = self._shapes(largest)
        if state_dict is None:
            state_dict = {
                name: _draw(name, shape, _fan_in(name, shapes), seed)
                for name, shape in shapes.items()
            }
        for name, shape in shapes.items():
            if name not in state_dict or tuple(state_dict[name].shape) != shape:
                found = tuple(state_dict[name].shape) if name in state_dict else "missing"
                raise TftasError(f"supernet weight {name} is {found}, expected shape {shape}")
        self.state_dict = {name: state_dict[name] for name in shapes}
        self._absolute = {
            name: weight.to(device=self.device, dtype=dtype).abs()
            for name, weight in self.state_dict.items()
        }
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

    def check(self, arch: PiTArchitecture) -> None:
        """Make sure a candidate can be cut from this supernet.

        Raises:
            TftasError: It is of another kind, wider or deeper; says which.
        """
        largest = self.largest
        for name in ("family", "patch_size", "stride"):
            if getattr(arch, name) != getattr(largest, name):
                raise TftasError(
                    f"{name} is {getattr(arch, name)}, the supernet has {getattr(largest, name)}"
                )
        if len(arch.depth) != len(largest.depth):
            raise TftasError(
                f"depth lists {len(arch.depth)} stages, the supernet has {len(largest.depth)}"
            )
        limits = {
            "depth": (arch.depth, largest.depth),
            "width": (arch.widths, largest.widths),
            "hidden width": (arch.hidden_dims, largest.hidden_dims),
        }
        for name, (values, limit) in limits.items():
            if any(value > most for value, most in zip(values, limit, strict=True)):
                raise TftasError(
                    f"{name} is {list(values)}, the supernet holds at most {list(limit)}"
                )

    def subnet(self, arch: PiTArchitecture) -> nn.Module:
        """Build the stand-alone network that holds this candidate's slices, signs kept."""
        self.check(arch)
        model = build_model(
            arch, num_classes=self.num_classes, img_size=self.img_size, in_chans=self.in_chans
        )
        model.to(dtype=self.dtype).load_state_dict(self._slices(arch, self.state_dict))
        return model.to(device=self.device).eval()

    @staticmethod
    def groups(archs: Sequence[PiTArchitecture]) -> list[list[int]]:
        """Sort candidates, by index, into lists that run together: each runs alone."""
        return [[i] for i in range(len(archs))]

    def traces(
        self, archs: Sequence[PiTArchitecture], *, fidelity: str = "exact"
    ) -> list[LinearTrace]:
        """Feed the all-ones image through the absolute slices and back-propagate the logits.

        Args:
            archs: One candidate.
            fidelity: Which patches there are; a key of :data:`PATCHES`.

        Returns:
            The counted layers, from the last to the first.
        """
        (arch,) = archs
        self.check(arch)
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
        """Cut a candidate's weights, by the names of the stand-alone network."""
        slices = {}
        for name, shape in self._shapes(arch).items():
            parts = 3 if ".qkv." in name else 1
            whole = source[name].unflatten(0, (parts, -1))
            sizes = (parts, shape[0] // parts, *shape[1:])
            cut = whole[tuple(slice(size) for size in sizes)].flatten(0, 1).to(self.dtype)
            scale = self._scale(name, arch)
            slices[name] = cut * scale if scale != 1 else cut
        return slices

    def _scale(self, name: str, arch: PiTArchitecture) -> float:
        full, own = self._shapes(self.largest), self._shapes(arch)
        return float((_fan_in(name, full) / _fan_in(name, own)) ** 0.5)

    def _shapes(self, arch: PiTArchitecture) -> dict[str, tuple[int, ...]]:
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


def _is_linear(name: str) -> bool:
    """Tell a linear layer's weight from those of norms and convolutions, and from biases."""
    layer, _, kind = name.rpartition(".")
    return kind == "weight" and "norm" not in layer and not layer.endswith("conv")


def _fan_in(name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Inputs that one output of a layer sums; 1 for what is no such layer's weight or bias."""
    layer, _, kind = name.rpartition(".")
    if "norm" in layer or kind not in ("weight", "bias"):
        return 1
    _, *inputs = shapes[f"{layer}.weight"]
    return int(torch.Size(inputs).numel())


def _draw(name: str, shape: tuple[int, ...], fan_in: int, seed: int) -> Tensor:
    """Initial weights of one tensor, by timm's rules for PiT, on the CPU in float32."""
    weight, generator = torch.empty(shape), generator_of(seed, name)
    if name in ("pos_embed", "cls_token"):
        return nn.init.trunc_normal_(weight, std=0.02, generator=generator)
    if "norm" in name:
        return weight.fill_(1.0 if name.endswith("weight") else 0.0)
    # PyTorch's default for linear layers and convolutions.
    return weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
