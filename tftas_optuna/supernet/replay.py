"""Passes of fixed shape, which a GPU records once and replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from tftas_optuna.supernet.trace import LinearTrace

Shapes = list[list[tuple[int, int]]]


class FixedPass(NamedTuple):
    """A pass whose tensors have the same shapes whatever the candidates are.

    Attributes:
        key: Tells it from other passes of the same supernet.
        sizes: The sizes of the candidates, one row of integers for each, on the CPU.
        run: Returns the traces of candidates from their sizes, on the device of the pass, without
            the shapes of their weights.
        shapes: Returns the shapes of the candidates' weights in a trace.
    """

    key: Hashable
    sizes: Tensor
    run: Callable[[Tensor], list[LinearTrace]]
    shapes: Callable[[LinearTrace], Shapes]


class Replay(Protocol):
    """A pass that runs again for other candidates, in the same tensors."""

    def __call__(self, sizes: Tensor) -> Sequence[LinearTrace]:
        """Run it.

        Args:
            sizes: The sizes of the candidates, in the shape of those that it was made with.

        Returns:
            The traces; their tensors are overwritten by the next call.
        """


class GraphReplay:
    """A pass that is recorded as a CUDA graph: all its kernels start with one call.

    Args:
        run: See :attr:`FixedPass.run`.
        sizes: Sizes of any candidates.
        device: The GPU.
        pool: The memory that graphs of one engine share, as only one of them is in use at a time.
    """

    def __init__(
        self,
        run: Callable[[Tensor], list[LinearTrace]],
        sizes: Tensor,
        device: torch.device,
        pool: Any = None,
    ) -> None:
        self._sizes = sizes.to(device)
        with torch.cuda.device(device):
            # Libraries choose their kernels and reserve memory at the first calls, which cannot
            # be recorded.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    run(self._sizes)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads go on meanwhile, and may reserve memory.
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._traces = run(self._sizes)

    def __call__(self, sizes: Tensor) -> Sequence[LinearTrace]:
        """Run it; see :meth:`Replay.__call__`."""
        self._sizes.copy_(sizes)
        self._graph.replay()
        return self._traces


class PlainReplay:
    """A pass that runs again operation by operation, in the same tensors.

    It takes the place of :class:`GraphReplay` where there is no GPU to record one.

    Args:
        run: See :attr:`FixedPass.run`.
        sizes: Sizes of any candidates.
        device: Where it runs.
        pool: Not used.
    """

    def __init__(
        self,
        run: Callable[[Tensor], list[LinearTrace]],
        sizes: Tensor,
        device: torch.device,
        pool: Any = None,
    ) -> None:
        self._run = run
        self._sizes = sizes.to(device)
        self._traces = run(self._sizes)

    def __call__(self, sizes: Tensor) -> Sequence[LinearTrace]:
        """Run it; see :meth:`Replay.__call__`."""
        self._sizes.copy_(sizes)
        for trace, again in zip(self._traces, self._run(self._sizes), strict=True):
            trace.x.copy_(again.x)
            trace.delta.copy_(again.delta)
        return self._traces
