"""Exports networks with their weights to files that other programs run, and checks them."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from safetensors import SafetensorError
from timm.models import get_model_input_config, save_for_hf

import tftas_optuna.models  # noqa: F401  (registers the networks with timm)
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean
from tftas_optuna.export.files import check_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

UNTRAINED = "untrained"
TOLERANCE = 1e-4
_TRACED, _CHECKED = 2, (1, 2, 5)
_OPSET = 20
# Without an upper end PyTorch 2.6 refuses its own guards on the batch.
_BATCH = torch.export.Dim("batch", min=1, max=2**31 - 1)


def export_network(
    model: nn.Module, path: Path, form: str, *, trained: bool, force: bool = False
) -> tuple[Path, float]:
    """Write a network in a format, if the file computes the same when it is read back.

    An untrained network has a name that ends in ``-untrained``. All metadata have an entry
    ``weights`` (properties of the ONNX model, an extra file of TorchScript, ``config.json``).

    Args:
        model: The network, built by timm.
        path: Path to write to, without an ending.
        form: ``"onnx"`` (one file ``.onnx``; input ``images``, output ``logits``),
            ``"torchscript"`` (``.torchscript.pt``) or ``"timm"`` (a directory for timm's
            ``create_model("local-dir:...")``). The batch size is free in all of them.
        trained: Whether the network is trained.
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
    shape = get_model_input_config(model)["input_size"]
    images = torch.randn(_TRACED, *shape, generator=torch.Generator().manual_seed(0))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tftas-", dir=target.parent) as folder:
            scratch = Path(folder) / target.name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write(model, scratch, images, trained)
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


def save_timm(model: nn.Module, folder: Path, *, trained: bool) -> None:
    """Write ``model.safetensors`` and ``config.json`` to an existing directory.

    Args:
        model: The network, built by timm.
        folder: The directory.
        trained: Whether the network is trained.

    Raises:
        UnavailableError: They cannot be written.
    """
    names = cast("Any", model).pretrained_cfg.get("label_names")
    try:
        with tempfile.TemporaryDirectory(prefix=".tftas-", dir=folder) as scratch:
            save_for_hf(
                model,
                scratch,
                model_config={"label_names": list(names)} if names else None,
                safe_serialization=True,
            )
            _record_weights(Path(scratch) / "config.json", trained)
            # safetensors makes files readable for their owner alone.
            shutil.copymode(Path(scratch) / "config.json", Path(scratch) / "model.safetensors")
            _move_files(Path(scratch), folder)
    except (OSError, SafetensorError) as error:
        raise UnavailableError(f"{folder}: the model cannot be written ({error})") from error


def _record_weights(path: Path, trained: bool) -> None:
    """Record in timm's configuration whether the weights are trained."""
    config = json.loads(path.read_text(encoding="utf-8"))
    pretrained_cfg = config["pretrained_cfg"]
    if not trained:
        pretrained_cfg["tag"] = UNTRAINED
    elif pretrained_cfg.get("tag") == UNTRAINED:
        del pretrained_cfg["tag"]
    config["weights"] = _label(trained)
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _label(trained: bool) -> str:
    return "trained" if trained else UNTRAINED


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


def _write_onnx(model: nn.Module, path: Path, images: Tensor, trained: bool) -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
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
    )
    assert program is not None
    program.model.metadata_props["weights"] = _label(trained)
    program.save(str(path))


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _write_torchscript(model: nn.Module, path: Path, images: Tensor, trained: bool) -> None:
    metadata = {"weights": _label(trained)}
    torch.jit.save(torch.jit.trace(model, images), str(path), _extra_files=metadata)


def _load_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    loaded: Callable[[Tensor], Tensor] = torch.jit.load(str(path), map_location="cpu")
    return loaded


def _write_timm(model: nn.Module, path: Path, images: Tensor, trained: bool) -> None:
    path.mkdir()
    save_timm(model, path, trained=trained)


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
