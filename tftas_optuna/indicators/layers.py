"""Indicators that are sums over the linear layers of one pass."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import threading
from abc import abstractmethod
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import Indicator, NotFiniteError
from tftas_optuna.passes.gradient import (
    CollapsedGradients,
    DenseGradient,
    Gradients,
    ProductGradients,
    SharedGradients,
)
from tftas_optuna.passes.layers import Layer, LayerScore, Norms
from tftas_optuna.passes.networks import check_classifier, inspect_model, ones_gradients
from tftas_optuna.passes.precision import matmul_precision
from tftas_optuna.supernet import GraphReplay, PlainWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.passes.ground import Ground
    from tftas_optuna.passes.layers import LayerTerms
    from tftas_optuna.passes.networks import View
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.supernet import FixedPass, LinearTrace, Replay, Supernet

_LOG = logging.getLogger("tftas_optuna")
_RANK = 24


def _exact(delta: Tensor, x: Tensor, rank: int) -> Gradients:
    return ProductGradients(delta, x, rank)


def _collapsed(delta: Tensor, x: Tensor, rank: int) -> Gradients:
    # The classifier sees one token, whose gradient has rank one.
    return CollapsedGradients(delta, x) if x.shape[2] == 2 else ProductGradients(delta, x, rank)


_GRADIENTS: dict[str, Callable[[Tensor, Tensor, int], Gradients]] = {
    "exact": _exact,
    "collapsed": _collapsed,
}


@dataclasses.dataclass(frozen=True)
class LayerIndicator(Indicator):
    """An indicator that is a sum over the linear layers of a network.

    It uses absolute weights, one image of ones, and the gradients of the summed logits. A subclass
    implements :meth:`fold`; batches, workers, seeds, fidelities, resume, ``explain``, ``score``
    and any timm model then work without further code.

    Attributes:
        tolerance: Largest relative error that approximations may leave in float32. A pass with a
            larger one is made again, at a higher rank.
    """

    fidelities: ClassVar[tuple[str, ...]] = ("exact", "collapsed")
    sums_layers: ClassVar[bool] = True
    tolerance: ClassVar[float] = 2e-5

    @abstractmethod
    def fold(self, layer: Layer, norms: Norms) -> LayerTerms:
        """Score layers of several candidates.

        Args:
            layer: One layer, or several of one shape.
            norms: A cache of the norms of weights, one for each set of weights.
        """

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may compute it at the same time; always true."""
        return True

    def engine(
        self,
        ground: Ground,
        indicators: Sequence[Any],
        *,
        fidelity: str,
        precision: MatmulPrecision,
    ) -> LayerEngine:
        """Make an engine for several such indicators; see :meth:`Indicator.engine`."""
        return LayerEngine(
            ground.supernet,
            indicators,
            fidelity=fidelity,
            batch_size=_batch_size(ground.supernet, fidelity),
            precision=precision,
            replay=GraphReplay if ground.supernet.device.type == "cuda" else None,
        )

    def score_network(self, model: nn.Module, view: View) -> float:
        """Score a stand-alone network; see :meth:`Indicator.score_network`."""
        return math.fsum(row.value for row in self.explain_network(model, view))

    def explain_network(self, model: nn.Module, view: View) -> list[LayerScore]:
        """Score a stand-alone network layer by layer; see :meth:`Indicator.explain_network`."""
        check_classifier(model)
        counted = inspect_model(model, img_size=view.shape[1:]).counted
        names = {piece.parameter for matrix in counted for piece in matrix.pieces}
        weights, gradients = ones_gradients(model, names, view.shape)
        rows = []
        norms: Norms = {}
        reached = False
        for matrix in counted:
            whole, gradient = matrix.of(weights), matrix.of(gradients)
            shape = (whole.shape[0], whole.shape[1])
            layer = Layer(
                [matrix.name],
                matrix.role,
                [[shape]],
                PlainWeights(whole[None]),
                DenseGradient(gradient),
            )
            rows.extend(LayerScore.of(layer, self.fold(layer, norms)))
            reached |= matrix.role == "attention" and bool(gradient.any())
        if not reached:
            raise TftasError(
                f"no gradient reaches the attention of {type(model).__name__}: fresh weights of"
                " its classifier or of its normalisation are zeros"
            )
        return rows


