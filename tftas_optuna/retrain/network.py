"""Networks to train, from exported files, published architectures or timm, and their weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from timm.models import get_model_input_config, load_state_dict
from timm.utils import random_seed

from tftas_optuna._reading import reading
from tftas_optuna._writing import file_stem
from tftas_optuna.architecture import (
    Architecture,
    architecture_of,
    read_architecture,
    read_yaml,
)
from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.export.sections import write_section
from tftas_optuna.models import build_model, timm_arguments
from tftas_optuna.models.plain import building
from tftas_optuna.models.positions import fit_positions
from tftas_optuna.models.stock import create_timm
from tftas_optuna.retrain.slices import open_for, study_supernet
from tftas_optuna.retrain.sources import CONFIG, find_source, read_config, recorded_architecture
from tftas_optuna.scoring.conditions import SupernetSource
from tftas_optuna.spaces import published_architectures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from tftas_optuna.retrain.sources import Kind, NetworkSource
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

_LOG = logging.getLogger(__name__)
_TENSORS = "give the state_dict of a network alone, or a .safetensors file"
_FINISHED = "give a directory that `tftas-optuna retrain` finished"
WEIGHTS = ("scratch", "supernet", "pretrained")
# Arguments of a saved model that a network here has too, or gets from its training.
_REBUILT = {"arch", "img_size", "num_classes", "in_chans", "drop_rate", "drop_path_rate"}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that can be built, at any number of classes.

    Attributes:
        label: What to call it, a plain file name.
        model: Name in timm's registry.
        architecture: The architecture; None for timm's own models.
        img_size: Height and width of its input, in pixels; None for the model's own.
        in_chans: Channels of its input.
        num_classes: Outputs that its source names; None where it names none.
        search: The search section of an exported file, None where it comes from no study.
        origin: The ``name`` of its study and the ``trial``, as exported files have them; None
            where they are unknown.
    """

    label: str
    model: str
    architecture: Architecture | None = None
    img_size: int | None = None
    in_chans: int = 3
    num_classes: int | None = None
    search: dict[str, Any] | None = None
    origin: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that identifies the network."""
        arch = self.architecture
        return {
            "model": self.model,
            "architecture": None if arch is None else arch.to_dict(),
            "img_size": self.img_size,
            "in_chans": self.in_chans,
        }


def resolve_network(
    source: str | Path | Architecture | Network, *, img_size: int | None = None
) -> Network:
    """Return the network that a source stands for.

    Args:
        source: The path of an exported file, the name of a published architecture such as
            ``"tf-tas-tiny"`` or of a timm model, a directory with a network (its weights are left
            out), an architecture (labelled by its family and the first digits of a hash), or a
            network, which is returned as it is.
        img_size: Height and width of the input, in pixels; None for the source's own, which an
            architecture alone does not have.

    Raises:
        TftasError: It is none of these, or has no image size.
        UnavailableError: The file cannot be read.
    """
    if isinstance(source, Network):
        network = source
    elif not isinstance(source, str | os.PathLike):
        source = architecture_of(source)
        if img_size is None:
            raise TftasError(
                "an architecture alone has no image size; give img_size=..., or a candidate with"
                " its study"
            )
        text = json.dumps(source.to_dict(), sort_keys=True)
        label = f"{source.family}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        network = _of_architecture(label, source, img_size=img_size)
    else:
        network = _network_by_name(str(source))
    return network if img_size is None else dataclasses.replace(network, img_size=img_size)


def resolve_architecture(name: str) -> Architecture:
    """Return the architecture of a file, a directory with a network, or a published name.

    Raises:
        TftasError: It is none of these.
        UnavailableError: The file or the directory cannot be read.
    """
    architecture = _network_by_name(name, ("directory", "architecture")).architecture
    if architecture is None:
        raise TftasError(f"{name} holds a network of timm, which is part of no search space")
    return architecture


def candidate_network(candidate: Candidate, settings: StudySettings, study_name: str) -> Network:
    """Return the network of one trial of a study."""
    network = _of_architecture(
        f"{file_stem(settings.space.name)}-trial{candidate.trial:05d}",
        candidate.architecture,
        **settings.conditions.target.input,
        search=write_section(settings),
    )
    return dataclasses.replace(network, origin={"name": study_name, "trial": candidate.trial})


@limit_threads(1)
def build_network(
    network: Network,
    *,
    num_classes: int | None,
    weights: str | SupernetSource = "scratch",
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a network through timm and give it its first weights.

    Args:
        network: What to build.
        num_classes: Outputs of the classifier; None for those of the timm model.
        weights: ``"scratch"`` draws them from the seed; ``"supernet"`` takes the slices, signs
            kept, that the study scored, and a supernet its own slices; ``"pretrained"`` downloads
            those of a timm model; else the path of a checkpoint or of a directory with
            ``model.safetensors``. A classifier of another size than there stays as drawn.
        seed: Seed of what is drawn.
        class_names: Names of the classes that the network is for; a trained supernet with as many
            classes must have the same in the same order.
        **kwargs: timm's model arguments, such as ``drop_path_rate``.

    Raises:
        TftasError: The weights do not apply to this network.
        UnavailableError: The weights cannot be read or do not fit.
    """
    if weights == "supernet":
        weights = study_supernet(network)
    if weights == "pretrained" and network.architecture is not None:
        raise TftasError(
            f"{network.label} is no model of timm, so it has no pretrained weights; use --weights"
            " scratch, supernet, or a directory that `tftas-optuna retrain` left"
        )
    random_seed(seed)
    with building(network.model):
        model = _build(network, num_classes, pretrained=weights == "pretrained", **kwargs)
    if network.architecture is None:
        _check_takes_images(model, network)
    if isinstance(weights, SupernetSource):
        _load_slices(model, network, weights, class_names)
    elif weights not in WEIGHTS:
        load_weights(model, weights)
    return model


