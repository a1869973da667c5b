"""Indicators that fold passes of images through the stand-alone networks of candidates."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from tftas_optuna.metrics import Indicator, NotFiniteError, checked
from tftas_optuna.passes.anatomy import read_anatomy, weight_of
from tftas_optuna.passes.networks import check_classifier, inspect_model
from tftas_optuna.passes.recording import record
from tftas_optuna.passes.structure import Piece, read_structure
from tftas_optuna.passes.tally import LayerTally, Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.passes.ground import Ground
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.networks import View
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.passes.structure import Structure
    from tftas_optuna.passes.tally import Needs, Tally, Weight


@dataclasses.dataclass(frozen=True)
class NetworkIndicator(Indicator):
    """An indicator that folds passes of images through the network as it is, signs kept.

    A subclass says what it :attr:`needs` and makes a :class:`Tally` for each network. Batches,
    workers, seeds, resume, ``score``, ``correlate`` and any timm model then work without another
    line, and indicators that need the same passes share them.
    """

    needs: ClassVar[Needs]

    @abstractmethod
    def tally(self, network: Network) -> Tally:
        """Begin with a network."""

    @property
    def batches(self) -> int:
        """Batches of images that it sees; 0 where the weights alone are enough."""
        return self.needs.batches if self.needs.events else 0

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may compute it at the same time.

        Second derivatives choose kernels for the whole process.
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
        """Make the engine of several such indicators; see :meth:`Indicator.engine`."""
        return NetworkEngine(ground, indicators)

    def score_network(self, model: nn.Module, view: View) -> float:
        """Score a stand-alone network; see :meth:`Indicator.score_network`."""
        return checked(self.name, self._folded(model, view).value())

    def explain_network(self, model: nn.Module, view: View) -> list[LayerScore]:
        """Score a stand-alone network layer by layer; see :meth:`Indicator.explain_network`."""
        return self.rows(self._folded(model, view))

    def rows(self, tally: Tally) -> list[LayerScore]:
        """Return what each layer adds to a value.

        Raises:
            TftasError: It is no sum over layers.
        """
        if not isinstance(tally, LayerTally):
            self.refuse_layers()
        return tally.rows

    def _folded(self, model: nn.Module, view: View) -> Tally:
        """Run the passes that it needs."""
        check_classifier(model)
        structure = inspect_model(model, img_size=view.shape[1:])
        images = view.images_for(model, self.needs.batches)
        return record(model, structure, [self], images, view.seed)[0]


class NetworkEngine:
    """Scores candidates of one supernet by several indicators in as few passes as they allow.

    Args:
        ground: The supernet, and the images that are seen with it.
        indicators: What to score.

    Attributes:
        indicators: The same.
    """

    batch_size = 1

    def __init__(self, ground: Ground, indicators: Sequence[NetworkIndicator]) -> None:
        self.supernet = ground.supernet
        self.indicators = tuple(indicators)
        self._ground = ground
        # Read now, so that pictures that do not fit are told before the first candidate.
        self._images = ground.images(max(each.needs.batches for each in indicators))

    def prepare(self) -> None:
        """Draw the weights, for which the first network would wait."""
        if any(each.needs.events for each in self.indicators):
            _ = self.supernet.state_dict

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Score candidates, in their order; each by every indicator."""
        return [self._score(arch) for arch in archs]

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer by the first indicator, in forward order."""
        return self.indicators[0].rows(self._record(arch)[0])

    def _score(self, arch: Architecture) -> tuple[float, ...]:
        try:
            return tuple(
                checked(indicator.name, tally.value(), self._told(arch, [indicator]))
                for indicator, tally in zip(self.indicators, self._record(arch), strict=True)
            )
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            names = ", ".join(indicator.name for indicator in self.indicators)
            raise NotFiniteError(
                f"{names}: a matrix has no eigenvalues: it is not finite"
                f" ({self._told(arch, self.indicators)})"
            ) from error

    def _told(self, arch: Architecture, indicators: Sequence[NetworkIndicator]) -> str:
        """Say what was scored: pictures may be the cause, such as all of them equal."""
        data_dir = self._ground.data_dir
        if data_dir is None or not any(each.batches for each in indicators):
            return arch.summary()
        return f"{arch.summary()}; on pictures of {data_dir!r}"

    def _record(self, arch: Architecture) -> list[Tally]:
        if not any(each.needs.events for each in self.indicators):
            network = Network(self._weights(arch), self._ground.per_batch)
            return [each.tally(network) for each in self.indicators]
        model = self.supernet.subnet(arch)
        structure = read_structure(model)
        return record(model, structure, self.indicators, self._images, self._ground.seed)

    def _weights(self, arch: Architecture) -> list[Weight]:
        """Describe the weights of a candidate without its network: as parts of the largest one."""
        outline, structure = self.supernet.outline(arch), self._largest
        known = {*structure.left_out, *(p.parameter for m in structure.counted for p in m.pieces)}
        # Cut matrices are cut elsewhere in a smaller network.
        whole = all(p[1:] == Piece("")[1:] for m in structure.counted for p in m.pieces)
        if not whole or any(w.ndim > 1 and name not in known for name, w in outline.items()):
            model = self.supernet.blank(arch)
            return [weight for _, weight in read_anatomy(model, read_structure(model)).matrices]
        return [
            weight_of(matrix, outline, structure.blocks)
            for matrix in structure.counted
            if matrix.pieces[0].parameter in outline
        ]

    @cached_property
    def _largest(self) -> Structure:
        return read_structure(self.supernet.blank(self.supernet.largest))
