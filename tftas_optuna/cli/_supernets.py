"""Chooses the weights that each name is scored on, so that scores compare where they can."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tftas_optuna.architecture import Architecture, read_architecture, read_yaml
from tftas_optuna.errors import TftasError
from tftas_optuna.export.sections import SearchSection, read_section
from tftas_optuna.retrain.network import resolve_network
from tftas_optuna.retrain.sources import find_source
from tftas_optuna.scoring.basis import space_of
from tftas_optuna.scoring.conditions import Conditions, SupernetSource
from tftas_optuna.spaces import (
    get_space,
    published_architectures,
    space_names,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tftas_optuna.retrain.sources import Kind

EXACT = "dss"
KINDS: tuple[Kind, ...] = ("directory", "architecture", "timm")


@dataclasses.dataclass(frozen=True)
class Subject:
    """The network that a name stands for.

    Attributes:
        name: The name.
        architecture: The architecture; None for a timm model.
        sizes: Known sizes of the input and the output, by timm's names.
        section: The search section of its file; None without one.
        labels: The scores in its file: ``"dss"``, ``"dss_collapsed"``, or both.
        model: Name of the model in timm's registry; None for an architecture alone.
    """

    name: str
    architecture: Architecture | None = None
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    section: SearchSection | None = None
    labels: tuple[str, ...] = (EXACT,)
    model: str | None = None


@dataclasses.dataclass(frozen=True)
class SharedSupernet:
    """Supernets that several candidates are scored on.

    Attributes:
        conditions: Space, seeds and sizes; images are chosen separately.
        options: Options of indicators that differ from their defaults, by indicator.
        labels: The scores to compute for every candidate.
    """

    conditions: Conditions
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    labels: list[str] = dataclasses.field(default_factory=list, compare=False)

    def __str__(self) -> str:
        source, n_seeds = self.conditions.supernet, self.conditions.n_seeds
        first = source.seed
        if source.path is not None:
            seeds = source.path
        else:
            seeds = f"seed {first}" if n_seeds == 1 else f"seeds {first} to {first + n_seeds - 1}"
        options = self.options.get(EXACT, {})
        return ", ".join(
            [f"{self.conditions.space.name} supernet", seeds]
            + [f"{name} {value}" for name, value in options.items()]
        )

    def takes(self, subject: Subject) -> bool:
        """Return whether a subject without a search of its own fits these supernets."""
        own = self.conditions.target.input
        fits = all(own[name] == value for name, value in subject.sizes.items())
        return fits and subject.architecture in self.conditions.space


def find_subject(name: str, sizes: Mapping[str, int]) -> Subject:
    """Return the network that a name stands for.

    Args:
        name: The path of a file or of a directory with a network, the name of a published
            architecture, or of a timm model.
        sizes: Sizes that replace the subject's own.

    Raises:
        TftasError: It is none of these.
        UnavailableError: The file or the directory cannot be read.
    """
    source = find_source(name, kinds=KINDS)
    if source.kind == "timm":
        return Subject(name, None, sizes, model=name)
    if source.kind == "directory":
        network = resolve_network(name)
        given = {size: getattr(network, size) for size in ("img_size", "num_classes", "in_chans")}
        known = {size: value for size, value in given.items() if value is not None}
        return Subject(name, network.architecture, {**known, **sizes}, model=network.model)
    if source.path is None:
        return Subject(name, published_architectures()[name], sizes)
    arch, own_sizes = read_architecture(source.path)
    document = read_yaml(source.path)
    if document.get("search") is None:
        return Subject(name, arch, {**own_sizes, **sizes})
    section = read_section(document["search"], name)
    approximate = f"{EXACT}_{section.fidelity}"
    labels = (EXACT, approximate) if approximate in (document.get("scores") or ()) else (EXACT,)
    return Subject(name, arch, {**own_sizes, **sizes}, section, labels)


def given_supernet(
    subjects: Sequence[Subject], supernet: str, seed: int | None
) -> list[SharedSupernet | None]:
    """Return the trained supernet that the user has given, for every subject.

    Args:
        subjects: The networks to score.
        supernet: The source of the supernet.
        seed: Seed of the images; None for 0.

    Raises:
        TftasError: A subject is a network of timm, or of other sizes than the supernet.
        UnavailableError: The supernet cannot be read.
    """
    space = space_of(supernet)
    if space is None:
        return find_supernets(subjects, seed or 0)
    source = SupernetSource.of(supernet, seed or 0)
    adapts = source.trained is not None and source.trained.adapts
    given: list[SharedSupernet | None] = []
    for subject in subjects:
        if subject.architecture is None:
            raise TftasError(
                f"{subject.name} is a network of timm, no slice of {supernet}; leave it out"
            )
        fitted = ("img_size", "num_classes") if adapts else ()
        sizes = {name: value for name, value in subject.sizes.items() if name in fitted}
        # A larger network is of no space, so a file may bring its own.
        searched = subject.section.conditions.space if adapts and subject.section else space
        conditions = Conditions.of(searched, supernet=source, **sizes)
        own = conditions.target.input
        for name, value in subject.sizes.items():
            if own[name] != value:
                raise TftasError(
                    f"{subject.name} has {name} {value}, supernet {supernet} has {own[name]}"
                )
        given.append(SharedSupernet(conditions, labels=[EXACT]))
    return given


def find_supernets(subjects: Sequence[Subject], seed: int | None) -> list[SharedSupernet | None]:
    """Return the supernet of each subject; None for weights of its own.

    A file of a search is scored on the supernet of that search, which other architectures in its
    space share. Several architectures that fit one preset share a supernet of the preset. All
    others have weights of their own.

    Args:
        subjects: The networks to score.
        seed: Seed of all supernets; None for the seeds of the searches, and 0 for presets.
    """
    shared: list[SharedSupernet] = []
    chosen: list[SharedSupernet | None] = []
    for subject in subjects:
        chosen.append(None if subject.section is None else _own_supernet(subject, seed, shared))
    for candidates in (shared, _preset_supernets(_loose(subjects, chosen, shared), seed)):
        for index, subject in enumerate(subjects):
            if chosen[index] is None and subject.architecture is not None:
                chosen[index] = next((s for s in candidates if s.takes(subject)), None)
    return chosen


def _own_supernet(
    subject: Subject, seed: int | None, shared: list[SharedSupernet]
) -> SharedSupernet:
    """Return the supernet of a file's search, and add it to the shared ones if it is new."""
    assert subject.section is not None
    conditions = _sized(subject.section.conditions, subject.sizes)
    if seed is not None:
        source = dataclasses.replace(conditions.supernet, seed=seed)
        conditions = dataclasses.replace(conditions, supernet=source)
    own = SharedSupernet(conditions, subject.section.options)
    if own not in shared:
        shared.append(own)
    own = shared[shared.index(own)]
    own.labels.extend(label for label in subject.labels if label not in own.labels)
    return own