def _build(
    network: Network, num_classes: int | None, *, pretrained: bool, **kwargs: Any
) -> nn.Module:
    if network.architecture is not None:
        return build_model(
            network.architecture,
            img_size=network.img_size or 224,
            num_classes=1000 if num_classes is None else num_classes,
            in_chans=network.in_chans,
            **kwargs,
        )
    # timm leaves out what is None.
    return create_timm(
        network.model,
        pretrained=pretrained,
        img_size=network.img_size,
        in_chans=network.in_chans,
        num_classes=num_classes,
        **kwargs,
    )


def _check_takes_images(model: nn.Module, network: Network) -> None:
    """Check that a model of timm takes images of its size: some say so only when they see one.

    Raises:
        TftasError: It does not.
    """
    shape = get_model_input_config(model)["input_size"]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise TftasError(
            f"{network.label} takes no images of {'x'.join(map(str, shape[1:]))} pixels; give"
            " another --img-size, or another model"
        ) from error
    finally:
        model.train(training)


def read_model(folder: Path) -> nn.Module:
    """Load a directory with ``config.json`` and ``model.safetensors``, as timm does.

    Raises:
        UnavailableError: It holds no model, or a damaged one.
    """
    if not (folder / "config.json").is_file():
        raise UnavailableError(f"{folder} holds no config.json; {_FINISHED}")
    with reading(folder, lambda reason: f"{folder} cannot be loaded: {reason}; {_FINISHED}"):
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
        timm_model, arch = cast("Any", model), recorded_architecture(read_config(folder))
        if arch is not None:
            timm_model.architecture = arch
        if timm_model.pretrained_cfg.get("num_classes") != timm_model.num_classes:
            # timm leaves its classifier as drawn.
            raise ValueError("config.json tells two numbers of classes")
    return model


def load_weights(model: nn.Module, source: str | Path) -> None:
    """Load a checkpoint; a classifier of another size is left out, positions are resampled.

    Args:
        model: What to load it into.
        source: A file of timm's or PyTorch's (``state_dict``, averaged weights preferred), or a
            directory that holds ``model.safetensors``.

    Raises:
        UnavailableError: It cannot be read, or another tensor than the classifier differs.
    """
    path = Path(source)
    path = path / "model.safetensors" if path.is_dir() else path
    state = fit_positions(read_state(path), model)
    own = model.state_dict()
    heads = classifiers(model)
    for name in list(state):
        if name.startswith(heads) and name in own and own[name].shape != state[name].shape:
            state[name] = own[name]
    for name in sorted(own.keys() | state.keys()):
        theirs = tuple(state[name].shape) if name in state else "missing"
        ours = tuple(own[name].shape) if name in own else "no part of this network"
        if theirs != ours:
            raise UnavailableError(
                f"{path} holds other weights: {name} is {theirs}, the network has {ours}"
            )
    model.load_state_dict(state)


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's classifiers."""
    names = cast("Any", model).pretrained_cfg.get("classifier") or "head"
    return (names,) if isinstance(names, str) else tuple(names)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint without unpickling anything else.

    Raises:
        UnavailableError: It is missing, damaged or holds no tensors.
    """
    if not path.is_file():
        raise UnavailableError(
            f"weights {path} do not exist; give a checkpoint, a directory of `retrain`,"
            f" or one of {', '.join(WEIGHTS)}"
        )
    with reading(path, lambda reason: f"{path} is no readable checkpoint: {reason}; {_TENSORS}"):
        state: dict[str, Tensor] = load_state_dict(str(path), weights_only=True)
        if not state or not all(torch.is_tensor(value) for value in state.values()):
            raise ValueError("it holds no tensors by name")
    return state


def _network_by_name(
    name: str, kinds: tuple[Kind, ...] = ("directory", "architecture", "timm")
) -> Network:
    source = find_source(name, kinds=kinds)
    if source.kind == "directory":
        return _of_directory(source)
    if source.kind == "timm":
        return Network(source.label, name)
    if source.path is None:
        return _of_architecture(name, published_architectures()[name])
    arch, model = read_architecture(source.path)
    document = read_yaml(source.path)
    network = _of_architecture(source.label, arch, search=document.get("search"), **model)
    return dataclasses.replace(network, origin=origin_of(document))


def origin_of(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the study and the trial that an exported file or a configuration names."""
    study = document.get("study")
    return study if isinstance(study, dict) else None


