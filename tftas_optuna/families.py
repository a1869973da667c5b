"""The one table of families: what a kind of network brings, loaded when it is first used.

A family is a name with a space, an architecture, a network and a supernet. The rooms of these four
do not import this file: what they ask of a family they look up in the table of
``architecture/parts.py``, which is filled here. The built-in ones stand at the end; others are
added by :func:`tftas_optuna.register_family`, or by an installed package through an entry point in
the group ``tftas_optuna.families`` whose object is a :class:`tftas_optuna.Family` or a function
that returns one.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast, overload

from tftas_optuna.architecture.parts import FAMILIES, FAMILIES_GROUP, family_names
from tftas_optuna.errors import TftasError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet

__all__ = ["FAMILIES_GROUP", "Family", "family_names", "get_family", "register_family"]


@dataclasses.dataclass(frozen=True)
class Family:
    """The parts of one family, each a class or where to find it, as ``"package.module:Name"``.

    Attributes:
        name: What spaces and files call it, in lower case.
        architecture_class: Subclass of :class:`tftas_optuna.Architecture`.
        space_class: Subclass of :class:`tftas_optuna.SearchSpace`.
        network_class: ``torch.nn.Module``, made as ``network(architecture=..., num_classes=...,
            img_size=..., in_chans=..., drop_path_rate=...)``, and a timm model under the name
            ``tftas_NAME``. It takes such other arguments of timm's as are to be used
            (``drop_rate`` in training), keeps ``num_classes``, ``num_features`` and
            ``global_pool``, and is best a subclass of one of timm's networks. It may have
            ``default_architecture``, to be built without an architecture; ``timm_cfg``, entries
            of timm's configuration (``mean``, ``std``, ``classifier``, ...); and
            ``feature_cfg``, for timm's ``features_only``, or a function that returns it for an
            architecture.
        supernet_class: Subclass of :class:`tftas_optuna.supernet.Supernet`.
        ranked_alike: Indicators by whose collapsed values candidates are ranked as by the exact
            ones, as far as was measured; a search computes these collapsed unless it is told
            otherwise.
    """

    name: str
    architecture_class: type[Architecture] | str
    space_class: type[SearchSpace] | str
    network_class: type[nn.Module] | str
    supernet_class: type[Supernet[Any]] | str
    ranked_alike: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    blocks_class: dataclasses.InitVar[object] = None

    def __post_init__(self, blocks_class: object) -> None:
        if blocks_class is not None:
            raise TftasError(
                f"family {self.name!r} has a blocks_class, which is gone; give its Architecture"
                " block_kinds and with_blocks, and its SearchSpace block_kinds"
            )

    @cached_property
    def architecture(self) -> type[Architecture]:
        """The class of its architectures."""
        return cast("type[Architecture]", self._load("architecture_class"))

    @cached_property
    def space(self) -> type[SearchSpace]:
        """The class of its search spaces."""
        return cast("type[SearchSpace]", self._load("space_class"))

    @cached_property
    def network(self) -> type[nn.Module]:
        """The class of its stand-alone networks."""
        return cast("type[nn.Module]", self._load("network_class"))

    @cached_property
    def supernet(self) -> type[Supernet]:
        """The class of its shared weights."""
        return cast("type[Supernet]", self._load("supernet_class"))

    def _load(self, part: str) -> object:
        found: object = getattr(self, part)
        if not isinstance(found, str):
            return found
        module, _, name = found.partition(":")
        try:
            loaded: object = getattr(importlib.import_module(module), name)
            return loaded
        except (ImportError, AttributeError) as error:
            raise UnavailableError(
                f"family {self.name!r}: its {part.removesuffix('_class')} cannot be loaded from"
                f" {found} ({error})"
            ) from error


@overload
def register_family(family: Family, *, replace: bool = ...) -> Family: ...


@overload
def register_family(
    family: Callable[[], Family], *, replace: bool = ...
) -> Callable[[], Family]: ...


@overload
def register_family(
    family: None = None, *, replace: bool = ...
) -> Callable[[Callable[[], Family]], Callable[[], Family]]: ...


def register_family(
    family: Family | Callable[[], Family] | None = None, *, replace: bool = False
) -> object:
    """Add a family to the table, for this process.

    An installed package does the same without any call by an entry point in the group
    ``tftas_optuna.families``. Where a search scores in several processes, each has to know the
    family: register it at the top of the script, or install it.

    Args:
        family: Its parts, or a function that returns them. Without it this is a decorator of
            such a function.
        replace: Whether to take the place of a family of the same name.

    Returns:
        What was given.

    Raises:
        TftasError: The name is taken or no plain name, or this is no family.

    Example:
        >>> from tftas_optuna.families import Family, register_family
        >>> @register_family
        ... def mixers() -> Family:
        ...     return Family(
        ...         "mixers",
        ...         architecture_class="mixers.architecture:Mixer",
        ...         space_class="mixers.space:MixerSpace",
        ...         network_class="mixers.network:MixerNetwork",
        ...         supernet_class="mixers.supernet:MixerSupernet",
        ...     )
    """
    if family is None:
        return partial(register_family, replace=replace)
    found = _parts_of(family)
    if not (found.name.isidentifier() and found.name == found.name.lower()):
        raise TftasError(
            f"family name {found.name!r} is not allowed; give lower-case letters, digits and"
            " underscores"
        )
    if not replace:
        FAMILIES.check_free(found.name)
    FAMILIES.add(FAMILIES_GROUP, found.name, found)
    # Where networks are not loaded yet, which takes seconds, timm learns of it when they are.
    models = sys.modules.get("tftas_optuna.models")
    if models is not None:
        models.register_with_timm(found.name)
    return family


def get_family(name: str) -> Family:
    """Look a family up.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name not in FAMILIES:
        raise TftasError(f"unknown family {name!r}; known: {', '.join(family_names())}")
    return cast("Family", FAMILIES[name])


def _parts_of(brought: object) -> Family:
    family: object = brought() if callable(brought) else brought
    if not isinstance(family, Family):
        raise TftasError(
            f"{family!r} is no family; give a tftas_optuna.families.Family, or a function that"
            " returns one"
        )
    return family


def _read(name: str, brought: object) -> Family:
    family = _parts_of(brought)
    if family.name != name:
        raise TftasError(f"family {name!r} calls itself {family.name!r}")
    return family


# Kendall's tau of collapsed and exact DSS is .9994 and more on all spaces of both families:
# benchmarks/dss_fidelity.py.
_BUILT_IN = {
    family.name: family
    for family in (
        Family(
            "autoformer",
            "tftas_optuna.architecture:AutoFormerArchitecture",
            "tftas_optuna.spaces:AutoFormerSpace",
            "tftas_optuna.models:AutoFormer",
            "tftas_optuna.supernet.autoformer:AutoFormerSupernet",
            ranked_alike=("dss", "synflow", "auto_prox_a"),
        ),
        Family(
            "pit",
            "tftas_optuna.architecture:PiTArchitecture",
            "tftas_optuna.spaces:PiTSpace",
            "tftas_optuna.models:PiT",
            "tftas_optuna.supernet.pit:PiTSupernet",
            ranked_alike=("dss", "synflow", "auto_prox_a"),
        ),
    )
}
FAMILIES.fill(FAMILIES_GROUP, _BUILT_IN, _read)
