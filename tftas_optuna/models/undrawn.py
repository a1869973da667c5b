"""Networks that are built to be given weights, and so need none of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable

# What timm's initialisers, which are not torch's, spend their time on: drawing, and arithmetic
# that is slow on what memory happens to hold.
_DRAWS = (torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_)
_SHIFTS = (torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.clamp_)


class Undrawn(TorchFunctionMode):
    """Leaves new weights as their memory was, for a third of the time of drawing them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        home = getattr(func, "__module__", None)
        if home == torch.nn.init.__name__ or func in _DRAWS:
            return given["tensor"] if "tensor" in given else args[0]
        if func in _SHIFTS and isinstance(args[0], torch.nn.Parameter):
            return args[0]
        return func(*args, **given)