def _of_directory(source: NetworkSource) -> Network:
    """Return the network of a directory, as it would be built anew."""
    assert source.path is not None
    config = read_config(source.path)
    try:
        arguments, cfg = dict(config.get("model_args") or {}), config.get("pretrained_cfg") or {}
        sizes: dict[str, Any] = {
            # Networks that take images of any size have no such argument.
            "img_size": arguments.get("img_size") or list(cfg["input_size"])[1:],
            "num_classes": int(config["num_classes"]),
            "in_chans": int(arguments.get("in_chans") or cfg["input_size"][0]),
        }
        if isinstance(sizes["img_size"], list):
            sizes["img_size"], width = sizes["img_size"]
            if width != sizes["img_size"]:
                raise TftasError(f"{source.path} takes images that are not square")
        arch = recorded_architecture(config)
        own = {} if arch is None else {**arch.to_dict(), **timm_arguments(arch)}
        own["global_pool"] = config.get("global_pool")
        # As they would be written, with lists for tuples.
        own = json.loads(json.dumps(own))
        others = [k for k, v in arguments.items() if k not in _REBUILT and v != own.get(k)]
        if others:
            raise TftasError(
                f"{source.path} was built with other values of {', '.join(sorted(others))} than"
                f" {config['architecture']} has; a new one is built by that name alone"
            )
        if arch is None:
            return Network(source.label, str(config["architecture"]), None, **sizes)
        return _of_architecture(source.label, arch, **sizes)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, TftasError):
            raise
        raise UnavailableError(f"{source.path / CONFIG} is no configuration of timm") from error


def _load_slices(
    model: nn.Module,
    network: Network,
    source: SupernetSource,
    class_names: Sequence[str] | None,
) -> None:
    """Load slices of a supernet, and how images were prepared for it if it is trained."""
    timm_model, arch, trained = cast("Any", model), network.architecture, source.trained
    num_classes = timm_model.num_classes
    supernet = open_for(network, source, num_classes)
    assert arch is not None
    slices = supernet.weights_of(arch, supernet.state_dict)
    theirs = None if trained is None else trained.class_names
    if supernet.num_classes != num_classes:
        own, theirs = model.state_dict(), None
        slices |= {name: own[name] for name in slices if name.startswith(classifiers(model))}
        _LOG.warning(
            "%s has %d classes and %s %d: its classifier starts as drawn",
            *(source, supernet.num_classes, network.label, num_classes),
        )
    elif None not in (class_names, theirs) and tuple(class_names or ()) != theirs:
        raise TftasError(other_classes(source, theirs or (), class_names or ()))
    model.load_state_dict(slices)
    if trained is not None:
        timm_model.pretrained_cfg.update(trained.preprocessing.to_dict(), label_names=theirs)


def other_classes(source: object, theirs: Sequence[str], ours: Sequence[str]) -> str:
    """Return the error that a supernet was trained on other classes than those of the data."""
    place = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    return (
        f"class {place} of the data is {ours[place]!r}, and {theirs[place]!r} of {source}; give"
        " the classes it was trained on, in the same order, or other weights"
    )


def _of_architecture(
    label: str,
    arch: Architecture,
    *,
    img_size: int = 224,
    num_classes: int | None = None,
    in_chans: int = 3,
    search: dict[str, Any] | None = None,
) -> Network:
    arch.costs(img_size=img_size, num_classes=num_classes or 0)  # raises if the image is too small
    return Network(label, f"tftas_{arch.family}", arch, img_size, in_chans, num_classes, search)
