"""Indicators computed from the outputs of a candidate's slices for labelled images."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import Indicator, checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.passes.ground import Ground
    from tftas_optuna.passes.labelled import LabelledImages
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.networks import View
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.scoring.conditions import Conditions

# Pixels and images of one pass above which it gets no more efficient.
_PIXELS = {"cpu": 1 << 21, "cuda": 1 << 24}
_MOST_IMAGES = {"cpu": 512, "cuda": 8192}


@dataclasses.dataclass(frozen=True)
class LabelledIndicator(Indicator):
    """The mean over labelled images of what a candidate's slices of a trained supernet answer.

    All indicators of this kind share the passes of a candidate. A drawn supernet is refused, as
    its answers are chance, unless the user asks for it by name.

    Attributes:
        held_out: Whether it sees the images that are held out from all objectives.
    """

    held_out: bool = dataclasses.field(default=False, kw_only=True)
    _hidden = frozenset({"held_out"})

    @abstractmethod
    def of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return a value for each image.

        Args:
            logits: Outputs of the network, shape (images, classes).
            labels: The numbers of the classes, shape (images,).
        """

    @property
    def labelled(self) -> bool:
        """True: it sees labelled images."""
        return True

    @property
    def side_by_side(self) -> bool:
        """True: several threads may compute it at the same time."""
        return True

    def check_conditions(self, conditions: Conditions) -> None:
        """Check that there are labelled images, and weights that were trained or asked for.

        A classifier for other classes than those of the conditions was not trained.

        Raises:
            TftasError: There are none.
        """
        source = conditions.supernet
        if source.path is None and not source.chosen:
            raise TftasError(
                f"{self.name} on a drawn supernet is that of chance; give a trained supernet"
                " (--supernet PATH), or 'drawn' if that is meant"
            )
        if source.trained is not None and source.trained.num_classes != conditions.num_classes:
            raise TftasError(
                f"{self.name} needs a trained classifier, and {source.path} has none of"
                f" {conditions.num_classes} classes; train it for them first"
            )
        if conditions.evaluation is None:
            raise TftasError(
                f"{self.name} needs labelled images; give a folder of them as data_dir"
                " (--data-dir)"
            )

    def engine(
        self,
        ground: Ground,
        indicators: Sequence[Any],
        *,
        fidelity: str,
        precision: MatmulPrecision,
    ) -> LabelledEngine:
        """Make an engine for several such indicators; see :meth:`Indicator.engine`."""
        return LabelledEngine(ground, indicators)

    def score_network(self, model: nn.Module, view: View) -> float:
        """Refuse, as a network alone has no trained supernet and no labelled images.

        Raises:
            TftasError: Always.
        """
        raise TftasError(
            f"{self.name} is that of a slice of a trained supernet; give one (--supernet PATH)"
            " with candidates of its space"
        )


class LabelledEngine:
    """Scores candidates of one supernet on labelled images, by several indicators at once.

    Args:
        ground: The supernet and its images.
        indicators: The indicators.
    """

    batch_size = 1

    def __init__(self, ground: Ground, indicators: Sequence[LabelledIndicator]) -> None:
        self._supernet = ground.supernet
        self._indicators = tuple(indicators)
        # Read now, so that unsuitable images are an error before the first candidate.
        self._images = {
            indicator.held_out: ground.labelled(indicator.held_out) for indicator in indicators
        }
        height, width = next(iter(self._images.values())).pixels.shape[2:]
        kind = self._supernet.device.type
        pixels = _PIXELS.get(kind, _PIXELS["cpu"])
        most = _MOST_IMAGES.get(kind, _MOST_IMAGES["cpu"])
        self._at_once = min(max(1, pixels // (height * width)), most)

    def prepare(self) -> None:
        """Draw or move the weights now, so that the first network does not wait for them."""
        _ = self._supernet.weights

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Return the scores of candidates in their order, each by every indicator."""
        return [self._score(arch) for arch in archs]

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Raise an error, because an answer is not a sum over layers."""
        self._indicators[0].refuse_layers()

    def _score(self, arch: Architecture) -> tuple[float, ...]:
        logits = self._logits(arch)
        return tuple(
            checked(i.name, self._mean(i, logits[i.held_out]), arch.summary())
            for i in self._indicators
        )

    def _mean(self, indicator: LabelledIndicator, logits: Tensor) -> float:
        # A network without finite outputs would have an accuracy all the same.
        if not bool(logits.isfinite().all()):
            return float("nan")
        values = indicator.of_images(logits, self._images[indicator.held_out].labels)
        return float(values.double().mean())

    @torch.inference_mode()
    def _logits(self, arch: Architecture) -> dict[bool, Tensor]:
        """Return a candidate's outputs for each share of the images, shape (images, classes)."""
        with self._supernet.lend(arch) as (model, weights):
            return {
                share: torch.cat(
                    [
                        functional_call(model, weights, (self._inputs(images, start),))
                        for start in range(0, len(images.labels), self._at_once)
                    ]
                )
                for share, images in self._images.items()
            }

    def _inputs(self, images: LabelledImages, start: int) -> Tensor:
        return images.normalised(start, start + self._at_once, self._supernet.dtype)
