"""Trained supernets in files: what shared training leaves, and AutoFormer's checkpoints.

A directory of shared training holds ``supernet.safetensors``, whose tensors have the names of
:meth:`tftas_optuna.supernet.Supernet.shapes`, and ``supernet.yaml``, which describes them. A file
``.pth`` or ``.pt`` is a checkpoint of AutoFormer's training: a dictionary with the tensors under
``"model"``, and beside them the command line's ``argparse.Namespace``.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tftas_optuna._reading import reading
from tftas_optuna._writing import replacing
from tftas_optuna.architecture import Architecture, read_yaml
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.supernet.slicing import PREFIXES, Slicing

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import Tensor

    from tftas_optuna.supernet._base import Supernet

WEIGHTS, ABOUT = "supernet.safetensors", "supernet.yaml"
_CHECKPOINTS = (".pth", ".pt", ".tar")
_REMEDY = (
    "give a directory that `tftas-optuna retrain --shared` finished, or a checkpoint of AutoFormer"
)
_FORMAT = 1
# Arguments of PreNAS's training that AutoFormer's does not have.
_OF_PRENAS = ("candfile", "switch_ln", "scale_attn", "scale_mlp", "scale_embed")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images were prepared in training, with timm's names; the defaults are ImageNet's.

    Attributes:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        crop_pct: Share of the image that evaluation keeps.
        interpolation: How images are resized.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_pct: float = 0.875
    interpolation: str = "bicubic"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the names of ``timm.data.create_transform``."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Read it back from the data of :meth:`to_dict`; other entries are ignored."""
        return cls(
            tuple(map(float, data["mean"])),
            tuple(map(float, data["std"])),
            float(data["crop_pct"]),
            str(data["interpolation"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupernetWeights(ABC):
    """Weights that candidates are cut from.

    Attributes:
        tensors: The weights by name.
        preprocessing: How images are prepared for them.
        space: The search space as plain data; None if nobody says.
        img_size: Height and width of the input, in pixels; None if nobody says.
        num_classes: Outputs of the classifier; None if nobody says.
        class_names: Names of the classes in the order of the outputs; None if unknown.
        members: The architectures that were trained; None for all of the space.
        traits: Properties of the architectures, as far as they are named.
        slicing: Which of the weights candidates take, where there is a choice.
        adapts: Whether they suit every size of images, and other classes with a drawn classifier.
    """

    adapts: ClassVar[bool] = False

    tensors: Mapping[str, Tensor]
    preprocessing: Preprocessing = Preprocessing()
    space: Mapping[str, Any] | None = None
    img_size: int | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    members: tuple[Architecture, ...] | None = None
    traits: Mapping[str, object] = dataclasses.field(default_factory=dict)
    slicing: Slicing = PREFIXES

    @property
    def digest(self) -> str:
        """SHA-256 of the names, types, shapes and bytes of the tensors."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            if tensor.numel():
                # NumPy does not know all types of PyTorch, and a scalar has no bytes to view.
                digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    @abstractmethod
    def source(self) -> str:
        """What ``--supernet`` takes to open them, in every working directory."""

    def for_supernet(self, supernet: Supernet) -> Mapping[str, Tensor]:
        """Return the weights for a supernet, by its names.

        Raises:
            TftasError: They cannot be arranged for it.
        """
        return self.tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedSupernet(SupernetWeights):
    """A trained supernet in a file or directory.

    Attributes:
        path: The directory or file.
        trained_on: Where and how it was trained, for people.
    """

    path: Path
    trained_on: str = ""

    @property
    def source(self) -> str:
        """The path, from the root."""
        return str(self.path.resolve())


def is_supernet(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is meant as a trained supernet: its directory, or its file."""
    path = Path(path)
    return (path / ABOUT).is_file() or path.name in (WEIGHTS, ABOUT)


def read_supernet(path: str | os.PathLike[str]) -> TrainedSupernet:
    """Read a trained supernet; nothing but tensors is read from it.

    Args:
        path: A directory of shared training, or a checkpoint of AutoFormer.

    Raises:
        UnavailableError: It is missing, damaged or something else.
    """
    path = Path(path)
    if path.name in (WEIGHTS, ABOUT):
        path = path.parent
    if (path / ABOUT).is_file():
        return _read_directory(path)
    if path.is_file() and path.suffix in _CHECKPOINTS:
        return _read_checkpoint(path)
    if not path.exists():
        raise UnavailableError(f"supernet {str(path)!r} does not exist; {_REMEDY}")
    raise UnavailableError(f"{path} is no trained supernet; {_REMEDY}")


def write_supernet(supernet: TrainedSupernet) -> None:
    """Write a trained supernet to its directory, which must exist; the description comes last.

    Raises:
        OSError: It cannot be written.
    """
    folder = supernet.path
    with replacing(folder / WEIGHTS) as scratch:
        tensors = {name: t.detach().cpu().contiguous() for name, t in supernet.tensors.items()}
        try:
            save_file(tensors, scratch, metadata={"format": "pt"})
        except SafetensorError as error:
            # Its own class, even where the disk is full.
            raise OSError(f"{folder / WEIGHTS}: {error}") from error
    members = supernet.members
    about = {
        "format": _FORMAT,
        "digest": supernet.digest,
        "space": supernet.space,
        "img_size": supernet.img_size,
        "num_classes": supernet.num_classes,
        "class_names": None if supernet.class_names is None else list(supernet.class_names),
        **supernet.preprocessing.to_dict(),
        "slicing": dataclasses.asdict(supernet.slicing),
        "trained_on": supernet.trained_on,
        "members": None if members is None else [member.to_dict() for member in members],
    }
    with replacing(folder / ABOUT) as scratch:
        header = "# A trained supernet; `--supernet` takes this directory.\n"
        plain = json.loads(json.dumps(about))
        text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=99)
        scratch.write_text(header + text, encoding="utf-8")
    # safetensors makes files readable for their owner alone.
    shutil.copymode(folder / ABOUT, folder / WEIGHTS)


def _read_directory(path: Path) -> TrainedSupernet:
    about = read_yaml(path / ABOUT)
    file = path / WEIGHTS
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise UnavailableError(f"{path / ABOUT} describes no supernet of this release; {_REMEDY}")
    if not file.is_file():
        raise UnavailableError(f"{path} holds no {WEIGHTS}; {_REMEDY}")
    with reading(file, lambda reason: f"{file} cannot be read: {reason}; {_REMEDY}"):
        tensors = load_file(file)
    try:
        members, names = about["members"], about["class_names"]
        trained = TrainedSupernet(
            path=path,
            tensors=tensors,
            preprocessing=Preprocessing.from_dict(about),
            space=about["space"],
            img_size=int(about["img_size"]),
            num_classes=int(about["num_classes"]),
            class_names=None if names is None else tuple(map(str, names)),
            members=None if members is None else tuple(map(Architecture.from_dict, members)),
            slicing=Slicing(**about["slicing"]),
            trained_on=str(about["trained_on"]),
        )
    except (KeyError, TypeError, ValueError, TftasError) as error:
        raise UnavailableError(f"{path / ABOUT} is damaged ({error}); {_REMEDY}") from error
    if trained.digest != about.get("digest"):
        raise UnavailableError(
            f"{file} holds other weights than {ABOUT} describes; copy both from one training"
        )
    return trained


def _is_weight(item: tuple[object, object]) -> bool:
    name, tensor = item
    return (
        isinstance(name, str)
        and isinstance(tensor, torch.Tensor)
        and tensor.layout is torch.strided
        and not tensor.is_quantized
    )


def _read_checkpoint(path: Path) -> TrainedSupernet:
    with reading(path, lambda reason: f"{path} cannot be read: {reason}; {_REMEDY}"):
        # AutoFormer keeps its arguments beside the weights; nothing else may be loaded.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    tensors = loaded.get("model") if isinstance(loaded, dict) else None
    if not isinstance(tensors, dict) or not all(map(_is_weight, tensors.items())):
        raise UnavailableError(f'{path} holds no tensors under "model"; {_REMEDY}')
    arguments = loaded.get("args")
    if not isinstance(arguments, argparse.Namespace):
        raise UnavailableError(
            f'{path} does not say how it was trained: it has no "args" beside its weights;'
            f" {_REMEDY}"
        )
    if any(hasattr(arguments, name) for name in _OF_PRENAS):
        raise UnavailableError(
            f"{path} is a checkpoint of PreNAS, whose networks take other parts of the bias of"
            f" qkv than AutoFormer's; {_REMEDY}"
        )
    traits: dict[str, object] = {}
    if hasattr(arguments, "gp"):
        traits["global_pool"] = "avg" if arguments.gp else "token"
    if not getattr(arguments, "change_qkv", True):
        traits["head_dim"] = None
    head = tensors.get("head.weight")
    return TrainedSupernet(
        path=path,
        tensors=tensors,
        num_classes=None if head is None or head.ndim != 2 else len(head),
        traits=traits,
        trained_on="ImageNet",
    )
