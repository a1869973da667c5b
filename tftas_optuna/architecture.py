"""What a candidate is: its shape, its identity, its exact costs and its written forms."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import yaml

from tftas_optuna.errors import TftasError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Far above any Vision Transformer, low enough that a hostile file cannot ask for terabytes.
_MAX_EMBED_DIM = 16_384
_MAX_DEPTH = 256
_MAX_HEADS = 256
_MAX_RATIO = 64.0
_MAX_FILE_BYTES = 1_000_000

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
    """A candidate network: immutable, hashable, equal when it builds the same network."""

    family: ClassVar[str]
    retrain_keys: ClassVar[dict[str, str]]

    @property
    def n_params(self) -> int:
        """Number of parameters for 3x224x224 images and 1000 classes."""
        return self.costs().n_params

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one 3x224x224 image with 1000 classes (the true count)."""
        return self.costs().macs

    @abstractmethod
    def costs(self, *, img_size: int = 224, num_classes: int = 1000, in_chans: int = 3) -> Costs:
        """Count parameters and MACs in closed form.

        Args:
            img_size: Height and width of the input, in pixels.
            num_classes: Outputs of the classifier; 0 for no classifier.
            in_chans: Channels of the input.

        Raises:
            TftasError: The image is smaller than one patch.
        """

    @abstractmethod
    def reference_macs(self, *, img_size: int = 224, num_classes: int = 1000) -> float:
        """Count by the convention of the family's published training code."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Give plain lists, numbers and strings, complete and ready for YAML or JSON."""

    @abstractmethod
    def to_retrain(self) -> dict[str, Any]:
        """Give the ``RETRAIN`` section of the family's published training configurations.

        Raises:
            TftasError: That format cannot tell this architecture from another one.
        """

    @abstractmethod
    def summary(self) -> str:
        """Describe the shape in one short line."""

    @classmethod
    @abstractmethod
    def _from_fields(cls, fields: dict[str, Any]) -> Architecture: ...

    @classmethod
    @abstractmethod
    def _from_retrain(cls, section: dict[str, Any]) -> Architecture: ...

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Architecture:
        """Read an architecture, telling its kind by its ``family``.

        Accepts the output of :meth:`to_dict`, an exported document that holds it under
        ``architecture``, and the ``RETRAIN`` section of the training configurations that
        AutoFormer and TF-TAS published.

        Raises:
            TftasError: The mapping is none of these, or a value is out of range.
        """
        if not isinstance(data, dict):
            raise TftasError(f"an architecture is a mapping, not {shown(data)}")
        if "architecture" in data:
            _check_format(data)
            return Architecture.from_dict(data["architecture"])
        if "RETRAIN" in data:
            return _from_retrain(data["RETRAIN"])
        # The registry names the subclasses of this class, so it cannot be imported above.
        from tftas_optuna.families import FAMILIES

        fields = dict(data)
        family = fields.pop("family", None)
        if not isinstance(family, str) or family not in FAMILIES:
            raise TftasError(
                f"unknown architecture family {shown(family)}; known: {', '.join(FAMILIES)}"
            )
        return FAMILIES[family]._from_fields(fields)


