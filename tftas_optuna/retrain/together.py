"""Which members are trained together, and in the supernet of which space."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tftas_optuna._given import listed, shown
from tftas_optuna._writing import file_stem
from tftas_optuna.architecture import architecture_of
from tftas_optuna.errors import TftasError
from tftas_optuna.export.files import check_prefix
from tftas_optuna.export.sections import read_section
from tftas_optuna.retrain.network import resolve_network
from tftas_optuna.retrain.shared import Member, SharedMembers
from tftas_optuna.scoring.conditions import DRAWN, SupernetSource
from tftas_optuna.spaces import SearchSpace, get_space
from tftas_optuna.study.front import Candidate
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from optuna import Study

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SpaceLike

_RENAME = "give another name"


def resolve_members(
    members: SpaceLike | Iterable[Candidate | Architecture | str | Path],
    *,
    space: SpaceLike | None = None,
    study: Study | None = None,
    supernet: str | None = None,
    name: str | None = None,
    img_size: int | None = None,
) -> SharedMembers:
    """Return the members to train together; see :func:`tftas_optuna.retrain_shared`.

    Raises:
        TftasError: There are less than two members, they fit no supernet together, or the space is
            unknown.
        UnavailableError: A file or the supernet cannot be read.
    """
    space = None if space is None else get_space(space)
    if isinstance(members, SearchSpace | Mapping | str | os.PathLike):
        members = get_space(members)
    elif not (members := [] if members is None else listed(members)):
        raise TftasError("no members are given; give two or more")
    source = own_name = None
    if supernet == "study" and study is not None:
        source = read_settings(study).conditions.supernet
    elif supernet not in (None, DRAWN):
        source = SupernetSource.of(supernet)
    if isinstance(members, SearchSpace):
        if space not in (None, members) or study is not None:
            raise TftasError("a whole space is trained; leave out space and study")
        chosen: list[Member] = []
        space = members
    elif study is not None:
        settings = read_settings(study)
        own = settings.space
        if space not in (None, own):
            raise TftasError(f"study {study.study_name!r} has its own space; leave out space")
        space, own_name = own, study.study_name
        img_size = settings.conditions.img_size if img_size is None else img_size
        # The front shows them best first, which changes with what is recorded.
        chosen = sorted((_of_candidate(member, own) for member in members), key=_trial)
    else:
        chosen, spaces = [], []
        for member in members:
            read, its_space = _of_file(member)
            chosen.append(read)
            spaces.append(its_space)
        if space is None:
            space = _common(chosen, spaces)
    return SharedMembers(
        file_stem(own_name or space.name) if name is None else check_prefix(name, remedy=_RENAME),
        space,
        space.img_size if img_size is None else img_size,
        tuple(chosen),
        source,
    )


def _trial(member: Member) -> int:
    return -1 if member.trial is None else member.trial


def _of_candidate(member: object, space: SearchSpace) -> Member:
    if not isinstance(member, Candidate):
        raise TftasError(
            f"a study was given with {shown(member)}; give candidates of its front, or no study"
        )
    name = f"{file_stem(space.name)}-trial{member.trial:05d}"
    return Member(name, member.architecture, member.trial)


def _of_file(member: Candidate | Architecture | str | Path) -> tuple[Member, SearchSpace | None]:
    if isinstance(member, Candidate):
        raise TftasError(f"trial {member.trial} was given without its study; give study=...")
    if not isinstance(member, str | os.PathLike):
        arch = architecture_of(member)
        return Member(arch.summary(), arch), None
    network = resolve_network(member)
    if network.architecture is None:
        raise TftasError(f"{network.label} is a network of timm; it is part of no supernet")
    search = network.search
    own = None if search is None else read_section(search, network.label).conditions.space
    return Member(network.label, network.architecture), own


def _common(members: Sequence[Member], spaces: Sequence[SearchSpace | None]) -> SearchSpace:
    """Return the space that all members come from.

    Raises:
        TftasError: One comes from no space, or from another one.
    """
    for member, space in zip(members, spaces, strict=True):
        if space is None:
            raise TftasError(f"{member.name} comes from no study; name the space (--space)")
        if space != spaces[0]:
            raise TftasError(
                f"{members[0].name} and {member.name} are of different spaces; name one that holds"
                " both (--space)"
            )
    assert spaces[0] is not None
    return spaces[0]