class LayerEngine:
    """Scores candidates on one supernet by several indicators in one pass.

    Args:
        supernet: The supernet.
        indicators: The indicators.
        fidelity: A fidelity of the indicators and of the supernet.
        batch_size: Most candidates in one pass; halved for good if memory runs out.
        precision: torch's precision of float32 matrix products.
        replay: What runs passes of fixed shape; None for passes of the candidates' own shapes.

    Attributes:
        supernet: The supernet.
        batch_size: Most candidates in one pass.
        indicators: The indicators.
    """

    def __init__(
        self,
        supernet: Supernet,
        indicators: Sequence[LayerIndicator],
        *,
        fidelity: str,
        batch_size: int,
        precision: MatmulPrecision = "highest",
        replay: Callable[..., Replay] | None = None,
    ) -> None:
        self.supernet = supernet
        self._replay = replay
        self._replays: dict[Hashable, Replay] = {}
        self._replaying = threading.Lock()
        self.batch_size = batch_size
        self.indicators = tuple(indicators)
        self._fidelity = fidelity
        self._precision = precision
        # By the depths of candidates that have weights of their own.
        self._norms: defaultdict[tuple[int, ...], Norms] = defaultdict(dict)
        # Largest relative errors of the scores from all range finders together.
        self._tolerances = [
            1e-2
            if precision != "highest"
            else 1e-10
            if supernet.dtype == torch.float64
            else indicator.tolerance
            for indicator in indicators
        ]

    def prepare(self) -> None:
        """Draw the weights now, so that the first pass does not wait for them."""
        self.supernet.prepare(self._fidelity)

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Return the scores of candidates in their order, each by every indicator."""
        scores: list[tuple[float, ...]] = [()] * len(archs)
        for arch in archs:
            # Groups are made by sizes that other families do not have.
            if arch.family != self.supernet.largest.family:
                self.supernet.check(arch)
        for members in self.supernet.groups(archs, self.supernet.device.type):
            while members:
                chunk = members[: self.batch_size]
                try:
                    with self._alone():
                        settled = self._settle([archs[i] for i in chunk])
                except torch.OutOfMemoryError:
                    if len(chunk) == 1:
                        raise
                    self.batch_size = len(chunk) // 2
                    with self._alone():
                        self._replays.clear()
                    _LOG.warning(
                        "out of memory with %d candidates at once; going on with %d",
                        len(chunk),
                        self.batch_size,
                    )
                    continue
                columns = [column for column, _ in settled]
                for i, row in zip(chunk, zip(*columns, strict=True), strict=True):
                    scores[i] = row
                members = members[len(chunk) :]
        return scores

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Return what each layer adds to the first indicator, in forward order."""
        rows: list[tuple[int, LayerScore]] = []
        with self._alone(), self._mode():
            rank = self._settle([arch])[0][1]
            for trace, layer, terms in self._terms([arch], rank):
                scores = LayerScore.of(layer, terms[0])
                rows.extend(zip(trace.places or [-len(rows)], scores, strict=True))
        # A pass of fixed shape also has the layers of blocks that the candidate lacks.
        own = (row for row in rows if all(row[1].shape))
        return [score for _, score in sorted(own, key=lambda row: row[0])]

    def _settle(self, archs: Sequence[Architecture]) -> list[tuple[list[float], int]]:
        """Score candidates of one pass, at the lowest rank that is accurate enough.

        Every call starts from the same rank, and each indicator uses the first rank that is enough
        for it, so a score depends neither on earlier scores nor on other indicators.

        Returns:
            For each indicator, the scores of the candidates and the rank.
        """
        rank = _RANK
        settled: list[tuple[list[float], int] | None] = [None] * len(self.indicators)
        while True:
            with self._mode(), self._finite(archs):
                # Two rows for each indicator: the scores and their errors.
                sums = torch.zeros(
                    2 * len(self.indicators),
                    len(archs),
                    dtype=torch.float64,
                    device=self.supernet.device,
                )
                for trace, layer, by_indicator in self._terms(archs, rank):
                    terms = torch.stack([row for t in by_indicator for row in t[:2]])
                    terms = _of_own_layers(terms, layer).sum(1)
                    if trace.members is None:
                        sums[:, : terms.shape[1]] += terms
                    else:
                        sums.index_add_(1, trace.members, terms)
                # Wait for the device once for all candidates.
                rows: list[list[float]] = sums.tolist()
            for i, (scores, errors) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
                if not all(math.isfinite(score) for score in scores):
                    raise self._overflow(archs)
                tolerance = self._tolerances[i]
                enough = all(e <= tolerance * abs(s) for s, e in zip(scores, errors, strict=True))
                if settled[i] is None and enough:
                    settled[i] = scores, rank
            done = [result for result in settled if result is not None]
            if len(done) == len(settled):
                return done
            rank *= 2

    def _terms(
        self, archs: Sequence[Architecture], rank: int
    ) -> Iterator[tuple[LinearTrace, Layer, list[LayerTerms]]]:
        """Yield layers as they were traced and as they are folded, with each indicator's terms."""
        gradients_of = _GRADIENTS[self._fidelity]
        for trace in self._traces(archs):
            gradients = SharedGradients(gradients_of(trace.delta, trace.x, rank))
            layer = Layer(trace.names, trace.role, trace.shapes, trace.weights, gradients)
            norms = self._norms[trace.depths]
            yield trace, layer, [each.fold(layer, norms) for each in self.indicators]

    def _traces(self, archs: Sequence[Architecture]) -> Iterable[LinearTrace]:
        """Run candidates in a pass of fixed shape if there is one, else in one of their own."""
        counts = self.supernet.fixed_counts[self._fidelity] if self._replay is not None else ()
        fits = [count for count in counts if len(archs) <= count <= self.batch_size]
        fixed = self.supernet.fixed_pass(archs, self._fidelity, fits[0]) if fits else None
        replay = None if fixed is None else self._replay_of(fixed)
        if fixed is None or replay is None:
            yield from self.supernet.run(archs, fidelity=self._fidelity)
            return
        for trace in replay(fixed.sizes):
            cut = trace._replace(x=trace.x[:, : len(archs)], delta=trace.delta[:, : len(archs)])
            yield cut._replace(shapes=fixed.shapes(cut))

    def _replay_of(self, fixed: FixedPass) -> Replay | None:
        """Return the replay of a pass, made at its first use; None if it cannot be made."""
        if fixed.key not in self._replays:
            assert self._replay is not None
            device = self.supernet.device
            try:
                self._replays[fixed.key] = self._replay(fixed.run, fixed.sizes, device, self._pool)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                _LOG.warning("passes cannot be recorded on %s, and take longer: %s", device, error)
                self._replay = None
                return None
        return self._replays[fixed.key]

    @cached_property
    def _pool(self) -> object:
        """The memory that recorded passes share, as only one of them is in use at a time."""
        cuda = self.supernet.device.type == "cuda"
        return torch.cuda.graph_pool_handle() if cuda else None

    def _overflow(self, archs: Sequence[Architecture]) -> NotFiniteError:
        names = ", ".join(indicator.name for indicator in self.indicators)
        of = f" ({archs[0].summary()})" if len(archs) == 1 else ""
        return NotFiniteError(
            f"{names}: a score is not finite in {self.supernet.dtype}{of}; use torch.float64"
        )

    @contextlib.contextmanager
    def _finite(self, archs: Sequence[Architecture]) -> Iterator[None]:
        try:
            yield
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise self._overflow(archs) from error

    def _alone(self) -> contextlib.AbstractContextManager[object]:
        """Let other threads wait, as the next pass overwrites the tensors of a replay."""
        return self._replaying if self._replay is not None else contextlib.nullcontext()

    @contextlib.contextmanager
    def _mode(self) -> Iterator[None]:
        with matmul_precision(self._precision), torch.inference_mode():
            yield


def _of_own_layers(terms: Tensor, layer: Layer) -> Tensor:
    """Set the terms of candidates that lack a layer to zero, shape (..., layers, candidates)."""
    own = [[out > 0 for out, _ in each] for each in layer.shapes]
    if all(map(all, own)):
        return terms
    return torch.where(torch.tensor(own, device=terms.device), terms, 0.0)


def _batch_size(supernet: Supernet, fidelity: str) -> int:
    """Return the most candidates in one pass; on a GPU they fit into half of the free memory."""
    limit = supernet.at_once[fidelity, supernet.device.type]
    if supernet.device.type != "cuda":
        return limit
    free, _ = torch.cuda.mem_get_info(supernet.device)
    return max(1, min(limit, free // 2 // supernet.pass_bytes(fidelity)))
