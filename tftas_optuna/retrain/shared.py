"""Trains the members of a front, or a whole space, together: as slices of one supernet."""

from __future__ import annotations

import csv
import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from tftas_optuna._writing import replacing
from tftas_optuna.errors import TftasError
from tftas_optuna.retrain.folder import writing
from tftas_optuna.retrain.members import Draws, SharedNetwork
from tftas_optuna.retrain.network import other_classes
from tftas_optuna.retrain.slices import weights_text
from tftas_optuna.retrain.training import Training
from tftas_optuna.scoring.basis import open_supernet
from tftas_optuna.scoring.conditions import Conditions, SupernetSource
from tftas_optuna.supernet.files import Preprocessing, TrainedSupernet, write_supernet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.spaces import SearchSpace

MEMBERS = "members.csv"
# Members of a whole space that are evaluated at the end, besides the smallest and the largest.
_SAMPLED = 8


class Member(NamedTuple):
    """An architecture that is trained together with others.

    Attributes:
        name: What to call it.
        architecture: The architecture.
        trial: Number of its trial; None if it comes from no study.
    """

    name: str
    architecture: Architecture
    trial: int | None = None


class SharedTraining(Training):
    """A training whose every step trains some members of a supernet.

    The gradients of the members of a step add up. Parameters that none of them uses have no
    gradient, so the optimizer leaves them as they are.

    Args:
        model: The supernet.
        recipe: How it is trained.
        loader: Training images of this process.
        num_classes: Outputs of the members.
        world: This process among all.
        draws: Draws the members of a step; the same in all processes.
        shown: The members that are evaluated after an epoch.
    """

    # Members differ in depth.
    distributed_options: ClassVar[dict[str, Any]] = {"find_unused_parameters": True}

    def __init__(
        self,
        model: SharedNetwork,
        recipe: Recipe,
        loader: Any,
        num_classes: int,
        world: World,
        *,
        draws: Draws,
        shown: Sequence[Architecture],
    ) -> None:
        super().__init__(model, recipe, loader, num_classes, world)
        self._model = model
        self._draws = draws
        self._shown = tuple(shown)
        self._soft = SoftTargetCrossEntropy()

    def example(self) -> nn.Module:
        """Return the largest member as a network of its own."""
        return self._model.supernet.blank(self._draws.largest).to(self.world.device)

    def passes(
        self, images: Tensor, targets: Tensor, update: int
    ) -> Sequence[Callable[[], Tensor]]:
        """Return one pass for each member of the step."""
        members = self._draws.of_step(update)
        if not self.recipe.shared_distillation:
            return [partial(self._loss, member, images, targets) for member in members]
        # In-place distillation (Yu et al., BigNAS, ECCV 2020): the largest member learns from the
        # labels, all others learn its outputs.
        taught: list[Tensor] = []

        def teach() -> Tensor:
            self._model.member = members[0]
            done = self.task(images, targets)
            taught.append(done["output"].detach().float().softmax(-1))
            return cast("Tensor", done["loss"])

        def learn(member: Architecture) -> Tensor:
            self._model.member = member
            module = self.task.get_trainable_module()
            assert module is not None
            return cast("Tensor", self._soft(module(images), taught[0]))

        return [teach, *(partial(learn, member) for member in members[1:])]

    def _loss(self, member: Architecture, images: Tensor, targets: Tensor) -> Tensor:
        self._model.member = member
        return cast("Tensor", self.task(images, targets)["loss"])

    def evaluate(self, loader: Any) -> dict[str, float]:
        """Return the means over the shown members of cross-entropy, top-1 and top-5."""
        rows = self.evaluate_members(self._shown, loader)
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def evaluate_members(
        self, members: Sequence[Architecture], loader: Any
    ) -> list[dict[str, float]]:
        """Return ``loss``, ``top1`` and ``top5`` of members, in one pass over the images."""
        network = cast("SharedNetwork", self.network)
        return self.evaluate_each(
            [partial(setattr, network, "member", member) for member in members], loader
        )


