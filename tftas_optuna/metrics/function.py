"""Indicators that are functions of a network, computed for one candidate at a time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics.base import checked
from tftas_optuna.metrics.indicator import Indicator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.passes.ground import Ground
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.networks import View
    from tftas_optuna.passes.precision import MatmulPrecision


@dataclasses.dataclass(frozen=True)
class FunctionIndicator(Indicator):
    """An indicator that is a function of a stand-alone network.

    Attributes:
        score: ``score(model, images) -> float``. The network is in eval mode and has the
            weights of the study's supernet, with their signs; ``images`` is one image of ones,
            shape (1, in_chans, img_size, img_size), on its device. The function must be
            deterministic.
    """

    score: Callable[[Any, Any], float] = dataclasses.field(kw_only=True)
    _hidden: ClassVar[frozenset[str]] = frozenset({"score"})

    @property
    def defined_by(self) -> object:
        """The function that computes its value."""
        return self.score

    def engine(
        self,
        ground: Ground,
        indicators: Sequence[Any],
        *,
        fidelity: str,
        precision: MatmulPrecision,
    ) -> FunctionEngine:
        """Return the engine of several functions; see :meth:`Indicator.engine`."""
        return FunctionEngine(ground, indicators)

    def score_network(self, model: nn.Module, view: View) -> float:
        """Score a stand-alone network; see :meth:`Indicator.score_network`."""
        return self.of_network(model, view.shape)

    def of_network(self, model: nn.Module, shape: tuple[int, int, int], label: str = "") -> float:
        """Score one network in eval mode on an image of ones.

        Args:
            model: The network.
            shape: Channels, height and width of the image.
            label: Description of the network for error messages.

        Raises:
            NotFiniteError: The score is not a finite number.
        """
        # The caller has a network, so PyTorch is already loaded.
        import torch

        like = next(model.parameters())
        images = torch.ones(1, *shape, dtype=like.dtype, device=like.device)
        score: object = self.score(model, images)
        try:
            value = float(score)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            suffix = f" ({label})" if label else ""
            raise TftasError(
                f"indicator {self.name!r} gives a {type(score).__name__} that is not a"
                f" number{suffix}: {error}"
            ) from error
        return checked(self.name, value, label)


class FunctionEngine:
    """Scores candidates of one supernet by functions of their stand-alone networks.

    Args:
        ground: The supernet, which also defines the size of the image.
        indicators: The functions.
    """

    batch_size = 1

    def __init__(self, ground: Ground, indicators: Sequence[FunctionIndicator]) -> None:
        self._supernet = ground.supernet
        self._indicators = tuple(indicators)

    def prepare(self) -> None:
        """Do nothing: the weights are drawn when the first network is built."""

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Return the scores of each candidate, one per indicator."""
        size = self._supernet.img_size
        shape = (self._supernet.in_chans, size, size)
        rows = []
        for arch in archs:
            network, label = self._supernet.subnet(arch), arch.summary()
            rows.append(tuple(i.of_network(network, shape, label) for i in self._indicators))
        return rows

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Raise an error, because a function is not a sum over layers."""
        self._indicators[0].refuse_layers()
