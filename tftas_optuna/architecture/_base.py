"""What every candidate has: identity, exact costs and written forms."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tftas_optuna.architecture.checks import shown
from tftas_optuna.architecture.parts import FAMILIES, family_names
from tftas_optuna.architecture.published import read_retrain
from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture.blocks import BlockKind

FORMAT = "tftas-optuna/architecture"
FORMAT_VERSION = 1


class Costs(NamedTuple):
    """Exact costs of one architecture at one input size and class count.

    Attributes:
        n_params: Number of trainable parameters.
        macs: Multiply-accumulate operations of every matrix product and convolution for one
            image.
    """

    n_params: int
    macs: int


class Architecture(ABC):
    """A candidate network: immutable, hashable, equal when it builds the same network.

    Subclasses are frozen dataclasses of numbers, strings and tuples of them, and check their
    values when they are made: lists, as files hold them, become tuples there.

    Attributes:
        family: Name of its family in :mod:`tftas_optuna.families`.
    """

    family: ClassVar[str]

    @abstractmethod
    def costs(self, *, img_size: int, num_classes: int, in_chans: int = 3) -> Costs:
        """Count parameters and MACs in closed form.

        An architecture has none without sizes. Those of a space or of a study know theirs:
        :meth:`SearchSpace.costs`, and ``n_params`` and ``macs`` of a :class:`Candidate`.

        Args:
            img_size: Height and width of the input, in pixels.
            num_classes: Outputs of the classifier; 0 for no classifier.
            in_chans: Channels of the input.

        Raises:
            TftasError: The image is smaller than one patch.
        """

    def block_kinds(self) -> list[BlockKind]:
        """List the kinds of the blocks, first one first.

        Costs are then measured by kind. It is empty where costs do not add up over blocks, or
        where a family does not say so: they are then taken of each network as a whole.
        """
        return []

    def with_blocks(self, kind: BlockKind, depth: int) -> Architecture:
        """Return an architecture like this one, with so many blocks of one kind.

        Raises:
            TftasError: The family does not say its kinds of blocks.
        """
        raise TftasError(f"networks of family {self.family} do not fall into blocks")

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, complete and ready for YAML or JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }
        return {"family": self.family, **plain}

    @abstractmethod
    def summary(self) -> str:
        """Describe the shape in one short line."""

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Architecture:
        """Read what :meth:`to_dict` wrote, without the family.

        Raises:
            TftasError: A field is unknown, missing or out of range.
        """
        return cls(**read_fields(cls, fields))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Architecture:
        """Read an architecture, telling its kind by its ``family``.

        Accepts the output of :meth:`to_dict`, an exported document that holds it under
        ``architecture``, and the ``RETRAIN`` section of published training configurations; see
        :mod:`tftas_optuna.architecture.published`.

        Raises:
            TftasError: The mapping is none of these, or a value is out of range.
        """
        if not isinstance(data, dict):
            raise TftasError(f"an architecture is a mapping, not {shown(data)}")
        if "architecture" in data:
            _check_format(data)
            return Architecture.from_dict(data["architecture"])
        if "RETRAIN" in data:
            return read_retrain(data["RETRAIN"])
        fields = dict(data)
        family = fields.pop("family", None)
        if not isinstance(family, str) or family not in FAMILIES:
            raise TftasError(
                f"unknown architecture family {shown(family)}; known: {', '.join(family_names())}"
            )
        return FAMILIES[family].architecture.from_fields(fields)


def _check_format(document: dict[str, Any]) -> None:
    if document.get("format", FORMAT) != FORMAT:
        raise TftasError(f"format is {shown(document['format'])}, expected {FORMAT}")
    version = document.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise TftasError(
            f"format_version is {shown(version)}; this release reads {FORMAT_VERSION}: upgrade"
            " tftas-optuna"
        )


def read_fields(
    cls: type[Architecture], fields: dict[str, Any], *, besides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Check that fields are those of an architecture's class, and none is missing.

    Args:
        cls: The class, a dataclass.
        fields: Values by name.
        besides: What else files may hold, for the message about what may not.

    Raises:
        TftasError: A field is unknown or missing.
    """
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    article = "an" if cls.family[0] in "aeiou" else "a"
    unknown = sorted(str(name) for name in fields if name not in known)
    if unknown:
        raise TftasError(
            f"unknown key {shown(unknown[0])} in {article} {cls.family} architecture; known:"
            f" {', '.join((*known, *besides))}",
            key=(unknown[0],),
        )
    missing = [
        name
        for name, field in known.items()
        if field.default is dataclasses.MISSING and name not in fields
    ]
    if missing:
        raise TftasError(f"{article} {cls.family} architecture needs {', '.join(missing)}")
    return fields
