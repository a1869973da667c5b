"""The one table of families: what a kind of network brings, loaded when it is first used.

A family is a name with a space, an architecture, a network and a supernet. The built-in ones stand
at the end of this file; others are added by :func:`tftas_optuna.register_family`, or by an
installed package through an entry point in the group ``tftas_optuna.families`` whose object is a
:class:`tftas_optuna.Family` or a function that returns one.
"""

from __future__ import annotations

import dataclasses
import importlib
from functools import cached_property, lru_cache, partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast, overload

from tftas_optuna.errors import TftasError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.costs import Blocks
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet

FAMILIES_GROUP = "tftas_optuna.families"


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
        blocks_class: How networks fall into blocks whose costs add up, see
            :class:`tftas_optuna.costs.Blocks`; None where they do not, and costs are
            then taken network by network.
        ranked_alike: Indicators by whose collapsed values candidates are ranked as by the exact
            ones, as far as was measured; a search computes these collapsed unless it is told
            otherwise.
    """

    name: str
    architecture_class: type[Architecture] | str
    space_class: type[SearchSpace] | str
    network_class: type[nn.Module] | str
    supernet_class: type[Supernet[Any]] | str
    blocks_class: type[Blocks] | str | None = None
    ranked_alike: tuple[str, ...] = ()

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

    def build(self, arch: Architecture, **kwargs: Any) -> nn.Module:
        """Build the stand-alone network of an architecture; see :func:`tftas_optuna.build_model`.

        It loads PyTorch and timm, for those who may not.
        """
        # By its name, as everything that a family brings.
        models = importlib.import_module("tftas_optuna.models")
        return cast("nn.Module", models.build_model(arch, **kwargs))

    @cached_property
    def supernet(self) -> type[Supernet]:
        """The class of its shared weights."""
        return cast("type[Supernet]", self._load("supernet_class"))

    @cached_property
    def blocks(self) -> Blocks | None:
        """How its networks fall into blocks; None where they do not."""
        if self.blocks_class is None:
            return None
        return cast("type[Blocks]", self._load("blocks_class"))()

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
    found = family() if callable(family) else family
    if not isinstance(found, Family):
        raise TftasError(
            f"{found!r} is no family; give a tftas_optuna.families.Family, or a function that"
            " returns one"
        )
    if not (found.name.isidentifier() and found.name == found.name.lower()):
        raise TftasError(
            f"family name {found.name!r} is not allowed; give lower-case letters, digits and"
            " underscores"
        )
    taken = found.name in family_names()
    if taken and not replace:
        raise TftasError(
            f"family {found.name!r} exists already; give another name or replace=True"
        )
    _REGISTERED[found.name] = found
    if not taken:
        for tell in _WATCHERS:
            tell(found.name)
    return family


def watch_families(tell: Callable[[str], None]) -> None:
    """Call a function with the name of every family: of the known ones now, of others later."""
    for name in family_names():
        tell(name)
    _WATCHERS.append(tell)


def get_family(name: str) -> Family:
    """Look a family up.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name in _installed():
        return _load_entry_point(_installed()[name])
    raise TftasError(f"unknown family {name!r}; known: {', '.join(family_names())}")


def family_names() -> list[str]:
    """List all families: built-in ones first, then registered and installed ones."""
    return list(dict.fromkeys([*_BUILT_IN, *_REGISTERED, *_installed()]))


@lru_cache(maxsize=1)
def _installed() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=FAMILIES_GROUP)}


@lru_cache(maxsize=64)
def _load_entry_point(entry: metadata.EntryPoint) -> Family:
    try:
        found: object = entry.load()
        family = found() if callable(found) else found
    except Exception as error:
        raise UnavailableError(
            f"family {entry.name!r} cannot be loaded from {entry.value} of an installed package:"
            f" {type(error).__name__}: {error}"
        ) from error
    if not isinstance(family, Family) or family.name != entry.name:
        raise UnavailableError(
            f"family {entry.name!r}: {entry.value} of an installed package is no Family of that"
            " name"
        )
    return family


_REGISTERED: dict[str, Family] = {}
_WATCHERS: list[Callable[[str], None]] = []

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
            "tftas_optuna.costs:AutoFormerBlocks",
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
