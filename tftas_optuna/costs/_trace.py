"""The memory and activations of one forward pass, recorded operator by operator."""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target


class Trace(NamedTuple):
    """One eager forward pass without gradients.

    Attributes:
        activations: Elements in the outputs of convolutions, linear layers and matrix products.
        weight_bytes: Bytes of all parameters and buffers.
        peak_bytes: Peak bytes of all other tensors alive at one time, including the images.
    """

    activations: int
    weight_bytes: int
    peak_bytes: int


@lru_cache(maxsize=4096)
def trace_forward(arch: Architecture, target: Target) -> Trace:
    """Run a network once, in float32 on the CPU, and record the memory of its tensors.

    Attention is computed without fused kernels, so its matrix counts as memory.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.weak import WeakIdKeyDictionary

    from tftas_optuna.costs._network import empty_model

    aten = torch.ops.aten
    products = {aten.convolution, aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv}
    products |= {aten.addmv, aten.linear}

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        activations = 0
        alive = 0
        peak = 0

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self._seen = WeakIdKeyDictionary()

        def see(self, tensor: torch.Tensor) -> None:
            storage = tensor.untyped_storage()
            if storage in self._seen:
                return
            self._seen[storage] = True
            size = storage.nbytes()
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._free, size)

        def _free(self, size: int) -> None:
            self.alive -= size

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    self.see(tensor)
                    if func.overloadpacket in products:
                        self.activations += tensor.numel()
            return out

    model = empty_model(arch, target)
    weights = [*model.parameters(), *model.buffers()]
    watch = Watch()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        images = torch.zeros(target.batch_size, target.in_chans, target.img_size, target.img_size)
        for weight in weights:
            watch._seen[weight.untyped_storage()] = True
        watch.see(images)
        with watch:
            model(images)
    return Trace(
        activations=watch.activations,
        weight_bytes=sum(tensor.untyped_storage().nbytes() for tensor in weights),
        peak_bytes=watch.peak,
    )