@dataclasses.dataclass(frozen=True)
class SharedMembers:
    """Members of one space that are trained together.

    Attributes:
        label: What to call the supernet, a plain file name.
        space: The space, whose supernet holds all members.
        img_size: Height and width of the input, in pixels.
        members: The members; empty for all of the space.
        source: The supernet to start from; None to draw one from the seed of the recipe.

    Raises:
        TftasError: There are less than two members, or one does not fit the space.
    """

    label: str
    space: SearchSpace
    img_size: int
    members: tuple[Member, ...] = ()
    source: SupernetSource | None = None

    def __post_init__(self) -> None:
        archs = {member.architecture for member in self.members}
        if self.members and len(archs) < 2:
            raise TftasError(
                f"{self.members[0].name} is the only member; shared training needs two or more:"
                " choose more, or train it by itself"
            )
        drawn = Conditions.of(self.space, img_size=self.img_size)
        supernet = open_supernet(drawn)
        for member in self.members:
            try:
                supernet.check(member.architecture)
            except TftasError as error:
                raise TftasError(
                    f"{member.name} does not fit the supernet of {self.space.name!r}: {error}"
                ) from error

    @property
    def in_chans(self) -> int:
        """Channels of the images."""
        return self.space.in_chans

    @property
    def num_classes(self) -> int | None:
        """A supernet gets as many outputs as the data have classes."""
        return None

    def identity(self) -> dict[str, Any]:
        """Return plain data by which two trainings of the same members are recognised."""
        members = [member.architecture.to_dict() for member in self.members]
        return {
            "network": {
                "space": self.space.to_dict(),
                "members": members or None,
                "img_size": self.img_size,
            },
            "weights": self.weights,
        }

    @property
    def weights(self) -> str:
        """The first weights, as trainings name them."""
        return "scratch" if self.source is None else weights_text(self.source)

    def build(
        self, num_classes: int, class_names: Sequence[str] | None, recipe: Recipe
    ) -> SharedNetwork:
        """Build the supernet with its first weights.

        A classifier of another size than that of a trained source is drawn.

        Raises:
            TftasError: The source is of another space, or of other classes.
            UnavailableError: It cannot be read.
        """
        source = SupernetSource(recipe.seed) if self.source is None else self.source
        trained = source.trained
        same_classes = trained is None or trained.num_classes == num_classes
        theirs = None if trained is None else trained.class_names
        if same_classes and None not in (class_names, theirs):
            if tuple(class_names or ()) != theirs:
                raise TftasError(other_classes(source, theirs or (), class_names or ()))
        supernet = open_supernet(
            Conditions(self.space, self.img_size, num_classes, supernet=source),
            new_classifier=True,
        )
        model = SharedNetwork(
            supernet,
            self.draws(recipe).largest,
            drop_rate=recipe.drop,
            drop_path_rate=recipe.drop_path,
        )
        if trained is not None:
            model.pretrained_cfg.update(trained.preprocessing.to_dict())
        return model

    def training(
        self, model: SharedNetwork, recipe: Recipe, loader: Any, num_classes: int, world: World
    ) -> SharedTraining:
        """Return the training of the supernet."""
        by_size = sorted(
            {member.architecture for member in self._evaluated(recipe.seed)},
            key=lambda arch: self.space.costs(arch).n_params,
        )
        shown = dict.fromkeys((by_size[0], by_size[len(by_size) // 2], by_size[-1]))
        return SharedTraining(
            model,
            recipe,
            loader,
            num_classes,
            world,
            draws=self.draws(recipe),
            shown=tuple(shown),
        )

    def keep(self, training: SharedTraining, val_loader: Any, out: Path) -> dict[str, Any]:
        """Evaluate all members, write the supernet and the table of members."""
        recipe, world = training.recipe, training.world
        members = self._evaluated(recipe.seed)
        rows = training.evaluate_members([member.architecture for member in members], val_loader)
        network = cast("SharedNetwork", training.network)
        config = network.pretrained_cfg
        trained = TrainedSupernet(
            path=out,
            tensors={name: t.detach().cpu() for name, t in network.tensors().items()},
            preprocessing=Preprocessing.from_dict(config),
            space=self.space.to_dict(),
            img_size=self.img_size,
            num_classes=network.num_classes,
            class_names=tuple(config["label_names"]) if config.get("label_names") else None,
            members=tuple(m.architecture for m in self.members) if self.members else None,
            slicing=network.supernet.slicing,
            trained_on=f"{recipe.epochs} epochs of recipe {recipe.name}",
        )
        table = [
            {
                "name": member.name,
                "trial": member.trial,
                **row,
                **member.architecture.costs(
                    img_size=self.img_size,
                    num_classes=network.num_classes,
                    in_chans=self.in_chans,
                )._asdict(),
            }
            for member, row in zip(members, rows, strict=True)
        ]
        if world.primary:
            with writing(out):
                _write_table(out / MEMBERS, table)
                write_supernet(trained)
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return {**means, "members": table, "supernet": trained.digest}

    def draws(self, recipe: Recipe) -> Draws:
        """Return the draws of members.

        Raises:
            TftasError: The recipe does not suit shared training.
        """
        return Draws(self.space, [member.architecture for member in self.members], recipe)

    def _evaluated(self, seed: int) -> tuple[Member, ...]:
        """Return the members that are evaluated at the end: all of them, or a sample."""
        if self.members:
            return self.members
        rng = np.random.default_rng(seed)
        ends = {"smallest": self.space.smallest(), "largest": self.space.largest()}
        sampled = {f"sample{i}": self.space.sample(rng) for i in range(_SAMPLED)}
        return tuple(Member(name, arch) for name, arch in {**ends, **sampled}.items())


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
