"""Says what kind of network a word stands for: a directory, a file, or a name.

Commands that take a network take it in one of these spellings:

=================  ==========================================================================
kind               spelling
=================  ==========================================================================
``"directory"``    ``DIR`` or ``local-dir:DIR``: what ``retrain`` or ``export -f timm`` left
``"architecture"`` an exported ``.yaml`` or ``.json``, or a published name: without weights
``"timm"``         a model of timm, ``NAME``, ``NAME.TAG`` or ``hf-hub:ID``
``"onnx"``         an exported ``.onnx``
``"torchscript"``  an exported ``.torchscript.pt``, or any TorchScript archive
=================  ==========================================================================
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import timm

import tftas_optuna.models  # noqa: F401  (registers the networks with timm)
from tftas_optuna._given import LOCAL
from tftas_optuna.architecture import Architecture
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean, first_line
from tftas_optuna.export.metadata import ARCHITECTURE
from tftas_optuna.spaces import published_architectures
from tftas_optuna.supernet.files import is_supernet

if TYPE_CHECKING:
    from collections.abc import Collection

Kind = Literal["directory", "architecture", "timm", "onnx", "torchscript"]
CONFIG = "config.json"
HUB = ("hf-hub:", "hf_hub:")

_DOCUMENTS = (".yaml", ".yml", ".json")
_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin")
_KINDS: dict[Kind, str] = {
    "directory": "a directory of `tftas-optuna retrain`",
    "architecture": "an exported file",
    "timm": "a model of timm",
    "onnx": "an ONNX file",
    "torchscript": "a TorchScript file",
}
_SHOWN = 3


class NetworkSource(NamedTuple):
    """What a word stands for; nothing is built or loaded yet.

    Attributes:
        kind: One of the kinds above.
        name: For ``timm.create_model`` (kinds ``"directory"`` and ``"timm"``), else as given.
        path: The directory or the file; None for a name.
    """

    kind: Kind
    name: str
    path: Path | None = None

    def __str__(self) -> str:
        return self.name if self.path is None else str(self.path)

    @property
    def label(self) -> str:
        """What to call it: a plain file name, without endings."""
        if self.path is None:
            return self.name.rpartition("/")[2].rpartition(":")[2]
        if self.kind == "directory":
            return self.path.resolve().name or "network"
        return self.path.name.split(".")[0] or "network"


def find_source(name: str | Path, *, kinds: Collection[Kind] = tuple(_KINDS)) -> NetworkSource:
    """Say what a word stands for, without loading it.

    A directory or a file that exists goes before a name of the same spelling.

    Args:
        name: What the user gave.
        kinds: The kinds that are allowed here.

    Raises:
        TftasError: It is none of them, or of a kind that is not allowed here.
        UnavailableError: The directory or the file is missing, or holds no network; says what it
            holds.
    """
    source = _source(str(name), kinds)
    if source.kind not in kinds:
        raise TftasError(f"{name} is {_KINDS[source.kind]}; give {_listed(kinds)}")
    return source


def read_config(folder: Path) -> dict[str, Any]:
    """Read timm's configuration of the network in a directory.

    Raises:
        UnavailableError: There is none, or it cannot be read.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnavailableError(f"{path} cannot be read ({first_line(error)})") from error
    if not isinstance(config, dict):
        raise UnavailableError(f"{path} is no configuration of timm")
    return config


def recorded_architecture(config: dict[str, Any]) -> Architecture | None:
    """Return the architecture that a configuration records; None for a network of timm's.

    A network of timm's own class has it beside timm's entries, one of this package's classes
    among the arguments of the class.

    Raises:
        TftasError: It is damaged.
    """
    arguments = config.get("model_args")
    named = arguments.get(ARCHITECTURE) if isinstance(arguments, dict) else None
    data = config.get(ARCHITECTURE, named)
    return None if data is None else Architecture.from_dict(data)


def _source(name: str, kinds: Collection[Kind]) -> NetworkSource:
    local = name.startswith(LOCAL)
    path = Path(name.removeprefix(LOCAL))
    if (path / CONFIG).is_file():
        return NetworkSource("directory", f"{LOCAL}{path}", path)
    if local and not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UnavailableError(f"{path} {what}; give {_KINDS['directory']}")
    if not local:
        if path.suffix in _DOCUMENTS:
            return NetworkSource("architecture", name, path)
        if path.is_file():
            return _file(name, path, kinds)
        if name in published_architectures():
            return NetworkSource("architecture", name)
        if name.startswith(HUB) or timm.is_model(name):
            return NetworkSource("timm", name)
    if path.is_dir():
        raise UnavailableError(f"{path} {_holds(path)}")
    if path.suffix in (".onnx", *_CHECKPOINTS) or len(path.parts) > 1:
        raise UnavailableError(f"{name} does not exist; give {_listed(kinds)}")
    published = published_architectures()
    models = timm.list_models() if "timm" in kinds else []
    raise TftasError(
        f"{name!r} is neither a file, a directory{', a timm model' if models else ''}, nor one of"
        f" {', '.join(published)}{did_you_mean(name, (*published, *models), most=0)}"
    )


def _file(name: str, path: Path, kinds: Collection[Kind]) -> NetworkSource:
    if path.suffix == ".onnx":
        return NetworkSource("onnx", name, path)
    if _is_torchscript(path):
        return NetworkSource("torchscript", name, path)
    if path.suffix in _CHECKPOINTS:
        raise UnavailableError(
            f"{path} holds weights without their network; give the directory that they belong to"
        )
    if "architecture" not in kinds:
        raise UnavailableError(f"{path} is no network; give {_listed(kinds)}")
    # Exported files may have any name; reading one says if it is something else.
    return NetworkSource("architecture", name, path)


def _is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive; checkpoints have no code in them."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in entry for entry in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _holds(folder: Path) -> str:
    """Say what a directory holds in place of a network, and what to give."""
    if is_supernet(folder):
        return (
            "holds a supernet, from which networks are cut; write one as a network:"
            f" `tftas-optuna export --study-name NAME --best -f timm --weights {folder}`"
        )
    inner = sorted(str(entry.parent) for entry in folder.glob(f"*/{CONFIG}"))
    if inner:
        more = f", and {len(inner) - _SHOWN} more" if len(inner) > _SHOWN else ""
        return f"holds no network itself; give one of {', '.join(inner[:_SHOWN])}{more}"
    return f"holds no {CONFIG}; give a directory that `tftas-optuna retrain` finished"


def _listed(kinds: Collection[Kind]) -> str:
    *most, last = [text for kind, text in _KINDS.items() if kind in kinds]
    return f"{', '.join(most)} or {last}" if most else last
