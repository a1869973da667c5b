"""A supernet whose members are trained together, as a network with a choice of member."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet

_MOST_KEPT = 64
# PyTorch's parameters cannot have points in their names.
_POINT = "/"


class SharedNetwork(nn.Module):
    """The weights of a supernet as parameters; it computes as one of its members.

    A pass slices the parameters for the member and runs the member's own network with the slices.
    They are views, so gradients flow back to the parameters: a shared tensor gets zeros where the
    member does not use it, and a tensor that no member of a step uses gets no gradient at all.

    Args:
        supernet: The supernet, with the weights to begin with.
        member: The member to begin with.
        **kwargs: timm's model arguments for the members, such as ``drop_path_rate``.
    """

    def __init__(self, supernet: Supernet, member: Architecture, **kwargs: Any) -> None:
        super().__init__()
        for name, weight in supernet.state_dict.items():
            self.register_parameter(name.replace(".", _POINT), nn.Parameter(weight.clone()))
        self._blanks = _Blanks(supernet, kwargs)
        self.member = member
        example: Any = self._blanks.get(member, torch.device("cpu"))
        self.num_classes: int = supernet.num_classes
        self.pretrained_cfg: dict[str, Any] = dict(example.pretrained_cfg)
        own = getattr(example, "no_weight_decay", set)
        self._not_decayed: set[str] = set(own())

    @property
    def supernet(self) -> Supernet:
        """The supernet that members are sliced by; its own weights are the first ones."""
        return self._blanks.supernet

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters by their names in the supernet."""
        return {
            name.replace(_POINT, "."): cast("Tensor", parameter)
            for name, parameter in self._parameters.items()
        }

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the current member for images, (batch, classes)."""
        blank = self._blanks.get(self.member, images.device).train(self.training)
        slices = self.supernet.weights_of(self.member, self.tensors())
        logits: Tensor = torch.func.functional_call(blank, slices, (images,))
        return logits

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that timm does not decay besides vectors."""
        return self._not_decayed


class _Blanks:
    """Networks of members without weights, kept because building them takes longer than slicing.

    Copies of a network share them.
    """

    def __init__(self, supernet: Supernet, kwargs: dict[str, Any]) -> None:
        self.supernet = supernet
        self._kwargs = kwargs
        self._kept: OrderedDict[tuple[Architecture, torch.device], nn.Module] = OrderedDict()

    def __deepcopy__(self, memo: object) -> _Blanks:
        return self

    def get(self, member: Architecture, device: torch.device) -> nn.Module:
        key = member, device
        if key not in self._kept:
            blank = self.supernet.blank(member, **self._kwargs).to(device)
            for module in blank.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        # Slices take their place, so they need no memory.
                        empty = nn.Parameter(parameter.to("meta"), requires_grad=False)
                        module._parameters[name] = empty
            self._kept[key] = blank
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


class Draws:
    """Draws the members of every step from the seed of the recipe.

    Args:
        space: The space of the members.
        members: The members; empty for all of the space, drawn uniformly.
        recipe: ``shared_members`` members are drawn for a step, by the ``shared_rule``.

    Attributes:
        smallest: The member with the fewest parameters.
        largest: The member with the most parameters.

    Raises:
        TftasError: Settings of the recipe do not apply, or do not go together.
    """

    def __init__(
        self, space: SearchSpace, members: Sequence[Architecture], recipe: Recipe
    ) -> None:
        self._space, self._members, self._recipe = space, list(members), recipe
        if recipe.layer_decay is not None:
            raise TftasError("recipe: layer_decay does not apply to shared training; leave it out")
        if recipe.teacher is not None:
            raise TftasError(
                "recipe: a teacher does not apply to shared training; leave it out, or give"
                " --set shared_rule=sandwich --set shared_distillation=true"
            )
        if recipe.shared_rule == "sandwich" and recipe.shared_members < 2:
            raise TftasError(
                f"recipe: shared_members is {recipe.shared_members}; shared_rule sandwich draws"
                " the largest and the smallest member in every step, so give 2 or more"
            )
        if recipe.shared_distillation and recipe.shared_rule != "sandwich":
            raise TftasError(
                "recipe: shared_distillation learns from the largest member of every step; give"
                " --set shared_rule=sandwich"
            )
        ends = members or (space.smallest(), space.largest())
        self.smallest = min(ends, key=lambda arch: space.costs(arch).n_params)
        self.largest = max(ends, key=lambda arch: space.costs(arch).n_params)

    def of_step(self, update: int) -> list[Architecture]:
        """Return the members of an optimizer step, different ones, the largest first if fixed.

        Args:
            update: Number of the step, from 0 at the beginning of the training.
        """
        recipe = self._recipe
        rng = np.random.default_rng([recipe.seed, update])
        fixed: list[Architecture] = []
        if recipe.shared_rule == "sandwich":
            fixed = list(dict.fromkeys((self.largest, self.smallest)))
        wanted = recipe.shared_members - len(fixed)
        if not self._members:
            return fixed + [self._space.sample(rng) for _ in range(wanted)]
        others = [member for member in self._members if member not in fixed]
        picks = rng.choice(len(others), size=min(wanted, len(others)), replace=False)
        return fixed + [others[pick] for pick in picks]