@dataclasses.dataclass(frozen=True)
class AutoFormerArchitecture(Architecture):
    """A Vision Transformer whose heads and MLP ratio differ from block to block.

    Source: Chen et al., AutoFormer, ICCV 2021. Every head is ``head_dim`` wide, so the attention
    width ``head_dim * num_heads`` need not equal ``embed_dim``. Without a ``head_dim`` the heads
    of a block share ``embed_dim`` among them, as in ViT and DeiT.

    Attributes:
        embed_dim: Width of the tokens.
        num_heads: Heads of each block; its length is the depth.
        mlp_ratio: Hidden width of each block's MLP over ``embed_dim``.
        head_dim: Width of one attention head; None for ``embed_dim / num_heads``.
        patch_size: Side of a patch, in pixels.
        relative_position: Whether keys and values get 2-D relative positions.
        max_relative_position: Offsets beyond it share one table row.
        abs_pos: Whether tokens get absolute positions.
        global_pool: ``"avg"`` (mean of the patch tokens) or ``"token"`` (class token).

    Raises:
        TftasError: A value is of the wrong type or out of range.
    """

    family: ClassVar[str] = "autoformer"
    retrain_keys: ClassVar[dict[str, str]] = {
        "embed_dim": "EMBED_DIM",
        "depth": "DEPTH",
        "num_heads": "NUM_HEADS",
        "mlp_ratio": "MLP_RATIO",
    }

    embed_dim: int
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]
    head_dim: int | None = 64
    patch_size: int = 16
    relative_position: bool = True
    max_relative_position: int = 14
    abs_pos: bool = True
    global_pool: str = "avg"

    def __post_init__(self) -> None:
        check_int("embed_dim", self.embed_dim, 1, _MAX_EMBED_DIM)
        heads = as_tuple("num_heads", self.num_heads, per="block")
        ratios = as_tuple("mlp_ratio", self.mlp_ratio, per="block")
        for value in heads:
            check_int("num_heads", value, 1, _MAX_HEADS)
        for value in ratios:
            check_ratio("mlp_ratio", value, self.embed_dim)
        if not 1 <= len(heads) <= _MAX_DEPTH:
            raise TftasError(f"depth is {len(heads)}, allowed is 1 to {_MAX_DEPTH} blocks")
        if len(heads) != len(ratios):
            raise TftasError(
                f"num_heads has {len(heads)} blocks and mlp_ratio {len(ratios)}: give one of"
                " each per block"
            )
        object.__setattr__(self, "num_heads", heads)
        object.__setattr__(self, "mlp_ratio", tuple(float(value) for value in ratios))
        if self.head_dim is not None:
            check_int("head_dim", self.head_dim, 1, 1024)
        elif any(self.embed_dim % value for value in heads):
            raise TftasError(
                f"embed_dim {self.embed_dim} cannot be split into"
                f" {next(value for value in heads if self.embed_dim % value)} heads of equal"
                " width; give a head_dim",
                key=("embed_dim",),
            )
        check_int("patch_size", self.patch_size, 1, 1024)
        check_int("max_relative_position", self.max_relative_position, 1, 1024)
        for name in ("relative_position", "abs_pos"):
            if not isinstance(getattr(self, name), bool):
                raise TftasError(
                    f"{name} is {shown(getattr(self, name))}, allowed: true, false", key=(name,)
                )
        if self.global_pool not in ("avg", "token"):
            raise TftasError(
                f"global_pool is {shown(self.global_pool)}, allowed: avg, token",
                key=("global_pool",),
            )

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.num_heads)

    @cached_property
    def hidden_dim(self) -> tuple[int, ...]:
        """Hidden width of each block's MLP."""
        return tuple(int(self.embed_dim * ratio) for ratio in self.mlp_ratio)

    @cached_property
    def head_dims(self) -> tuple[int, ...]:
        """Width of one head, in each block."""
        return tuple(self.head_dim or self.embed_dim // heads for heads in self.num_heads)

    @cached_property
    def inner_dim(self) -> tuple[int, ...]:
        """Width of each block's attention: that of all its heads."""
        return tuple(h * d for h, d in zip(self.num_heads, self.head_dims, strict=True))

    def grid(self, img_size: int) -> int:
        """Patches along one side of a square image."""
        if img_size < self.patch_size:
            raise TftasError(
                f"img_size {img_size} is smaller than one patch of {self.patch_size} pixels",
                key=("img_size",),
            )
        return img_size // self.patch_size

    def costs(self, *, img_size: int = 224, num_classes: int = 1000, in_chans: int = 3) -> Costs:
        """Count parameters and MACs in closed form; see :meth:`Architecture.costs`.

        Relative positions count as the factorised products that the network performs: each
        query against the rows and the columns of the grid, and back for the values.
        """
        grid = self.grid(img_size)
        patches, width = grid * grid, self.embed_dim
        tokens = patches + 1
        pixels = in_chans * self.patch_size**2

        n_params = width * (pixels + 1) + width + 2 * width + num_classes * (width + 1)
        n_params += tokens * width if self.abs_pos else 0
        macs = patches * pixels * width + width * num_classes
        rows = 4 * (2 * self.max_relative_position + 2)
        for inner, head_dim, hidden in zip(
            self.inner_dim, self.head_dims, self.hidden_dim, strict=True
        ):
            n_params += 4 * width + 3 * inner * (width + 1) + width * (inner + 1)
            n_params += hidden * (width + 1) + width * (hidden + 1)
            macs += tokens * (4 * inner * width + 2 * width * hidden) + 2 * tokens**2 * inner
            if self.relative_position:
                n_params += rows * head_dim
                macs += 4 * patches * grid * inner + tokens * inner
        return Costs(n_params, macs)

    def reference_macs(self, *, img_size: int = 224, num_classes: int = 1000) -> float:
        """Count as ``get_complexity`` of the AutoFormer code does.

        That convention adds normalisation and biases, counts one token too many in every block,
        charges the classifier for every token, and estimates relative positions by a formula of
        its own (1.42 G for the published TF-TAS-Tiny, which the paper gives as 1.43 G).
        """
        patches = self.grid(img_size) ** 2
        width, tokens = self.embed_dim, patches + 2
        total = width + patches * width * 3 * self.patch_size**2 + (patches + 1) * width / 2
        total += (patches + 1) * width * num_classes
        for inner, hidden in zip(self.inner_dim, self.hidden_dim, strict=True):
            total += 2 * tokens * width + tokens * (4 * inner * width + 2 * width * hidden)
            total += 2 * tokens**2 * inner
            if self.relative_position:
                total += 2 * self.max_relative_position * tokens**2
                total += tokens**2 / 2 + tokens * inner / 2
        return total

    def to_dict(self) -> dict[str, Any]:
        """Give every field, and the depth for the reader."""
        fields = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }
        return {
            "family": self.family,
            "embed_dim": fields.pop("embed_dim"),
            "depth": self.depth,
            **fields,
        }

    def summary(self) -> str:
        """Give width, depth and the blocks' means: ``192 x 13, 3.4 heads, ratio 3.73``."""
        heads = sum(self.num_heads) / self.depth
        ratio = sum(self.mlp_ratio) / self.depth
        return f"{self.embed_dim} x {self.depth}, {heads:.1f} heads, ratio {ratio:.2f}"

    def to_retrain(self) -> dict[str, Any]:
        """Give the ``RETRAIN`` section of AutoFormer's training configurations."""
        plain = AutoFormerArchitecture(self.embed_dim, self.num_heads, self.mlp_ratio)
        names = [field.name for field in dataclasses.fields(self)]
        own = [name for name in names if getattr(self, name) != getattr(plain, name)]
        if own:
            raise TftasError(
                f"the retrain format has no {own[0]}: {shown(getattr(self, own[0]))} would become"
                f" {shown(getattr(plain, own[0]))}"
            )
        return {
            "MLP_RATIO": list(self.mlp_ratio),
            "NUM_HEADS": list(self.num_heads),
            "DEPTH": self.depth,
            "EMBED_DIM": self.embed_dim,
        }

    @classmethod
    def _from_retrain(cls, section: dict[str, Any]) -> AutoFormerArchitecture:
        return cls._from_fields({name: section[key] for name, key in cls.retrain_keys.items()})

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> AutoFormerArchitecture:
        depth = fields.pop("depth", None)
        architecture = cls(**read_fields(cls, fields))
        if depth is not None and depth != architecture.depth:
            raise TftasError(
                f"depth is {shown(depth)} but num_heads lists {architecture.depth} blocks"
            )
        return architecture


