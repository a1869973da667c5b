"""What the published code of some families knows, and others have nothing like.

AutoFormer and TF-TAS published training configurations, whose ``RETRAIN`` section holds an
architecture, and AutoFormer its own count of multiply-accumulates. A family that takes part has
the methods of a protocol below; one that does not is told so in one line.
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
    """An architecture or a space that those configurations describe."""

    def to_retrain(self) -> dict[str, Any]:
        """Return its sections: an architecture's ``RETRAIN``, a space's by their names.

        Raises:
            TftasError: The format cannot tell it from another one.
        """


@runtime_checkable
class ReadsRetrain(Protocol):
    """An architecture's class that reads a ``RETRAIN`` section.

    Attributes:
        retrain_keys: Keys of the section by the names of the fields.
    """

    retrain_keys: ClassVar[Mapping[str, str]]

    @classmethod
    def from_retrain(cls, section: Mapping[str, Any]) -> Architecture:
        """Read a section that has all of the keys.

        Raises:
            TftasError: A value is out of range.
        """


@runtime_checkable
class CountsReferenceMacs(Protocol):
    """An architecture whose published training code counts in its own way."""

    def reference_macs(self, *, img_size: int, num_classes: int) -> float:
        """Count multiply-accumulates of one image by the convention of that code.

        Args:
            img_size: Height and width of the input, in pixels.
            num_classes: Outputs of the classifier.
        """


def retrain_document(space: object, arch: Architecture) -> dict[str, Any]:
    """Write the training configuration of an architecture that was found in a space.

    Raises:
        TftasError: There is none for its family, or it cannot tell the architecture from another.
    """
    if not isinstance(space, WritesRetrain) or not isinstance(arch, WritesRetrain):
        raise TftasError(
            f"format 'retrain' does not exist for family {arch.family}; export yaml or json"
        )
    return {**space.to_retrain(), "RETRAIN": arch.to_retrain()}


def read_retrain(section: Any) -> Architecture:
    """Read a ``RETRAIN`` section, telling the family by its keys.

    Raises:
        TftasError: It is of no family, or a value is out of range.
    """
    for reader in _readers():
        if isinstance(section, dict) and section.keys() >= set(reader.retrain_keys.values()):
            return reader.from_retrain(section)
    forms = " or ".join(", ".join(reader.retrain_keys.values()) for reader in _readers())
    raise TftasError(f"a RETRAIN section needs {forms}")


def reference_macs(arch: Architecture, *, img_size: int, num_classes: int) -> float:
    """Count as the published code of an architecture's family does.

    Raises:
        TftasError: There is no such code.
    """
    if not isinstance(arch, CountsReferenceMacs):
        raise _without_reference(arch.family)
    return arch.reference_macs(img_size=img_size, num_classes=num_classes)


def check_reference_macs(family: str) -> None:
    """Check that the published code of a family counts in its own way.

    Raises:
        TftasError: There is no such code.
    """
    if not issubclass(FAMILIES[family].architecture, CountsReferenceMacs):
        raise _without_reference(family)


def _without_reference(family: str) -> TftasError:
    return TftasError(f"family {family!r} has no reference_macs; use macs, the true count")


def _readers() -> Iterator[ReadsRetrain]:
    # One by one: what belongs to a built-in family does not wait for installed packages.
    for name in family_names():
        reader: object = FAMILIES[name].architecture
        if isinstance(reader, ReadsRetrain):
            yield reader
