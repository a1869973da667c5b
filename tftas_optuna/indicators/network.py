"""Indicators computed from passes of images through the stand-alone networks of candidates."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from tftas_optuna.metrics import Indicator, NotFiniteError, checked
from tftas_optuna.passes.anatomy import weight_of
from tftas_optuna.passes.networks import check_classifier, inspect_model
from tftas_optuna.passes.recording import record
from tftas_optuna.passes.structure import Piece, Structure, read_structure
from tftas_optuna.passes.tally import LayerTally, Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.passes.ground import Ground
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.networks import View
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.passes.tally import Needs, Tally, Weight


@dataclasses.dataclass(frozen=True)
class NetworkIndicator(Indicator):
    """An indicator computed from passes of images through the network with its signed weights.

    A subclass declares its :attr:`needs` and makes a :class:`Tally` for each network. Batches,
    workers, seeds, resume, ``score``, ``correlate`` and any timm model then work without further
    code, and indicators that need the same passes share them.
    """

    needs: ClassVar[Needs]

    @abstractmethod
    def tally(self, network: Network) -> Tally:
        """Return a new tally for a network."""

    @property
    def batches(self) -> int:
        """Number of batches of images that it sees; 0 if it needs no passes."""
        return self.needs.batches if self.needs.events else 0

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may compute it at the same time.

        Not with second derivatives, which choose kernels for the whole process.
        """
        return "curvatures" not in self.needs.events

    def engine(
        self,
        ground: Ground,
        indicators: Sequence[Any],
        *,
        fidelity: str,
        precision: MatmulPrecision,
    ) -> NetworkEngine:
        """Make an engine for several such indicators; see :meth:`Indicator.engine`."""
        return NetworkEngine(ground, indicators)

    def score_network(self, model: nn.Module, view: View) -> float:
        """Score a stand-alone network; see :meth:`Indicator.score_network`."""
        return checked(self.name, self._complete_tally(model, view).value())

    def explain_network(self, model: nn.Module, view: View) -> list[LayerScore]:
        """Score a stand-alone network layer by layer; see :meth:`Indicator.explain_network`."""
        return self.rows(self._complete_tally(model, view))

    def rows(self, tally: Tally) -> list[LayerScore]:
        """Return what each layer adds to the value of a tally.

        Raises:
            TftasError: The indicator is not a sum over layers.
        """
        if not isinstance(tally, LayerTally):
            self.refuse_layers()
        return tally.rows

    def _complete_tally(self, model: nn.Module, view: View) -> Tally:
        """Run the passes through a network and return the tally."""
        check_classifier(model)
        structure = inspect_model(model, img_size=view.shape[1:])
        images = view.images_for(model, self.needs.batches)
        return record(model, structure, [self], images, view.seed)[0]


class NetworkEngine:
    """Scores candidates of one supernet by several indicators that share passes.

    Args:
        ground: The supernet and its images.
        indicators: The indicators.

    Attributes:
        supernet: The supernet.
        indicators: The indicators.
    """

    batch_size = 1

    def __init__(self, ground: Ground, indicators: Sequence[NetworkIndicator]) -> None:
        self.supernet = ground.supernet
        self.indicators = tuple(indicators)
        self._ground = ground
        # Read now, so that unsuitable pictures are an error before the first candidate.
        self._images = ground.images(max(indicator.needs.batches for indicator in indicators))

    def prepare(self) -> None:
        """Draw the weights now, so that the first network does not wait for them."""
        if any(indicator.needs.events for indicator in self.indicators):
            _ = self.supernet.weights

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Return the scores of candidates in their order, each by every indicator."""
        return [self._score(arch) for arch in archs]

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Return what each layer adds to the first indicator, in forward order."""
        return self.indicators[0].rows(self._record(arch)[0])

    def _score(self, arch: Architecture) -> tuple[float, ...]:
        try:
            return tuple(
                checked(indicator.name, tally.value(), self._description(arch, [indicator]))
                for indicator, tally in zip(self.indicators, self._record(arch), strict=True)
            )
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            names = ", ".join(indicator.name for indicator in self.indicators)
            raise NotFiniteError(
                f"{names}: a matrix has no eigenvalues: it is not finite"
                f" ({self._description(arch, self.indicators)})"
            ) from error

    def _description(self, arch: Architecture, indicators: Sequence[NetworkIndicator]) -> str:
        """Describe what was scored, with the pictures, as they may be the cause of an error."""
        data_dir = self._ground.data_dir
        if data_dir is None or not any(indicator.batches for indicator in indicators):
            return arch.summary()
        return f"{arch.summary()}; on pictures of {data_dir!r}"

    def _record(self, arch: Architecture) -> list[Tally]:
        if not any(indicator.needs.events for indicator in self.indicators):
            network = Network(self._weights(arch), self._ground.per_batch)
            return [indicator.tally(network) for indicator in self.indicators]
        with self.supernet.lend(arch) as (model, weights):
            structure = self._structure(weights) or read_structure(model)
            images, seed = self._images, self._ground.seed
            return record(model, structure, self.indicators, images, seed, weights)

    def _weights(self, arch: Architecture) -> list[Weight]:
        """Describe the weights of a candidate, if possible from the largest one's structure."""
        outline = self.supernet.outline(arch)
        structure = self._structure(outline)
        if structure is None:
            model = self.supernet.blank(arch)
            outline, structure = dict(model.named_parameters()), read_structure(model)
        return [weight_of(matrix, outline, structure.blocks) for matrix in structure.counted]

    def _structure(self, weights: Mapping[str, Tensor]) -> Structure | None:
        """Return the structure of a candidate as a part of the largest one's; None if unknown."""
        counted, left_out, blocks = self._largest
        names = {*left_out, *(piece.parameter for m in counted for piece in m.pieces)}
        # Pieces of a weight are cut at other positions in a smaller network.
        whole = all(piece[1:] == Piece("")[1:] for m in counted for piece in m.pieces)
        if not whole or any(w.ndim > 1 and name not in names for name, w in weights.items()):
            return None
        return Structure(
            [matrix for matrix in counted if matrix.pieces[0].parameter in weights],
            {name: reason for name, reason in left_out.items() if name in weights},
            [block for block in blocks if any(name.startswith(f"{block}.") for name in weights)],
        )

    @cached_property
    def _largest(self) -> Structure:
        return read_structure(self.supernet.blank(self.supernet.largest))