def read_yaml(path: str | Path) -> Any:
    """Read a small YAML or JSON file without constructing any object but plain data.

    Raises:
        UnavailableError: The file is missing, too large, not text, or not plain YAML.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise UnavailableError(f"{path}: larger than {_MAX_FILE_BYTES} bytes, not read")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UnavailableError(f"{path}: not a text file") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, UnavailableError):
            raise
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "nested too deeply or malformed"
        raise UnavailableError(f"{path}{line}: not plain YAML ({problem})") from error


def read_architecture(path: str | Path) -> tuple[Architecture, dict[str, Any]]:
    """Read an exported file.

    Returns:
        The architecture, and the ``model`` settings of the document (``img_size``,
        ``num_classes``, ``in_chans``), empty where the file names none.

    Raises:
        UnavailableError: The file cannot be read or does not hold an architecture; names the file.
    """
    data = read_yaml(path)
    try:
        architecture = Architecture.from_dict(data)
        settings = data.get("model", {})
        if not isinstance(settings, dict):
            raise TftasError(f"model is {shown(settings)}, expected a mapping")
        model = {
            name: settings[name]
            for name in ("img_size", "num_classes", "in_chans")
            if name in settings
        }
        for name, value in model.items():
            check_int(f"model.{name}", value, 0 if name == "num_classes" else 1, 1_000_000)
    except TftasError as error:
        raise UnavailableError(f"{path}: {error}") from error
    return architecture, model


def _from_retrain(section: Any) -> Architecture:
    from tftas_optuna.families import FAMILIES

    for family in FAMILIES.values():
        if isinstance(section, dict) and section.keys() >= set(family.retrain_keys.values()):
            return family._from_retrain(section)
    forms = " or ".join(", ".join(family.retrain_keys.values()) for family in FAMILIES.values())
    raise TftasError(f"a RETRAIN section needs {forms}")


def _check_format(document: dict[str, Any]) -> None:
    if document.get("format", FORMAT) != FORMAT:
        raise TftasError(f"format is {shown(document['format'])}, expected {FORMAT}")
    version = document.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise TftasError(
            f"format_version is {shown(version)}; this release reads {FORMAT_VERSION}: upgrade"
            " tftas-optuna"
        )


def check_int(name: str, value: Any, low: int, high: int) -> None:
    """Make sure that a value is a whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise TftasError(
            f"{name} is {shown(value)}, allowed is a whole number {low} to {high}", key=(name,)
        )


