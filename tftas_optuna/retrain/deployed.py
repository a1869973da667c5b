"""Networks that are ready to use, whatever kind of file they are in: images in, logits out."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset

from tftas_optuna._reading import reading
from tftas_optuna.devices import (
    layer_macs,
    limit_threads,
    resolve_device,
    threads_for,
    usual_threads,
)
from tftas_optuna.errors import TftasError, UnavailableError, first_line
from tftas_optuna.export.metadata import NAMES, check, class_names, parse, preparation
from tftas_optuna.retrain.network import Network, build_network, read_model
from tftas_optuna.retrain.sources import HUB, find_source
from tftas_optuna.retrain.trained import is_trained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from tftas_optuna.retrain.sources import NetworkSource

_NO_WEIGHTS = (
    "{} has no weights; give a directory that `tftas-optuna retrain` or `export -f timm` left, or"
    " an exported .onnx or .torchscript.pt"
)
_NEEDED = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "num_classes")


@dataclasses.dataclass(frozen=True)
class Deployed:
    """A network that is ready to use.

    Attributes:
        source: Where it is from.
        logits: Maps prepared images, shape (batch, channels, height, width), on any device, to
            logits on the CPU, shape (batch, classes).
        preparation: How images are prepared, with the names of timm's transforms.
        num_classes: Number of its outputs.
        class_names: Names of its classes in the order of the outputs; None if it names none.
        trained: Whether it is trained.
    """

    source: NetworkSource
    logits: Callable[[Tensor], Tensor]
    preparation: Mapping[str, Any]
    num_classes: int
    class_names: tuple[str, ...] | None
    trained: bool

    @property
    def mode(self) -> str:
        """Pillow's name of the mode of its images."""
        return "L" if self.preparation["input_size"][0] == 1 else "RGB"


def open_network(name: str | Path, device: str = "auto") -> Deployed:
    """Open a network with its weights.

    Args:
        name: A directory of ``retrain`` or ``export -f timm``, an ``.onnx`` or TorchScript file
            of ``export``, or a pretrained model of timm; see
            :mod:`tftas_optuna.retrain.sources`.
        device: Where it computes. Exported files compute on the CPU, also for ``"auto"``.

    Raises:
        TftasError: It has no weights or no classes, takes no images of 1 or 3 channels, is a file
            and the device is no CPU, or there is no such device.
        UnavailableError: It is missing or damaged, cannot be downloaded, or does not say how its
            images are prepared.
    """
    source = find_source(name)
    hub = source.name.startswith(HUB)
    if source.kind == "architecture" or (
        source.kind == "timm" and not hub and not timm.is_model_pretrained(source.name)
    ):
        raise TftasError(_NO_WEIGHTS.format(name))
    is_file = source.kind in ("onnx", "torchscript")
    resolved = resolve_device("cpu" if is_file and device == "auto" else device)
    if is_file and resolved.type != "cpu":
        raise TftasError(f"{name} is computed on the CPU, not on {device}; give --device cpu")
    if is_file:
        deployed = (_of_onnx if source.kind == "onnx" else _of_torchscript)(source)
    else:
        deployed = _of_module(source, resolved)
    channels = deployed.preparation["input_size"][0]
    if channels not in (1, 3):
        raise TftasError(f"{name} takes images of {channels} channels, not 1 or 3")
    if deployed.num_classes < 1:
        raise TftasError(f"{name} has no classifier; give a network with classes")
    return deployed


def _of_module(source: NetworkSource, device: torch.device) -> Deployed:
    if source.path is not None:
        model, trained = read_model(source.path), is_trained(source.path)
        names = class_names(model)
    else:
        network = Network(source.label, source.name)
        model, trained = build_network(network, num_classes=None, weights="pretrained"), True
        subset = infer_imagenet_subset(model)
        names = None if subset is None else tuple(ImageNetInfo(subset).label_names())
    model = model.eval().to(device)
    with reading(source.path, lambda reason: f"{source} cannot be used: {reason}"):
        prepared = preparation(model)
        check(prepared)
    macs = layer_macs(model, prepared["input_size"])

    @torch.inference_mode()
    def logits(images: Tensor) -> Tensor:
        with limit_threads(threads_for(macs * len(images), device)):
            return model(images.to(device)).float().cpu()

    return Deployed(source, logits, prepared, _outputs(model), names, trained)


def _outputs(model: nn.Module) -> int:
    return int(getattr(model, "num_classes", 0))


def _of_onnx(source: NetworkSource) -> Deployed:
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(
            f"{source.name} is run by onnxruntime; pip install 'tftas-optuna[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usual_threads()
    try:
        session = onnxruntime.InferenceSession(
            source.name, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # Its errors have no common class.
        raise UnavailableError(f"{source.name} cannot be loaded: {first_line(error)}") from error
    texts = session.get_modelmeta().custom_metadata_map
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise UnavailableError(f"{source.name} has {len(inputs)} inputs, not one for images")
    (first,) = inputs

    def logits(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {first.name: images.cpu().numpy()})[0])

    return _of_file(source, logits, texts)


def _of_torchscript(source: NetworkSource) -> Deployed:
    """Open a TorchScript archive.

    Its code is TorchScript, which PyTorch interprets itself, and its data are read by an
    unpickler that knows tensors and plain values alone: no Python of the file is run.
    """
    texts: dict[str, Any] = dict.fromkeys(NAMES, "")
    path = source.path
    with reading(path, lambda reason: f"{path} cannot be loaded: {reason}"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=texts).eval()

    @torch.inference_mode()
    def logits(images: Tensor) -> Tensor:
        # Optimising takes as long as some hundred images of a small network.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return module(images.cpu())

    return _of_file(
        source, logits, {k: v.decode(errors="replace") if v else "" for k, v in texts.items()}
    )


def _of_file(
    source: NetworkSource, logits: Callable[[Tensor], Tensor], texts: Mapping[str, str]
) -> Deployed:
    """Return the network of a file with what its metadata say."""
    try:
        about = parse(texts)
    except ValueError as error:
        raise UnavailableError(f"{source.name} has damaged metadata ({error})") from error
    missing = [name for name in _NEEDED if name not in about]
    if missing:
        raise UnavailableError(
            f"{source.name} does not say how its images are prepared ({missing[0]} is missing);"
            " write it anew with `tftas-optuna export`, or give the directory that it was made of"
        )
    names, count = about.get("class_names"), about["num_classes"]

    def checked(images: Tensor) -> Tensor:
        try:
            result = logits(images)
        except Exception as error:
            # A file can hold any computation; the errors of its interpreters have no common class.
            raise UnavailableError(
                f"{source.name} cannot compute {len(images)} images of"
                f" {'x'.join(map(str, images.shape[1:]))}: {first_line(error)}"
            ) from error
        shape = tuple(getattr(result, "shape", ()))
        if shape != (len(images), count):
            raise UnavailableError(
                f"{source.name} says that it has {count} classes, and computes {shape} for"
                f" {len(images)} images"
            )
        return result

    return Deployed(
        source,
        checked,
        {name: about[name] for name in _NEEDED if name != "num_classes"},
        count,
        None if names is None else tuple(names),
        about.get("weights") != "untrained",
    )
