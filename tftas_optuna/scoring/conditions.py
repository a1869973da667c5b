"""What a score depends on besides the candidate: one value that everything else contains."""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import Target, get_indicator
from tftas_optuna.spaces import SearchSpace, space_from_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tftas_optuna.metrics import Indicator
    from tftas_optuna.passes.images import Images

DEFAULT_N_IMAGES = 8
NOISE = "noise"
# Where pictures lie does not matter: their digest tells whether they are the same.
_NOT_COMPARED = ("data_dir",)


@dataclasses.dataclass(frozen=True)
class SupernetSource:
    """Where the weights come from that candidates are cut from: drawn from a seed.

    Attributes:
        seed: Seed of the first supernet; further ones have the seeds that follow.
    """

    seed: int = 0

    def __str__(self) -> str:
        return f"seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"supernet_seed": self.seed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SupernetSource:
        """Read it back; see :meth:`to_dict`."""
        return cls(int(data["supernet_seed"]))


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """The images that indicators see.

    Attributes:
        n_images: Images of one batch.
        data_dir: Folder of the pictures; None for noise.
        digest: SHA-256 of all images that are seen, or ``"noise"``; None while it is not known.
    """

    n_images: int = DEFAULT_N_IMAGES
    data_dir: str | None = None
    digest: str | None = NOISE

    def __post_init__(self) -> None:
        if self.n_images < 2:
            raise TftasError(f"n_images is {self.n_images}, allowed is 2 or more")

    def __str__(self) -> str:
        return f"{self.n_images} of {self.data_dir or self.digest}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"n_images": self.n_images, "pictures": self.digest, "data_dir": self.data_dir}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageSource | None:
        """Read it back, see :meth:`to_dict`; None where no images were seen."""
        # Release 0.1 had no indicator that sees images.
        if data.get("n_images") is None:
            return None
        return cls(int(data["n_images"]), data.get("data_dir"), data.get("pictures"))

    def read(
        self, seed: int, shape: tuple[int, int, int], num_classes: int, batches: int
    ) -> Images:
        """Draw the noise, or read the pictures.

        Args:
            seed: Which are drawn.
            shape: Channels, height and width.
            num_classes: Classes that the network tells apart.
            batches: How many batches; the first of several is the one that a single one would be.

        Raises:
            TftasError: The pictures do not fit.
            UnavailableError: There are none.
        """
        # PyTorch is loaded when there is something to see.
        from tftas_optuna.passes.images import noise, pictures

        if self.data_dir is None:
            return noise(seed, self.n_images, shape, num_classes, batches)
        return pictures(self.data_dir, seed, self.n_images, shape, num_classes, batches)

    @classmethod
    def of(cls, n_images: int | None = None, data_dir: str | None = None) -> ImageSource:
        """Make the images of a folder, or of noise; by default 8 in a batch."""
        usual = cls()
        digest = usual.digest if data_dir is None else None
        return cls(usual.n_images if n_images is None else n_images, data_dir, digest)


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """All that a score depends on besides the candidate and the indicator.

    Two of them are equal where their plain data is: they travel to other processes.

    Attributes:
        space: The search space, whose supernet bounds the candidates.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        supernet: Where the weights come from.
        n_seeds: Supernets that a score is averaged over.
        images: What indicators see; None where none of them sees images.
        dtype: Floating-point type of the passes, by its name in torch.

    Raises:
        TftasError: A number is out of range.
    """

    space: SearchSpace
    img_size: int
    num_classes: int
    supernet: SupernetSource = SupernetSource()
    n_seeds: int = 1
    images: ImageSource | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.n_seeds < 1:
            raise TftasError(f"n_seeds is {self.n_seeds}, allowed is 1 or more")

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        *,
        img_size: int | None = None,
        num_classes: int | None = None,
        **others: Any,
    ) -> Conditions:
        """Make conditions, with the sizes of the space where none are given."""
        return cls(
            space,
            space.img_size if img_size is None else img_size,
            space.num_classes if num_classes is None else num_classes,
            **others,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditions) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @cached_property
    def _text(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @property
    def target(self) -> Target:
        """What costs are taken for."""
        return Target(
            img_size=self.img_size, num_classes=self.num_classes, in_chans=self.space.in_chans
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as studies and files record it."""
        seen = ImageSource().to_dict()
        return {
            "space_definition": self.space.to_dict(),
            **self.supernet.to_dict(),
            "n_seeds": self.n_seeds,
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            **(dict.fromkeys(seen) if self.images is None else self.images.to_dict()),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conditions:
        """Read conditions back; other entries do no harm.

        Raises:
            TftasError: The space is damaged, or a number out of range.
            KeyError: Something is missing.
            TypeError: A value is of another kind than it must be.
            ValueError: A value cannot be read.
        """
        return cls.of(
            space_from_dict(data["space_definition"]),
            **{n: int(data[n]) for n in ("img_size", "num_classes") if data.get(n) is not None},
            supernet=SupernetSource.from_dict(data),
            n_seeds=int(data["n_seeds"]),
            images=ImageSource.from_dict(data),
            dtype=str(data.get("dtype", cls.dtype)),
        )

    def key(self, indicator: Indicator) -> dict[str, Any]:
        """Return what of them matters to an indicator, as plain data."""
        if not indicator.needs_passes:
            return {"space_definition": self.space.to_dict()}
        unseen = () if indicator.batches else ImageSource().to_dict()
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in (*_NOT_COMPARED, *unseen)
        }

    def differs_from(self, other: Conditions, indicator: Indicator | None = None) -> str | None:
        """Name the first difference to other conditions; None where there is none.

        What is None is not known, and differs from nothing.

        Args:
            other: The others.
            indicator: Whose scores are meant; None for all that there is.

        Returns:
            Text such as ``"n seeds 1, not 2"``: this one's value first.
        """
        ours = self.to_dict() if indicator is None else self.key(indicator)
        theirs = other.to_dict() if indicator is None else other.key(indicator)
        compared = [
            name
            for name in ours
            if name not in _NOT_COMPARED and None not in (ours[name], theirs.get(name))
        ]
        return difference({n: ours[n] for n in compared}, {n: theirs[n] for n in compared})


def batches_seen(names: Iterable[str]) -> int:
    """Count the batches of images that some indicators see, by their names."""
    return max((get_indicator(name).batches for name in names), default=0)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Name the first entry that differs in two mappings, as narrowly as possible.

    Returns:
        Text such as ``"n seeds 1, not 2"``, the old value first; None where nothing differs.
    """
    for name in dict.fromkeys((*old, *new)):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        what = name.replace("_", " ")
        if isinstance(before, dict) and isinstance(now, dict):
            return f"{what}: {difference(before, now)}"
        return f"{what} {_shown(before)}, not {_shown(now)}"
    return None


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = ", ".join(map(str, value))
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
