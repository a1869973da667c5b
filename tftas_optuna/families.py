"""The table of families, whose classes are loaded on first use.

A family is a name with the classes of its architectures, spaces, networks and supernets. The
packages of these four do not import this module; they look families up in
``tftas_optuna.architecture.parts``, which is filled here. The built-in families are at the end
of this file. Others are added by :func:`tftas_optuna.register_family`, or by an installed package
through an entry point in the group ``tftas_optuna.families``, whose object is a
:class:`tftas_optuna.Family` or a function that returns one.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast, overload

from tftas_optuna._given import expect, shown
from tftas_optuna.architecture.parts import FAMILIES, FAMILIES_GROUP, family_names
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet

__all__ = ["FAMILIES_GROUP", "Family", "family_names", "get_family", "register_family"]


@dataclasses.dataclass(frozen=True)
class Family:
    """The classes of one family, given as classes or as strings ``"package.module:Name"``.

    Attributes:
        name: Name for spaces and files, in lower case.
        architecture_class: Subclass of :class:`tftas_optuna.Architecture`.
        space_class: Subclass of :class:`tftas_optuna.SearchSpace`.
        network_class: Subclass of ``torch.nn.Module``, constructed as ``network(architecture=...,
            num_classes=..., img_size=..., in_chans=..., drop_path_rate=...)``, and a timm model
            with the name ``tftas_NAME``. It accepts further arguments of timm if they are to be
            used (``drop_rate`` in training), has the attributes ``num_classes``,
            ``num_features`` and ``global_pool``, and is best a subclass of a network of timm. It
            may have ``default_architecture``, which is built if no architecture is given;
            ``timm_cfg``, entries of timm's configuration (``mean``, ``std``, ``classifier``,
            ...); ``feature_cfg`` for timm's ``features_only``, or a function that returns it
            for an architecture; and ``timm_model(architecture, **kwargs)``, a static method that
            returns name and arguments for ``timm.create_model`` of an architecture whose
            :meth:`~tftas_optuna.Architecture.beyond_timm` is None.
        supernet_class: Subclass of :class:`tftas_optuna.supernet.Supernet`.
        ranked_alike: Indicators whose collapsed values rank candidates like the exact values in
            measurements; a search computes these collapsed by default.
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
        """The class of its supernets."""
        return cast("type[Supernet]", self._load("supernet_class"))

    def _load(self, part: str) -> object:
        reference: object = getattr(self, part)
        if not isinstance(reference, str):
            what = 'a class, or "package.module:Name"'
            return expect(f"{part} of family {self.name!r}", reference, type, what)
        module, _, name = reference.partition(":")
        try:
            loaded: object = getattr(importlib.import_module(module), name)
            return loaded
        except (ImportError, AttributeError) as error:
            raise UnavailableError(
                f"family {self.name!r}: its {part.removesuffix('_class')} cannot be loaded from"
                f" {reference} ({error})"
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
    """Register a family in this process.

    An installed package needs no call: it provides an entry point in the group
    ``tftas_optuna.families``. If a search uses several processes, the family must be registered
    in each: register it at the top of the script, or install it.

    Args:
        family: The family, or a function that returns it. Without it the function returns a
            decorator for such a function.
        replace: Whether to replace a family of the same name.

    Returns:
        ``family``, or a decorator that returns the function unchanged.

    Raises:
        TftasError: The name already exists or is not allowed, or the object is not a family.

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
    parts = _as_family(family)
    if not (parts.name.isidentifier() and parts.name == parts.name.lower()):
        raise TftasError(
            f"family name {parts.name!r} is not allowed; give lower-case letters, digits and"
            " underscores"
        )
    if not replace:
        FAMILIES.check_free(parts.name)
    FAMILIES.add(FAMILIES_GROUP, parts.name, parts)
    # Loading the networks takes seconds; they register all families with timm when loaded.
    models = sys.modules.get("tftas_optuna.models")
    if models is not None:
        models.register_with_timm(parts.name)
    return family


def get_family(name: str) -> Family:
    """Return the family of a name.

    Raises:
        TftasError: There is no such family.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name not in FAMILIES:
        raise TftasError(f"unknown family {name!r}{did_you_mean(name, family_names())}")
    return cast("Family", FAMILIES[name])


def _as_family(loaded: object) -> Family:
    family: object = loaded
    if callable(loaded):
        try:
            inspect.signature(loaded).bind()
        except (TypeError, ValueError) as error:
            raise TftasError(
                f"{shown(loaded)} cannot be called without arguments ({error}); give a"
                " tftas_optuna.families.Family, or a function that returns one"
            ) from error
        family = loaded()
    if not isinstance(family, Family):
        raise TftasError(
            f"{shown(family)} is not a family; give a tftas_optuna.families.Family, or a function"
            " that returns one"
        )
    return family


def _read(name: str, loaded: object) -> Family:
    family = _as_family(loaded)
    if family.name != name:
        raise TftasError(f"family {name!r} calls itself {family.name!r}")
    return family


# Kendall's tau between collapsed and exact DSS is at least .9994 on all spaces of both families,
# and at least .9989 for its sums; see benchmarks/dss_fidelity.py.
_RANKED_ALIKE = ("dss", "synaptic_diversity", "synaptic_saliency", "synflow", "auto_prox_a")
_BUILT_IN = {
    family.name: family
    for family in (
        Family(
            "autoformer",
            "tftas_optuna.architecture:AutoFormerArchitecture",
            "tftas_optuna.spaces:AutoFormerSpace",
            "tftas_optuna.models:AutoFormer",
            "tftas_optuna.supernet.autoformer:AutoFormerSupernet",
            ranked_alike=_RANKED_ALIKE,
        ),
        Family(
            "pit",
            "tftas_optuna.architecture:PiTArchitecture",
            "tftas_optuna.spaces:PiTSpace",
            "tftas_optuna.models:PiT",
            "tftas_optuna.supernet.pit:PiTSupernet",
            ranked_alike=_RANKED_ALIKE,
        ),
    )
}
FAMILIES.fill(FAMILIES_GROUP, _BUILT_IN, _read)
