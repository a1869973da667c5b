"""Formats and counts of published training code, which only some families have.

AutoFormer and TF-TAS published training configurations with an architecture in their ``RETRAIN``
section, and AutoFormer has its own count of multiply-accumulates. A family supports these by
implementing the protocols below; otherwise the functions here raise an error of one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from tftas_optuna.architecture.parts import FAMILIES, family_names
from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tftas_optuna.architecture._base import Architecture


@runtime_checkable
class WritesRetrain(Protocol):
    """An architecture or space that training configurations can describe."""

    def to_retrain(self) -> dict[str, Any]:
        """Return the ``RETRAIN`` section of an architecture, or the sections of a space by name.

        Raises:
            TftasError: The format cannot express it.
        """


@runtime_checkable
class ReadsRetrain(Protocol):
    """An architecture class that reads a ``RETRAIN`` section.

    Attributes:
        retrain_keys: Keys of the section by field name.
    """

    retrain_keys: ClassVar[Mapping[str, str]]

    @classmethod
    def from_retrain(cls, section: Mapping[str, Any]) -> Architecture:
        """Read a section that has all the keys.

        Raises:
            TftasError: A value is out of range.
        """


@runtime_checkable
class CountsReferenceMacs(Protocol):
    """An architecture whose published code counts multiply-accumulates by its own convention."""

    def reference_macs(self, *, img_size: int, num_classes: int) -> float:
        """Count the multiply-accumulates of one image by that convention.

        Args:
            img_size: Height and width of the input, in pixels.
            num_classes: Outputs of the classifier.
        """


def retrain_document(space: object, arch: Architecture) -> dict[str, Any]:
    """Return the training configuration of an architecture and its space.

    Raises:
        TftasError: The family has no such format, or it cannot express the architecture.
    """
    if not isinstance(space, WritesRetrain) or not isinstance(arch, WritesRetrain):
        raise TftasError(
            f"format 'retrain' does not exist for family {arch.family}; export yaml or json"
        )
    return {**space.to_retrain(), "RETRAIN": arch.to_retrain()}


def read_retrain(section: Any) -> Architecture:
    """Read a ``RETRAIN`` section; its keys determine the family.

    Raises:
        TftasError: The keys match no family, or a value is out of range.
    """
    for reader in _readers():
        if isinstance(section, dict) and section.keys() >= set(reader.retrain_keys.values()):
            return reader.from_retrain(section)
    forms = " or ".join(", ".join(reader.retrain_keys.values()) for reader in _readers())
    raise TftasError(f"a RETRAIN section needs {forms}")


def reference_macs(arch: Architecture, *, img_size: int, num_classes: int) -> float:
    """Count multiply-accumulates as the published code of the family does.

    Raises:
        TftasError: The family has no such code.
    """
    if not isinstance(arch, CountsReferenceMacs):
        raise _no_reference_macs(arch.family)
    return arch.reference_macs(img_size=img_size, num_classes=num_classes)


def check_reference_macs(family: str) -> None:
    """Check that a family has a published count of multiply-accumulates.

    Raises:
        TftasError: The family has no such code.
    """
    if not issubclass(FAMILIES[family].architecture, CountsReferenceMacs):
        raise _no_reference_macs(family)


def _no_reference_macs(family: str) -> TftasError:
    return TftasError(f"family {family!r} has no reference_macs; use macs, the true count")


def _readers() -> Iterator[ReadsRetrain]:
    # A generator, so that a match with a built-in family loads no installed package.
    for name in family_names():
        reader: object = FAMILIES[name].architecture
        if isinstance(reader, ReadsRetrain):
            yield reader
