"""Scores candidates by passes of images through their stand-alone networks."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.anatomy import read_anatomy, weight_of
from tftas_optuna.indicators.base import NotFiniteError, checked
from tftas_optuna.indicators.recording import record
from tftas_optuna.indicators.structure import Piece, read_structure
from tftas_optuna.indicators.tally import LayerTally, Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.base import LayerScore
    from tftas_optuna.indicators.basis import Basis
    from tftas_optuna.indicators.structure import Structure
    from tftas_optuna.indicators.tally import NetworkIndicator, Tally, Weight


class NetworkEngine:
    """Scores candidates of one supernet by several indicators in as few passes as they allow.

    Args:
        basis: Supernets and images.
        offset: Which of them.
        indicators: What to score.

    Attributes:
        indicators: The same.
    """

    batch_size = 1

    def __init__(self, basis: Basis, offset: int, indicators: Sequence[NetworkIndicator]) -> None:
        self.supernet = basis.supernets[offset]
        self.indicators = tuple(indicators)
        self._images = basis.images(offset, max(each.needs.batches for each in indicators))
        self._data_dir = basis.data_dir
        self._n_images = basis.n_images
        self._seed = basis.seed + offset

    def prepare(self) -> None:
        """Draw the weights, for which the first network would wait."""
        if any(each.needs.events for each in self.indicators):
            _ = self.supernet.state_dict

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Score candidates, in their order; each by every indicator."""
        return [self._score(arch) for arch in archs]

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer by the first indicator, in forward order."""
        return rows_of(self.indicators[0], self._record(arch)[0])

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
        if self._data_dir is None or not any(each.needs.events for each in indicators):
            return arch.summary()
        return f"{arch.summary()}; on pictures of {self._data_dir!r}"

    def _record(self, arch: Architecture) -> list[Tally]:
        if not any(each.needs.events for each in self.indicators):
            network = Network(self._weights(arch), self._n_images)
            return [each.tally(network) for each in self.indicators]
        model = self.supernet.subnet(arch)
        structure = read_structure(model)
        return record(model, structure, self.indicators, self._images, self._seed)

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


def rows_of(indicator: NetworkIndicator, tally: Tally) -> list[LayerScore]:
    """Return what each layer adds to a value.

    Raises:
        TftasError: It is no sum over layers.
    """
    if not isinstance(tally, LayerTally):
        raise TftasError(f"indicator {indicator.name!r} is one number, not a sum over layers")
    return tally.rows
