"""The base class of architectures."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tftas_optuna.architecture.checks import shown
from tftas_optuna.architecture.parts import FAMILIES, family_names
from tftas_optuna.architecture.published import read_retrain
from tftas_optuna.errors import TftasError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture.blocks import BlockKind

FORMAT = "tftas-optuna/architecture"
FORMAT_VERSION = 1


class Costs(NamedTuple):
    """Exact costs of an architecture at one input size and number of classes.

    Attributes:
        n_params: Number of trainable parameters.
        macs: Multiply-accumulate operations of all matrix products and convolutions for one
            image.
    """

    n_params: int
    macs: int


class Architecture(ABC):
    """A candidate network: immutable, hashable, and equal to others that build the same network.

    Subclasses are frozen dataclasses of numbers, strings and tuples of them. Their constructor
    checks the values and turns lists, as read from files, into tuples.

    Attributes:
        family: Name of the family in :mod:`tftas_optuna.families`.
    """

    family: ClassVar[str]

    @abstractmethod
    def costs(self, *, img_size: int, num_classes: int, in_chans: int = 3) -> Costs:
        """Count parameters and MACs in closed form.

        Both depend on the size of the input. For the input of a space or study use
        :meth:`SearchSpace.costs`, or ``n_params`` and ``macs`` of a :class:`Candidate`.

        Args:
            img_size: Height and width of the input, in pixels.
            num_classes: Outputs of the classifier; 0 for no classifier.
            in_chans: Channels of the input.

        Raises:
            TftasError: The image is smaller than one patch.
        """

    def block_kinds(self) -> list[BlockKind]:
        """Return the kind of every block, from the first to the last.

        Costs are then measured per kind and added up. An empty list, the default, means that
        costs do not add up over blocks and are measured for each network as a whole.
        """
        return []

    def with_blocks(self, kind: BlockKind, depth: int) -> Architecture:
        """Return an architecture like this one with ``depth`` blocks of one kind.

        Raises:
            TftasError: The family defines no kinds of blocks.
        """
        raise TftasError(f"networks of family {self.family} do not fall into blocks")

    def beyond_timm(self) -> str | None:
        """Return what keeps the network from being one of timm's own classes, in a few words.

        The default is a class of its own. None means that it is one of timm's, which is then what
        :func:`tftas_optuna.build_model` builds; see :class:`tftas_optuna.Family`.
        """
        return "a class of its own"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain lists, numbers and strings, for YAML or JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }
        return {"family": self.family, **plain}

    @abstractmethod
    def summary(self) -> str:
        """Return a description of the architecture in one short line."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary()}>"

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Architecture:
        """Read the fields that :meth:`to_dict` returned, without the family.

        Raises:
            TftasError: A field is unknown, missing or out of range.
        """
        return cls(**read_fields(cls, fields))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Architecture:
        """Read an architecture of any family.

        Accepts the output of :meth:`to_dict`, an exported document that contains it under
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
            hint = did_you_mean(family, family_names())
            raise TftasError(f"unknown architecture family {shown(family)}{hint}")
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
    cls: type[Architecture], fields: dict[str, Any], *, extra: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Check that no field of an architecture is unknown or missing, and return the fields.

    Args:
        cls: The class, a dataclass.
        fields: Values by name.
        extra: Other keys that files may contain, for the error message.

    Raises:
        TftasError: A field is unknown or missing.
    """
    dataclass_fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    article = "an" if cls.family[0] in "aeiou" else "a"
    unknown = sorted(str(name) for name in fields if name not in dataclass_fields)
    if unknown:
        raise TftasError(
            f"unknown key {shown(unknown[0])} in {article} {cls.family} architecture"
            f"{did_you_mean(unknown[0], (*dataclass_fields, *extra))}",
            key=(unknown[0],),
        )
    missing = [
        name
        for name, field in dataclass_fields.items()
        if field.default is dataclasses.MISSING and name not in fields
    ]
    if missing:
        raise TftasError(f"{article} {cls.family} architecture needs {', '.join(missing)}")
    return fields
