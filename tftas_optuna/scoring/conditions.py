"""The conditions of a score: everything it depends on besides the candidate."""

from __future__ import annotations

import dataclasses
import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tftas_optuna._given import a_path, whole
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.metrics import Target, get_indicator
from tftas_optuna.spaces import SearchSpace, space_from_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tftas_optuna.metrics import Indicator
    from tftas_optuna.passes.images import Images
    from tftas_optuna.supernet.files import SupernetWeights

DEFAULT_N_IMAGES = 8
NOISE = "noise"
DRAWN = "drawn"
# Neither paths nor descriptions matter: digests identify what lies there.
NOT_COMPARED = ("data_dir", "supernet_path", "labelled_dir", "labelled_seen", "n_labelled")


@dataclasses.dataclass(frozen=True)
class SupernetSource:
    """The source of the supernet's weights: drawn from a seed, trained, or a larger network.

    Attributes:
        seed: Seed of the first supernet; further supernets have the seeds that follow. Images are
            drawn from it too.
        path: Directory or file of a trained supernet, or ``timm:NAME`` with options; None for
            one that is drawn.
        digest: SHA-256 of its tensors; None until they are read.
        chosen: Whether the user has asked for a drawn supernet by name.
    """

    seed: int = 0
    path: str | None = None
    digest: str | None = None
    chosen: bool = dataclasses.field(default=False, compare=False)

    def __str__(self) -> str:
        if self.path is None:
            return f"seed {self.seed}"
        return f"{self.path} (SHA-256 {str(self.digest)[:12]}...)"

    def __getstate__(self) -> dict[str, Any]:
        # Every process reads the tensors for itself.
        return {name: value for name, value in self.__dict__.items() if name != "trained"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @classmethod
    def of(cls, source: str | os.PathLike[str] | None, seed: int = 0) -> SupernetSource:
        """Return the source for a word or a path.

        Args:
            source: ``"drawn"``, the path of a trained supernet, or ``timm:NAME``; None is drawn
                by default.
            seed: The seed.

        Raises:
            TftasError: The word has no meaning here.
            UnavailableError: The trained supernet cannot be read.
        """
        seed = whole("supernet_seed", seed, 0)
        if source is None or source == DRAWN:
            return cls(seed, chosen=source is not None)
        if source == "study":
            raise TftasError(
                "supernet 'study' is the one that a study was searched on, and there is no study"
                " here; give a trained supernet, or drawn"
            )
        trained = _read(str(a_path("supernet", source)))
        opened = cls(seed, trained.source, trained.digest)
        opened.__dict__["trained"] = trained
        return opened

    @cached_property
    def trained(self) -> SupernetWeights | None:
        """The weights, which are read at the first access; None if they are drawn.

        Raises:
            UnavailableError: It cannot be read, or its weights have changed.
        """
        if self.path is None:
            return None
        trained = _read(self.path)
        if trained.digest != self.digest:
            raise UnavailableError(
                f"{self.path} holds other weights than before (digest {trained.digest[:12]}, not"
                f" {str(self.digest)[:12]}); give the supernet that this began with"
            )
        return trained

    def to_dict(self) -> dict[str, Any]:
        """Return the source as plain data."""
        return {
            "supernet_seed": self.seed,
            "supernet": DRAWN if self.path is None else self.digest,
            "supernet_path": self.path,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SupernetSource:
        """Read a source back from the data of :meth:`to_dict`."""
        seed, path = int(data["supernet_seed"]), data.get("supernet_path")
        if path is None:
            return cls(seed)
        return cls(seed, str(path), str(data["supernet"]))


def _read(source: str) -> SupernetWeights:
    # Importing this module must not load PyTorch.
    from tftas_optuna.supernet.files import read_supernet
    from tftas_optuna.supernet.larger import is_larger, read_larger

    return read_larger(source) if is_larger(source) else read_supernet(source)


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """The images that indicators see.

    Attributes:
        n_images: Images in one batch.
        data_dir: Folder of the pictures; None for noise.
        digest: SHA-256 of all images, or ``"noise"``; None until the pictures are read.
    """

    n_images: int = DEFAULT_N_IMAGES
    data_dir: str | None = None
    digest: str | None = NOISE

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_images", whole("n_images", self.n_images, 2))

    def __str__(self) -> str:
        return f"{self.n_images} of {self.data_dir or self.digest}"

    def to_dict(self) -> dict[str, Any]:
        """Return the source as plain data."""
        return {"n_images": self.n_images, "pictures": self.digest, "data_dir": self.data_dir}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageSource | None:
        """Read a source back from the data of :meth:`to_dict`; None if no images were seen."""
        # Release 0.1 had no indicator that sees images.
        if data.get("n_images") is None:
            return None
        return cls(int(data["n_images"]), data.get("data_dir"), data.get("pictures"))

    def read(
        self, seed: int, shape: tuple[int, int, int], num_classes: int, batches: int
    ) -> Images:
        """Draw the noise, or read the pictures.

        Args:
            seed: Seed of the draw.
            shape: Channels, height and width.
            num_classes: Number of classes of the network.
            batches: Number of batches; the first one does not depend on it.

        Raises:
            TftasError: The pictures do not fit.
            UnavailableError: The pictures cannot be read.
        """
        # Importing this module must not load PyTorch.
        from tftas_optuna.passes.images import noise, pictures

        if self.data_dir is None:
            return noise(seed, self.n_images, shape, num_classes, batches)
        return pictures(self.data_dir, seed, self.n_images, shape, num_classes, batches)

    @classmethod
    def of(cls, n_images: int | None = None, data_dir: str | None = None) -> ImageSource:
        """Return the source for a folder, or for noise; by default 8 images in a batch."""
        default = cls()
        digest = default.digest if data_dir is None else None
        folder = None if data_dir is None else str(a_path("data_dir", data_dir))
        return cls(default.n_images if n_images is None else n_images, folder, digest)


@dataclasses.dataclass(frozen=True)
class EvaluationSource:
    """The labelled images that slices of a trained supernet are evaluated on.

    Attributes:
        data_dir: Folder of the images, with one folder for each class or with a folder ``val`` of
            these.
        n_images: Number of images; None for all that objectives may see.
        digest: SHA-256 of the images and labels; None until they are read.
        seen: Which images these are, for people; None until they are read.
    """

    data_dir: str
    n_images: int | None = None
    digest: str | None = None
    seen: str | None = None

    @classmethod
    def of(
        cls, n_images: int | None = None, data_dir: str | None = None
    ) -> EvaluationSource | None:
        """Return the source for a folder; None without one."""
        return None if data_dir is None else cls(str(a_path("data_dir", data_dir)), n_images)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EvaluationSource | None:
        """Read a source back from plain data; None if no labelled images were seen."""
        digest, n_images = data.get("labelled_images"), data.get("n_labelled")
        if digest is None:
            return None
        return cls(
            # Exported files name no folders.
            str(data.get("labelled_dir") or ""),
            None if n_images is None else int(n_images),
            str(digest),
            str(data.get("labelled_seen")),
        )

    @staticmethod
    def to_dict(source: EvaluationSource | None) -> dict[str, Any]:
        """Return a source, or None, as plain data."""
        return {
            "labelled_images": source and source.digest,
            "n_labelled": source and source.n_images,
            "labelled_seen": source and source.seen,
            "labelled_dir": source and source.data_dir,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Conditions:
    """Everything that a score depends on besides the candidate and the indicator.

    Conditions are equal if their plain data is: so they stay equal when sent to other processes.

    Attributes:
        space: The search space; its supernet bounds the candidates.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        supernet: The source of the weights.
        n_seeds: Number of supernets that a score is averaged over.
        images: The images that indicators see; None if no indicator sees images.
        dtype: Floating-point type of the passes, by its name in torch.
        evaluation: The labelled images; None if no indicator sees labelled ones.

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
    evaluation: EvaluationSource | None = None

    def __post_init__(self) -> None:
        for name, least in (("img_size", 1), ("num_classes", 0), ("n_seeds", 1)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        if self.n_seeds > 1 and self.supernet.path is not None:
            raise TftasError(
                f"n_seeds is {self.n_seeds}, but {self.supernet.path} is one supernet"
            )

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        *,
        img_size: int | None = None,
        num_classes: int | None = None,
        supernet: SupernetSource = SupernetSource(),
        **fields: Any,
    ) -> Conditions:
        """Make conditions; sizes not given are those of a trained supernet, or of the space."""
        trained = supernet.trained
        if img_size is None:
            img_size = (trained and trained.img_size) or space.img_size
        if num_classes is None:
            num_classes = (trained and trained.num_classes) or space.num_classes
        return cls(space, img_size, num_classes, supernet=supernet, **fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditions) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @cached_property
    def _text(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @property
    def target(self) -> Target:
        """The input and output sizes that costs are computed for."""
        return Target(
            img_size=self.img_size, num_classes=self.num_classes, in_chans=self.space.in_chans
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the conditions as plain data, as studies and files record them."""
        seen = ImageSource().to_dict()
        return {
            "space_definition": self.space.to_dict(),
            **self.supernet.to_dict(),
            "n_seeds": self.n_seeds,
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            **(dict.fromkeys(seen) if self.images is None else self.images.to_dict()),
            "dtype": self.dtype,
            **EvaluationSource.to_dict(self.evaluation),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conditions:
        """Read conditions back from the data of :meth:`to_dict`; other entries are ignored.

        Raises:
            TftasError: The space is damaged, or a number is out of range.
            KeyError: An entry is missing.
            TypeError: A value has the wrong type.
            ValueError: A value cannot be read.
        """
        space = space_from_dict(data["space_definition"])

        def size(name: str) -> int:
            return int(getattr(space, name) if data.get(name) is None else data[name])

        return cls(
            space,
            size("img_size"),
            size("num_classes"),
            supernet=SupernetSource.from_dict(data),
            n_seeds=int(data["n_seeds"]),
            images=ImageSource.from_dict(data),
            dtype=str(data.get("dtype", cls.dtype)),
            evaluation=EvaluationSource.from_dict(data),
        )

    def key(self, indicator: Indicator) -> dict[str, Any]:
        """Return the conditions that matter to an indicator, as plain data."""
        if not indicator.needs_passes:
            return {"space_definition": self.space.to_dict()}
        unseen = set() if indicator.batches else set(ImageSource().to_dict())
        if not indicator.labelled:
            unseen |= set(EvaluationSource.to_dict(None))
        if self.dtype == Conditions.dtype:
            # Scores and calibrations of release 0.2.0 name no type: it was always this one.
            unseen.add("dtype")
        if self.supernet.path is None:
            unseen.add("supernet")
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in (*NOT_COMPARED, *unseen)
        }

    def differs_from(self, other: Conditions, indicator: Indicator | None = None) -> str | None:
        """Describe the first difference from other conditions.

        A value of None is unknown and counts as equal to any other.

        Args:
            other: The conditions to compare with.
            indicator: Compare only what matters to it; None to compare everything.

        Returns:
            Text such as ``"n seeds 1, not 2"``, with the value of these conditions first; None if
            nothing differs.
        """
        ours = self.to_dict() if indicator is None else self.key(indicator)
        theirs = other.to_dict() if indicator is None else other.key(indicator)
        compared = [
            name
            for name in ours
            if name not in NOT_COMPARED and None not in (ours[name], theirs.get(name))
        ]
        return difference({n: ours[n] for n in compared}, {n: theirs[n] for n in compared})


def batches_seen(names: Iterable[str]) -> int:
    """Return how many batches of images the named indicators see; 0 if they see none."""
    return max((get_indicator(name).batches for name in names), default=0)


def sees_labelled(names: Iterable[str]) -> bool:
    """Return whether one of the named indicators sees labelled images."""
    return any(get_indicator(name).labelled for name in names)


def check_labelled(names: Iterable[str], conditions: Conditions) -> None:
    """Check that there is what indicators that see labelled images need, and parts of others.

    Raises:
        TftasError: There is not.
    """
    for indicator in map(get_indicator, names):
        for part in (*indicator.made_of, indicator):
            if part.labelled and not part.composite:
                part.check_conditions(conditions)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Describe the first entry that differs between two mappings, nested ones included.

    Returns:
        Text such as ``"n seeds 1, not 2"``, with the old value first; None if nothing differs.
    """
    for name in dict.fromkeys((*old, *new)):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        what = name.replace("_", " ")
        if isinstance(before, dict) and isinstance(now, dict):
            return f"{what}: {difference(before, now)}"
        return f"{what} {_shortened(before)}, not {_shortened(now)}"
    return None


def _shortened(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = ", ".join(map(str, value))
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