def _loose(
    subjects: Sequence[Subject],
    chosen: Sequence[SharedSupernet | None],
    shared: Sequence[SharedSupernet],
) -> list[Subject]:
    """List the architectures that fit no supernet of a search."""
    return [
        subject
        for subject, own in zip(subjects, chosen, strict=True)
        if own is None
        and subject.architecture is not None
        and not any(supernet.takes(subject) for supernet in shared)
    ]


def _preset_supernets(subjects: Sequence[Subject], seed: int | None) -> list[SharedSupernet]:
    """List the supernets of presets that several architectures of the same sizes fit."""
    shared: list[SharedSupernet] = []
    for name in space_names():
        preset = Conditions.of(get_space(name), supernet=SupernetSource(seed or 0))
        for subject in subjects:
            supernet = SharedSupernet(_sized(preset, subject.sizes), labels=[EXACT])
            if supernet not in shared and sum(supernet.takes(other) for other in subjects) > 1:
                shared.append(supernet)
    return shared


def _sized(conditions: Conditions, sizes: Mapping[str, int]) -> Conditions:
    """Return conditions with other sizes of the input and the output, and without images."""
    return dataclasses.replace(
        conditions,
        img_size=sizes.get("img_size", conditions.img_size),
        num_classes=sizes.get("num_classes", conditions.num_classes),
        images=None,
    )
