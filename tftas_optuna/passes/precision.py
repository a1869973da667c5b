"""The precision of float32 matrix products, of which a process has one."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

MatmulPrecision = Literal["highest", "high", "medium"]

# By precision, the best first, what PyTorch calls it on CUDA and on a CPU.
_PRODUCTS = {"highest": ("ieee", "ieee"), "high": ("tf32", "tf32"), "medium": ("tf32", "bf16")}
_TORCH: Any = torch.backends
_BACKENDS: tuple[Any, ...] = (_TORCH.cuda.matmul, getattr(_TORCH.mkldnn, "matmul", None))
# Before PyTorch 2.9 there was one name for both. Since then asking for it is an error once
# somebody has set one of the two.
_ONE_NAME = not all(hasattr(backend, "fp32_precision") for backend in _BACKENDS)
_lock = threading.Lock()
_asked: list[MatmulPrecision] = []
_before: tuple[str, ...] = ()


@contextlib.contextmanager
def matmul_precision(precision: MatmulPrecision) -> Iterator[None]:
    """Compute products of float32 matrices at a precision for a while.

    The whole process has one: the best that anybody asks for at the moment. The last one leaves
    what was there before the first one.
    """
    global _before
    with _lock:
        if not _asked:
            _before = _read_precision()
        _asked.append(precision)
        _write_precision(_named(min(_asked, key=list(_PRODUCTS).index)))
    try:
        yield
    finally:
        with _lock:
            _asked.remove(precision)
            rest = [_named(each) for each in _PRODUCTS if each in _asked]
            _write_precision(rest[0] if rest else _before)


def _named(precision: str) -> tuple[str, ...]:
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
        # Where nothing is said products are exact as well: mostly nothing has to be changed.
        if backend.fp32_precision != name and {backend.fp32_precision, name} != {"none", "ieee"}:
            general = _TORCH.fp32_precision
            # Then it goes on following PyTorch's general setting.
            backend.fp32_precision = "none" if name == general else name
