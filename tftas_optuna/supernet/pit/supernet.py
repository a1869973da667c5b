"""The PiT supernet: shared weights, and the slices that a candidate uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from tftas_optuna.errors import TftasError
from tftas_optuna.supernet._base import Supernet
from tftas_optuna.supernet.linear import LinearStack
from tftas_optuna.supernet.pit.arranging import arrange
from tftas_optuna.supernet.pit.batch import Frame, batches_of, sizes_of
from tftas_optuna.supernet.pit.passes import PiTPass, PiTWeights, shapes_of
from tftas_optuna.supernet.pit.patches import PatchClasses, Patches, PatchGrid
from tftas_optuna.supernet.pit.stages import PoolWeights, StageWeights
from tftas_optuna.supernet.replay import FixedPass
from tftas_optuna.supernet.stacks import LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tftas_optuna.architecture import PiTArchitecture
    from tftas_optuna.supernet.arranging import LargerWeights
    from tftas_optuna.supernet.trace import LinearTrace

PATCHES: dict[str, Callable[[tuple[int, ...], torch.device], Patches]] = {
    "exact": PatchGrid,
    "collapsed": PatchClasses,
}


# Largest number of candidates for which a CPU is faster with one group for each width of heads.
MIXED_ON_CPU = 64
# Largest number of candidates for which a CPU is faster if it folds several blocks at once.
STACKED_ON_CPU = 16


class PiTSupernet(Supernet["PiTArchitecture"]):
    """One set of weights that every candidate of a study is cut from.

    Weights have the names and the layout of timm's ``PoolingVisionTransformer``. A candidate uses
    the upper left corner of every matrix (separately for queries, keys and values), scaled by the
    square root of the ratio of the fan-ins: linear layers of a PiT start uniform within
    1 / sqrt(fan-in), so each slice has the distribution of the stand-alone network's weights.
    ``benchmarks/pit_seeds.py`` measures how stable the ranking is across seeds.

    Attributes:
        rescaled: Whether slices are scaled by their fan-ins.
    """

    fidelities = tuple(PATCHES)
    traits = ("patch_size", "stride")
    at_once: ClassVar[dict[tuple[str, str], int]] = {
        **Supernet.at_once,
        ("collapsed", "cpu"): 64,
        ("collapsed", "cuda"): 256,
    }
    # Padded, exact PiTs take some six times their own arithmetic: more than a GPU is likely to
    # save by recording several of them.
    fixed_counts: ClassVar[dict[str, tuple[int, ...]]] = {
        "exact": (1,),
        "collapsed": (1, 8, 64, 256),
    }
    rescaled: ClassVar[bool] = True

    def __init__(self, largest: PiTArchitecture, **arguments: Any) -> None:
        super().__init__(largest, **arguments)
        self._prepared: dict[str, tuple[Patches, Tensor]] = {}

    def limits(self, arch: PiTArchitecture) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
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

    def depths(self, arch: PiTArchitecture) -> dict[str, int]:
        return {f"transformers.{i}.blocks": depth for i, depth in enumerate(arch.depth)}

    def shallower(self, arch: PiTArchitecture) -> PiTArchitecture:
        return dataclasses.replace(self.largest, depth=arch.depth)

    @staticmethod
    def groups(archs: Sequence[PiTArchitecture], device_type: str = "cpu") -> list[list[int]]:
        """Group candidates by the width of their heads, as lists of indices.

        Many on a CPU are also grouped by the width of their last stage, because padding the
        narrow ones then costs more time than larger groups save.
        """
        many = device_type == "cpu" and len(archs) > MIXED_ON_CPU
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, arch in enumerate(archs):
            last = arch.num_heads[-1:] if many else ()
            groups.setdefault((arch.base_dim, *last), []).append(i)
        return list(groups.values())

    def traces(self, archs: Sequence[PiTArchitecture], fidelity: str) -> Iterator[LinearTrace]:
        frame = Frame.around(archs, stacked=self._is_stacked(fidelity, len(archs)))
        traces = self._pass(frame, fidelity)(torch.tensor(sizes_of(archs), device=self.device))
        return (trace._replace(shapes=shapes_of(archs, frame, trace)) for trace in traces)

    def _fixed_pass(self, archs: Sequence[PiTArchitecture], fidelity: str) -> FixedPass | None:
        frame = Frame.whole(self.largest, archs[0].base_dim, len(archs))
        if not all(map(frame.holds, archs)):
            return None
        run = self._pass(frame, fidelity)
        return FixedPass(
            frame,
            torch.tensor(sizes_of(archs)),
            lambda sizes: list(run(sizes)),
            partial(shapes_of, archs, frame),
        )

    def _pass(self, frame: Frame, fidelity: str) -> Callable[[Tensor], Iterator[LinearTrace]]:
        """Return the function that runs candidates from their sizes."""
        with torch.inference_mode(False):
            patches, tokens = self._prepare(fidelity)
            weights = self._weights

        def run(sizes: Tensor) -> Iterator[LinearTrace]:
            batches = batches_of(frame, sizes, self.dtype)
            return PiTPass(weights, patches, frame, batches).run(tokens)

        return run

    def _is_stacked(self, fidelity: str, count: int) -> bool:
        """Return whether the layers of several blocks are folded together."""
        if self.device.type != "cpu":
            return True
        return fidelity == "collapsed" and count <= STACKED_ON_CPU

    def pass_bytes(self, fidelity: str) -> int:
        """Estimate the memory that one candidate takes in :meth:`run`, in bytes."""
        largest = self.largest
        kept = 0
        for i, side in enumerate(largest.grids(self.img_size)):
            tokens = 10 if fidelity == "collapsed" else side * side + 1
            width, hidden = largest.widths[i], largest.hidden_dims[i]
            per_token = 11 * width + 2 * hidden + largest.num_heads[i] * tokens
            if self._is_stacked(fidelity, 1):
                per_token += 5 * width + hidden
            kept += largest.depth[i] * tokens * per_token
        # Plus the gradient of the largest matrix, which is not kept for the backward pass.
        return (kept + max(largest.widths) * max(largest.hidden_dims)) * self.dtype.itemsize

    def _prepare(self, fidelity: str) -> tuple[Patches, Tensor]:
        """Return the patches of a fidelity, and the embedded tokens at full width."""
        if fidelity not in self._prepared:
            patches = PATCHES[fidelity](self.largest.grids(self.img_size), self.device)
            get = self.absolute_of
            # Every patch of an all-ones image embeds to the same vector: the sum of each filter.
            patch = get("patch_embed.conv.weight").sum((1, 2, 3)) + get("patch_embed.conv.bias")
            tokens = torch.cat((get("cls_token")[0], patches.embed(patch, get("pos_embed"))))
            self._prepared[fidelity] = (patches, tokens)
        return self._prepared[fidelity]

    @cached_property
    def _weights(self) -> PiTWeights:
        """The absolute weights, shared by the passes of all fidelities."""
        get = self.absolute_of
        norms = {name: get(name) for name in self.shapes() if "norm" in name}
        plain_norms = all(
            bool((weight == (1 if name.endswith("weight") else 0)).all())
            for name, weight in norms.items()
        )

        def norm(name: str) -> tuple[Tensor, Tensor]:
            return norms[f"{name}.weight"], norms[f"{name}.bias"]

        def part(name: str, kind: str) -> Tensor:
            tensor = get(f"{name}.{kind}")
            return _by_unit(tensor) if name.endswith("qkv") else tensor

        def stack(*names: str, mean_matters: bool) -> LinearStack:
            return LinearStack(
                lambda i: part(names[i], "weight"),
                [part(name, "bias") for name in names],
                mean_matters=mean_matters,
                rescaled=self.rescaled,
            )

        def stage(name: str, depth: int) -> StageWeights:
            blocks = [f"{name}.blocks.{i}" for i in range(depth)]
            reads = {"attn.qkv": not plain_norms, "mlp.fc1": not plain_norms}
            return StageWeights(
                linears={
                    layer: stack(
                        *(f"{block}.{layer}" for block in blocks),
                        mean_matters=reads.get(layer, False),
                    )
                    for layer in LAYERS
                },
                norms=[(norm(f"{block}.norm1"), norm(f"{block}.norm2")) for block in blocks],
                plain_norms=plain_norms,
            )

        def pool(name: str) -> PoolWeights:
            return PoolWeights(
                get(f"{name}.conv.weight"),
                get(f"{name}.conv.bias"),
                stack(f"{name}.fc", mean_matters=True),
            )

        stages = [f"transformers.{i}" for i in range(len(self.largest.depth))]
        return PiTWeights(
            pools=[pool(f"{stage}.pool") for stage in stages[1:]],
            stages=[
                stage(name, depth) for name, depth in zip(stages, self.largest.depth, strict=True)
            ],
            norm=norm("norm"),
            head=stack("head", mean_matters=not plain_norms),
        )

    def slices(self, arch: PiTArchitecture, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        slices = {}
        shapes = self._shapes_of(arch)
        for name, shape in shapes.items():
            parts = 3 if ".qkv." in name else 1
            whole = source[name].unflatten(0, (parts, -1))
            sizes = (parts, shape[0] // parts, *shape[1:])
            cut = whole[tuple(slice(size) for size in sizes)].flatten(0, 1).to(self.dtype)
            scale = self._scale(name, shapes)
            slices[name] = cut * scale if scale != 1 else cut
        return slices

    def arranged(self, network: LargerWeights, order: str) -> dict[str, Tensor]:
        return arrange(self.largest, network, order, self.slicing.taken)

    def _scale(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> float:
        if not self.rescaled:
            return 1.0
        return float((_fan_in(name, self.shapes()) / _fan_in(name, shapes)) ** 0.5)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._largest_shapes

    @cached_property
    def _largest_shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes_of(self.largest)

    def _shapes_of(self, arch: PiTArchitecture) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights of timm's network, without loading timm."""
        grid, first, patch = arch.grids(self.img_size)[0], arch.widths[0], arch.patch_size
        shapes: dict[str, tuple[int, ...]] = {
            "pos_embed": (1, first, grid, grid),
            "cls_token": (1, 1, first),
            **_layer("patch_embed.conv", first, self.in_chans, patch, patch),
        }
        before = first
        for i, (depth, width, hidden) in enumerate(
            zip(arch.depth, arch.widths, arch.hidden_dims, strict=True)
        ):
            stage = f"transformers.{i}"
            if i > 0:
                shapes.update(_layer(f"{stage}.pool.conv", width, 1, 3, 3))
                shapes.update(_layer(f"{stage}.pool.fc", width, before))
            for block in (f"{stage}.blocks.{j}" for j in range(depth)):
                shapes.update(_layer(f"{block}.norm1", width))
                shapes.update(_layer(f"{block}.attn.qkv", 3 * width, width))
                shapes.update(_layer(f"{block}.attn.proj", width, width))
                shapes.update(_layer(f"{block}.norm2", width))
                shapes.update(_layer(f"{block}.mlp.fc1", hidden, width))
                shapes.update(_layer(f"{block}.mlp.fc2", width, hidden))
            before = width
        return shapes | _layer("norm", before) | _layer("head", self.num_classes, before)

    def draw(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        if name in ("pos_embed", "cls_token"):
            return nn.init.trunc_normal_(weight, std=0.02, generator=generator)
        if "norm" in name:
            return weight.fill_(1.0 if name.endswith("weight") else 0.0)
        # PyTorch's default for linear layers and convolutions.
        bound = _fan_in(name, self.shapes()) ** -0.5
        return weight.uniform_(-bound, bound, generator=generator)


def _by_unit(qkv: Tensor) -> Tensor:
    """Reorder rows to (unit, query/key/value), so that a smaller width is a prefix."""
    return qkv.unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)


def _fan_in(name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of inputs per output of a linear layer or convolution, otherwise 1."""
    layer, _, kind = name.rpartition(".")
    if "norm" in layer or kind not in ("weight", "bias"):
        return 1
    _, *inputs = shapes[f"{layer}.weight"]
    return int(torch.Size(inputs).numel())


def _layer(name: str, *weight: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a layer's weight and bias, by name."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