def check_ratio(name: str, value: Any, width: int) -> None:
    """Make sure that a value is a ratio that gives an MLP of this width a hidden unit."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TftasError(f"{name} holds {shown(value)}, allowed are numbers", key=(name,))
    if not (0 < value <= _MAX_RATIO and int(width * value) >= 1):
        raise TftasError(
            f"{name} holds {shown(value)}, allowed is above 0 to {_MAX_RATIO:g}", key=(name,)
        )


def as_tuple(name: str, value: Any, *, per: str) -> tuple[Any, ...]:
    """Give a list as a tuple."""
    if not isinstance(value, list | tuple):
        raise TftasError(
            f"{name} is {shown(value)}, expected a list with one value per {per}", key=(name,)
        )
    return tuple(value)


def read_fields(cls: type[Architecture], fields: dict[str, Any]) -> dict[str, Any]:
    """Make sure that fields are those of an architecture's class, and none is missing."""
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    article = "an" if cls.family[0] in "aeiou" else "a"
    unknown = sorted(str(name) for name in fields if name not in known)
    if unknown:
        raise TftasError(
            f"unknown key {shown(unknown[0])} in {article} {cls.family} architecture; known:"
            f" {', '.join(cls.retrain_keys | known)}",
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


def shown(value: Any) -> str:
    """Write a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
