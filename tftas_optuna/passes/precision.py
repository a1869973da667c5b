"""The precision of float32 matrix products, a setting of the whole process."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

MatmulPrecision = Literal["highest", "high", "medium"]

# PyTorch's names of each precision on CUDA and on a CPU; the best precision first.
_PRODUCTS = {"highest": ("ieee", "ieee"), "high": ("tf32", "tf32"), "medium": ("tf32", "bf16")}
_TORCH: Any = torch.backends
_BACKENDS: tuple[Any, ...] = (_TORCH.cuda.matmul, getattr(_TORCH.mkldnn, "matmul", None))
# Before PyTorch 2.9 there was one setting for both. Reading it is now an error once one of the two
# was set.
_ONE_NAME = not all(hasattr(backend, "fp32_precision") for backend in _BACKENDS)
_lock = threading.Lock()
_active: list[MatmulPrecision] = []
_before: tuple[str, ...] = ()


@contextlib.contextmanager
def matmul_precision(precision: MatmulPrecision) -> Iterator[None]:
    """Set the precision of float32 matrix products inside a ``with`` block.

    If several blocks are active in different threads, the best of their precisions applies to all.
    The last one to end restores the precision from before the first one.
    """
    global _before
    with _lock:
        if not _active:
            _before = _read_precision()
        _active.append(precision)
        _write_precision(_names_of(min(_active, key=list(_PRODUCTS).index)))
    try:
        yield
    finally:
        with _lock:
            _active.remove(precision)
            left = [_names_of(name) for name in _PRODUCTS if name in _active]
            _write_precision(left[0] if left else _before)


def _names_of(precision: str) -> tuple[str, ...]:
    return (precision,) if _ONE_NAME else _PRODUCTS[precision]


def _read_precision() -> tuple[str, ...]:
    if _ONE_NAME:
        return (torch.get_float32_matmul_precision(),)
    return tuple(backend.fp32_precision for backend in _BACKENDS)


def _write_precision(names: tuple[str, ...]) -> None:
    if _ONE_NAME:
        torch.set_float32_matmul_precision(names[0])
        return
    for backend, name in zip(_BACKENDS, names, strict=True):
        # "none" means exact products too, so there is mostly nothing to change.
        if backend.fp32_precision != name and {backend.fp32_precision, name} != {"none", "ieee"}:
            general = _TORCH.fp32_precision
            # With "none" the backend keeps following PyTorch's general setting.
            backend.fp32_precision = "none" if name == general else name
