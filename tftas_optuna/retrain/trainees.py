"""What a training trains: a network here, or the members of a supernet (``shared.py``)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from tftas_optuna.export.networks import save_timm
from tftas_optuna.retrain.network import build_network
from tftas_optuna.retrain.slices import weights_text
from tftas_optuna.retrain.training import Training

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn

    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.network import Network
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.scoring.conditions import SupernetSource


class Trainee(Protocol):
    """What a training trains: one network, or the members of a supernet."""

    @property
    def in_chans(self) -> int:
        """Channels of the images."""

    @property
    def num_classes(self) -> int | None:
        """Outputs that its source names; None where it names none."""

    def identity(self) -> dict[str, Any]:
        """Return plain data by which two trainings of the same are recognised."""

    def build(self, num_classes: int, class_names: Sequence[str] | None, recipe: Recipe) -> Any:
        """Build the module with its first weights.

        Raises:
            TftasError: The weights do not apply.
            UnavailableError: They cannot be read or do not fit.
        """

    def training(
        self, model: Any, recipe: Recipe, loader: Any, num_classes: int, world: World
    ) -> Training:
        """Return the training of the module."""

    def keep(self, training: Any, val_loader: Any, out: Path) -> dict[str, Any]:
        """Write what was trained, in the primary process, and return facts for the result."""


@dataclasses.dataclass(frozen=True)
class SingleNetwork:
    """One network that is trained by itself.

    Attributes:
        network: The network.
        weights: Weights to start from; see :func:`tftas_optuna.retrain.network.build_network`.
    """

    network: Network
    weights: str | SupernetSource = "scratch"

    @property
    def in_chans(self) -> int:
        """Channels of the images."""
        return self.network.in_chans

    @property
    def num_classes(self) -> int | None:
        """Outputs that its file or its study names; None where they name none."""
        return self.network.num_classes

    def identity(self) -> dict[str, Any]:
        """Return plain data by which two trainings of the same network are recognised."""
        return {"network": self.network.to_dict(), "weights": weights_text(self.weights)}

    def build(
        self, num_classes: int, class_names: Sequence[str] | None, recipe: Recipe
    ) -> nn.Module:
        """Build the network with its first weights."""
        return build_network(
            self.network,
            num_classes=num_classes,
            weights=self.weights,
            seed=recipe.seed,
            class_names=class_names,
            drop_rate=recipe.drop,
            drop_path_rate=recipe.drop_path,
        )

    def training(
        self, model: nn.Module, recipe: Recipe, loader: Any, num_classes: int, world: World
    ) -> Training:
        """Return the training of the network."""
        return Training(model, recipe, loader, num_classes, world)

    def keep(self, training: Training, val_loader: Any, out: Path) -> dict[str, Any]:
        """Write the network as a model that timm loads."""
        if training.world.primary:
            save_timm(training.network, out, trained=True, origin=self.network.origin)
        return {}
