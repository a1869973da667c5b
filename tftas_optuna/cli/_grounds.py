"""Decides on which weights each name is scored, so that what can be compared is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna.architecture import Architecture, read_architecture, read_yaml
from tftas_optuna.export.sections import SearchSection, read_section
from tftas_optuna.spaces import (
    SearchSpace,
    get_space,
    published_architectures,
    space_names,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXACT = "dss"


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a name stands for.

    Attributes:
        name: The name.
        architecture: The architecture; None for a timm model.
        sizes: What the input and the output are known to be, by the names of timm.
        section: What the scores of its file were computed with; None where it has none.
        labels: Which scores its file holds: ``"dss"``, ``"dss_collapsed"``, or both.
    """

    name: str
    architecture: Architecture | None = None
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    section: SearchSection | None = None
    labels: tuple[str, ...] = (EXACT,)


@dataclasses.dataclass(frozen=True)
class Ground:
    """Supernets that candidates are scored on.

    Attributes:
        section: Space, seeds and options.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        labels: The scores that are taken of every candidate.
    """

    section: SearchSection
    img_size: int
    num_classes: int
    labels: list[str] = dataclasses.field(default_factory=list, compare=False)

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.section.space

    def __str__(self) -> str:
        first, n_seeds = self.section.supernet_seed, self.section.n_seeds
        seeds = f"seed {first}" if n_seeds == 1 else f"seeds {first} to {first + n_seeds - 1}"
        options = self.section.options.get(EXACT, {})
        return ", ".join(
            [f"{self.space.name} supernet", seeds]
            + [f"{name} {value}" for name, value in options.items()]
        )

    def takes(self, subject: Subject) -> bool:
        """Tell whether a subject without a search of its own is a candidate here."""
        own = {
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            "in_chans": self.space.in_chans,
        }
        fits = all(own[name] == value for name, value in subject.sizes.items())
        return fits and subject.architecture in self.space


def find_subject(name: str, sizes: Mapping[str, int]) -> Subject:
    """Find out what a name stands for.

    Args:
        name: The path of a file, the name of a published architecture, or of a timm model.
        sizes: Sizes that are asked for, in place of the subject's own.

    Raises:
        UnavailableError: The file cannot be read.
    """
    published = published_architectures()
    if not is_file(name):
        return Subject(name, published.get(name), sizes)
    arch, own = read_architecture(name)
    document = read_yaml(name)
    if document.get("search") is None:
        return Subject(name, arch, {**own, **sizes})
    section = read_section(document["search"], name)
    scores = document.get("scores")
    known = (EXACT, f"{EXACT}_{section.fidelity}")
    labels = tuple(label for label in dict.fromkeys(known) if label in (scores or ()))
    return Subject(name, arch, {**own, **sizes}, section, labels or (EXACT,))


def is_file(name: str) -> bool:
    """Tell whether a name is meant as a path."""
    return Path(name).is_file() or Path(name).suffix in (".yaml", ".yml", ".json")


def find_grounds(subjects: Sequence[Subject], seed: int | None) -> list[Ground | None]:
    """Choose the supernet of each subject; None for weights of its own.

    A file of a search has the supernet of that search. What else is in its space shares it, and
    so do several architectures of one preset. The rest has nothing to share.

    Args:
        subjects: What is scored.
        seed: Seed of all supernets; None for those of the searches, and 0.
    """
    grounds: list[Ground] = []
    chosen: list[Ground | None] = []
    for subject in subjects:
        chosen.append(None if subject.section is None else _own_ground(subject, seed, grounds))
    for subject_grounds in (grounds, _preset_grounds(_loose(subjects, chosen, grounds), seed)):
        for index, subject in enumerate(subjects):
            if chosen[index] is None and subject.architecture is not None:
                chosen[index] = next((g for g in subject_grounds if g.takes(subject)), None)
    return chosen


def _own_ground(subject: Subject, seed: int | None, grounds: list[Ground]) -> Ground:
    """Return the supernet of the search that a file comes from, known already or not."""
    assert subject.section is not None
    section = subject.section
    if seed is not None:
        section = dataclasses.replace(section, supernet_seed=seed)
    # How the file's score was computed is told by its labels.
    ground = _ground(dataclasses.replace(section, fidelity="exact"), subject.sizes)
    if ground not in grounds:
        grounds.append(ground)
    ground = grounds[grounds.index(ground)]
    ground.labels.extend(label for label in subject.labels if label not in ground.labels)
    return ground


def _loose(
    subjects: Sequence[Subject], chosen: Sequence[Ground | None], grounds: Sequence[Ground]
) -> list[Subject]:
    """List the architectures that no search of the others takes."""
    return [
        subject
        for subject, ground in zip(subjects, chosen, strict=True)
        if ground is None
        and subject.architecture is not None
        and not any(ground.takes(subject) for ground in grounds)
    ]


def _preset_grounds(subjects: Sequence[Subject], seed: int | None) -> list[Ground]:
    """Make the supernets of the presets that several architectures fit, at the same sizes."""
    found: list[Ground] = []
    for name in space_names():
        section = SearchSection(get_space(name), seed or 0)
        for subject in subjects:
            ground = _ground(section, subject.sizes)
            ground.labels.append(EXACT)
            if ground not in found and sum(ground.takes(other) for other in subjects) > 1:
                found.append(ground)
    return found


def _ground(section: SearchSection, sizes: Mapping[str, Any]) -> Ground:
    space = section.space
    return Ground(
        section,
        sizes.get("img_size", space.img_size),
        sizes.get("num_classes", space.num_classes),
    )
