"""Exports networks with their weights to files that other programs run, and checks them."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import warnings
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
import torch
from safetensors import SafetensorError
from timm.models import save_for_hf

import tftas_optuna.models  # noqa: F401  (registers the networks with timm)
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean
from tftas_optuna.export.files import check_directory
from tftas_optuna.export.metadata import (
    ARCHITECTURE,
    UNTRAINED,
    VERSION,
    class_names,
    describe,
    preparation,
    weights_label,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

TOLERANCE = 1e-4
_TRACED, _CHECKED = 2, (1, 2, 5)
_OPSET = 20
# Largest number of values from which constants are computed. Shapes are smaller; tables of
# relative positions are larger, and would be written out for all pairs of rows and columns.
_FOLDED = 64
# Without an upper end PyTorch 2.6 refuses its own guards on the batch.
_BATCH = torch.export.Dim("batch", min=1, max=2**31 - 1)


def export_network(
    model: nn.Module,
    path: Path,
    form: str,
    *,
    trained: bool,
    origin: Mapping[str, Any] | None = None,
    force: bool = False,
) -> tuple[Path, float]:
    """Write a network in a format, if the file computes the same when it is read back.

    An untrained network has a name that ends in ``-untrained``. Files say how their images are
    prepared, what their classes are called and where they come from, see
    :mod:`tftas_optuna.export.metadata`; a directory says so in ``config.json``.

    Args:
        model: The network, built by timm.
        path: Path to write to, without an ending.
        form: ``"onnx"`` (one file ``.onnx``; input ``images``, output ``logits``),
            ``"torchscript"`` (``.torchscript.pt``) or ``"timm"`` (a directory for timm's
            ``create_model("local-dir:...")``). The batch size is free in all of them.
        trained: Whether the network is trained.
        origin: The ``name`` of the study that it comes from, and the ``trial``.
        force: Whether to replace an existing file.

    Returns:
        The path that was written, and the largest difference of a logit from the network's own,
        over random images at batch sizes other than the traced one.

    Raises:
        TftasError: There is no such format.
        UnavailableError: A package is missing, another file is in the way, the disk is full, or
            the written network computes something else.
    """
    if form not in _FORMS:
        raise TftasError(f"format {form!r} does not exist{did_you_mean(form, _FORMS)}")
    ending, write, load = _FORMS[form]
    target = path.with_name(path.name + ("" if trained else f"-{UNTRAINED}") + ending)
    check_directory(target.parent)
    if os.path.lexists(target) and not force:
        raise UnavailableError(f"{target} in the way; use --force or another directory")
    model = copy.deepcopy(model).cpu().float().eval()
    shape = preparation(model)["input_size"]
    about = _About(trained, origin)
    images = torch.randn(_TRACED, *shape, generator=torch.Generator().manual_seed(0))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tftas-", dir=target.parent) as folder:
            scratch = Path(folder) / target.name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write(model, scratch, images, about)
                worst = _difference(model, load(scratch), shape)
            if not worst <= TOLERANCE:
                raise UnavailableError(
                    f"{target.name}: {form} computes something else than PyTorch, by {worst:.2g};"
                    " not kept"
                )
            if target.is_dir():
                _move_files(scratch, target)
            else:
                os.replace(scratch, target)
    except OSError as error:
        raise UnavailableError(
            f"{error.filename or target}: cannot be written ({error.strerror or error})"
        ) from error
    return target, worst


def loads_where(model: nn.Module) -> str:
    """Return where timm loads a network that is written as a directory, in one line."""
    arch = getattr(model, "architecture", None)
    if type(model).__module__.startswith("timm."):
        return "timm loads it, without tftas-optuna"
    beyond = None if arch is None else arch.beyond_timm()
    why = "" if beyond is None else f": it has {beyond}"
    return f"timm loads it where tftas-optuna is installed and imported{why}"


def save_timm(
    model: nn.Module, folder: Path, *, trained: bool, origin: Mapping[str, Any] | None = None
) -> None:
    """Write ``model.safetensors`` and ``config.json`` to an existing directory.

    Args:
        model: The network, built by timm.
        folder: The directory.
        trained: Whether the network is trained.
        origin: The ``name`` of the study that it comes from, and the ``trial``.

    Raises:
        UnavailableError: They cannot be written.
    """
    names = class_names(model)
    try:
        with tempfile.TemporaryDirectory(prefix=".tftas-", dir=folder) as scratch:
            save_for_hf(
                model,
                scratch,
                model_config={"label_names": list(names)} if names else None,
                safe_serialization=True,
            )
            _complete(model, Path(scratch) / "config.json", _About(trained, origin))
            # safetensors makes files readable for their owner alone.
            shutil.copymode(Path(scratch) / "config.json", Path(scratch) / "model.safetensors")
            _move_files(Path(scratch), folder)
    except (OSError, SafetensorError) as error:
        raise UnavailableError(f"{folder}: the model cannot be written ({error})") from error


class _About(NamedTuple):
    """What is written beside the weights: whether they are trained, and where they come from."""

    trained: bool
    origin: Mapping[str, Any] | None


def _complete(model: nn.Module, path: Path, about: _About) -> None:
    """Record in timm's configuration whether the weights are trained, and where all is from."""
    config = json.loads(path.read_text(encoding="utf-8"))
    pretrained_cfg = config["pretrained_cfg"]
    if not about.trained:
        pretrained_cfg["tag"] = UNTRAINED
    elif pretrained_cfg.get("tag") == UNTRAINED:
        del pretrained_cfg["tag"]
    arch = getattr(model, "architecture", None)
    if arch is not None and ARCHITECTURE not in config.get("model_args", {}):
        # timm's own classes are not built from it, but resuming and comparing need it.
        config[ARCHITECTURE] = arch.to_dict()
    config["weights"] = weights_label(about.trained)
    if about.origin:
        config["study"] = dict(about.origin)
    config[VERSION] = metadata.version("tftas-optuna")
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _difference(
    model: nn.Module, other: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> float:
    generator = torch.Generator().manual_seed(1)
    worst = torch.zeros(())
    with torch.no_grad():
        for batch in _CHECKED:
            images = torch.randn(batch, *shape, generator=generator)
            # Unlike Python's, this maximum keeps a NaN.
            worst = torch.maximum(worst, (model(images) - other(images)).abs().max())
    return float(worst)


def _write_onnx(model: nn.Module, path: Path, images: Tensor, about: _About) -> None:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        from onnxscript import optimizer
        from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError as error:
        raise UnavailableError(
            f"ONNX needs {error.name}; pip install 'tftas-optuna[onnx]'"
        ) from error
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        opset_version=_OPSET,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: _BATCH},),
        verbose=False,
        optimize=False,
    )
    assert program is not None
    optimizer.optimize(program.model, input_size_limit=_FOLDED)
    # PyTorch records a stack trace for every operation, with the paths of this machine.
    ClearMetadataAndDocStringPass()(program.model)
    proto = program.model_proto
    # Whoever needs the shapes of intermediate values infers them.
    proto.graph.ClearField("value_info")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.ClearField("metadata_props")
    onnx.helper.set_model_props(proto, describe(model, **about._asdict()))
    onnx.save(proto, str(path))


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _write_torchscript(model: nn.Module, path: Path, images: Tensor, about: _About) -> None:
    texts = describe(model, **about._asdict())
    whole = path.parent / "whole" / path.name
    whole.parent.mkdir()
    torch.jit.save(torch.jit.trace(model, images), str(whole), _extra_files=texts)
    # PyTorch records where each operation stands in the source, with the paths of this machine.
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w") as stripped:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                stripped.writestr(entry, archive.read(entry))


def _load_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    loaded: Callable[[Tensor], Tensor] = torch.jit.load(str(path), map_location="cpu")
    return loaded


def _write_timm(model: nn.Module, path: Path, images: Tensor, about: _About) -> None:
    path.mkdir()
    save_timm(model, path, **about._asdict())


def _load_timm(path: Path) -> Callable[[Tensor], Tensor]:
    loaded: nn.Module = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    return loaded


def _move_files(source: Path, target: Path) -> None:
    # The configuration goes last: a directory with one is complete.
    for file in sorted(source.iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, target / file.name)


_FORMS = {
    "onnx": (".onnx", _write_onnx, _load_onnx),
    "torchscript": (".torchscript.pt", _write_torchscript, _load_torchscript),
    "timm": ("", _write_timm, _load_timm),
}
NETWORK_FORMATS = tuple(_FORMS)
