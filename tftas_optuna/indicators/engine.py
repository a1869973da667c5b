"""Scores candidates on one supernet by a sum over layers, batch by batch."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Literal

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.base import Layer, LayerScore, Norms
from tftas_optuna.indicators.gradient import CollapsedGradients, Gradients, ProductGradients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.base import LayerIndicator, LayerTerms
    from tftas_optuna.supernet import Supernet

MatmulPrecision = Literal["highest", "high", "medium"]

_LOG = logging.getLogger("tftas_optuna")
_RANK = 24


def _exact(delta: Tensor, x: Tensor, rank: int) -> Gradients:
    return ProductGradients(delta, x, rank)


def _collapsed(delta: Tensor, x: Tensor, rank: int) -> Gradients:
    # The classifier sees one token, whose gradient has rank one.
    return CollapsedGradients(delta, x) if x.shape[1] == 2 else ProductGradients(delta, x, rank)


_GRADIENTS: dict[str, Callable[[Tensor, Tensor, int], Gradients]] = {
    "exact": _exact,
    "collapsed": _collapsed,
}


class LayerEngine:
    """Scores candidates on one supernet.

    Args:
        supernet: The weights.
        indicator: What to score.
        fidelity: One of the indicator's and of the supernet's.
        batch_size: Most candidates in one pass; halved for good when memory runs out.
        precision: torch's precision of float32 matrix products.
    """

    def __init__(
        self,
        supernet: Supernet,
        indicator: LayerIndicator,
        *,
        fidelity: str,
        batch_size: int,
        precision: MatmulPrecision,
    ) -> None:
        self.supernet = supernet
        self.batch_size = batch_size
        self._indicator = indicator
        self._fidelity = fidelity
        self._precision = precision
        self._norms: Norms = {}
        # Relative error of a score that the range finders together may leave.
        self._tolerance = 1e-10 if supernet.dtype == torch.float64 else 2e-5
        if precision != "highest":
            self._tolerance = 1e-2

    def batch(self, archs: Sequence[Architecture]) -> list[float]:
        """Score candidates, in their order."""
        scores = [0.0] * len(archs)
        for members in self.supernet.groups(archs):
            while members:
                chunk = members[: self.batch_size]
                try:
                    values, _ = self._settle([archs[i] for i in chunk])
                except torch.OutOfMemoryError:
                    if len(chunk) == 1:
                        raise
                    self.batch_size = len(chunk) // 2
                    _LOG.warning(
                        "out of memory with %d candidates at once; going on with %d",
                        len(chunk),
                        self.batch_size,
                    )
                    continue
                for i, value in zip(chunk, values, strict=True):
                    scores[i] = value
                members = members[len(chunk) :]
        return scores

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer, in forward order."""
        _, rank = self._settle([arch])
        with self._mode():
            rows = [LayerScore.of(layer, terms) for _, layer, terms in self._terms([arch], rank)]
        return rows[::-1]

    def _settle(self, archs: Sequence[Architecture]) -> tuple[list[float], int]:
        """Score candidates that the supernet runs together, at the lowest rank that is enough.

        Every call starts from the same rank, so that a score depends on nothing scored before.
        """
        rank = _RANK
        while True:
            with self._mode(), self._finite():
                totals = torch.zeros(len(archs), dtype=torch.float64, device=self.supernet.device)
                errors = torch.zeros_like(totals)
                for members, _, terms in self._terms(archs, rank):
                    if members is None:
                        totals[: len(terms.values)] += terms.values
                        errors[: len(terms.values)] += terms.errors
                    else:
                        totals.index_add_(0, members, terms.values)
                        errors.index_add_(0, members, terms.errors)
                # One wait for the device, whatever the number of candidates.
                found, lacking = torch.stack((totals, errors)).tolist()
            if not all(math.isfinite(score) for score in found):
                raise self._overflow()
            if all(e <= self._tolerance * s for s, e in zip(found, lacking, strict=True)):
                return list(found), rank
            rank *= 2

    def _terms(
        self, archs: Sequence[Architecture], rank: int
    ) -> Iterator[tuple[Tensor | None, Layer, LayerTerms]]:
        """Yield layers and their terms, with the places of the candidates; None for the first."""
        gradients_of = _GRADIENTS[self._fidelity]
        for trace in self.supernet.traces(archs, fidelity=self._fidelity):
            gradients = gradients_of(trace.delta, trace.x, rank)
            layer = Layer(trace.name, trace.role, trace.shapes, trace.weight, gradients)
            yield trace.members, layer, self._indicator.fold(layer, self._norms)

    def _overflow(self) -> TftasError:
        return TftasError(f"a score is not finite in {self.supernet.dtype}; use torch.float64")

    @contextlib.contextmanager
    def _finite(self) -> Iterator[None]:
        try:
            yield
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise self._overflow() from error

    @contextlib.contextmanager
    def _mode(self) -> Iterator[None]:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self._precision)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_float32_matmul_precision(before)
