"""Finds the weights of a training for an export, and checks that they are still its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.retrain.folder import RESULT
from tftas_optuna.retrain.network import (
    build_network,
    classifiers,
    load_weights,
    read_model,
    read_state,
)
from tftas_optuna.retrain.recorded import model_digest
from tftas_optuna.retrain.slices import check_fit, fitted, study_supernet
from tftas_optuna.retrain.sources import read_config, recorded_architecture
from tftas_optuna.scoring.conditions import SupernetSource
from tftas_optuna.study.accuracy import choose_trainings, training_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from torch import nn

    from tftas_optuna.retrain.network import Network

_REMEDY = (
    "give --weights: a directory of `retrain`, a checkpoint, supernet (slices of the one that was"
    " searched on) or scratch (untrained)"
)


class Weights(NamedTuple):
    """The weights of a network.

    Attributes:
        source: What :func:`weighted` takes, here the path of a training.
        told: A line that describes them.
    """

    source: str
    told: str


def chosen_weights(
    study: Study, trial: int, network: Network, trained: str | None = None
) -> Weights:
    """Return the weights that a study has recorded for one of its trials.

    Args:
        study: The study.
        trial: Number of the trial.
        network: Its network.
        trained: The key of the training conditions; by default the first of
            :func:`tftas_optuna.study.accuracy.training_sets` with this trial.

    Returns:
        The weights of its training with the lowest seed.

    Raises:
        TftasError: The trial was not trained, or not under these conditions.
        UnavailableError: The weights were moved, deleted or replaced.
    """
    if trained is not None:
        choose_trainings(study, trained)
    sets = [sets for sets in training_sets(study) if trained in (None, sets.key)]
    chosen = next((t for t in sets if trial in t.records), None)
    if chosen is None:
        how = "" if trained is None else f" among the trainings {trained}"
        for shared in training_sets(study, shared=True):
            if trial in shared.records and trained in (None, shared.key):
                out = shared.records[trial][0].get("out")
                raise TftasError(
                    f"trial {trial} was trained in a supernet only; give --weights {out}"
                )
        raise TftasError(f"trial {trial} was not trained{how}; {_REMEDY}")
    record = chosen.records[trial][0]
    reached = f"trial {trial} was trained to {record['top1']:.2f} %"
    if not isinstance(record.get("out"), str):
        raise UnavailableError(f"{reached}, but its study records no directory of it; {_REMEDY}")
    folder = Path(record["out"])
    if not (folder / "config.json").is_file():
        raise UnavailableError(
            f"{reached}, but {folder} holds no network any more: it was moved or deleted;"
            f" {_REMEDY}"
        )
    if model_digest(folder) != record.get("model_digest"):
        raise UnavailableError(
            f"{reached}, but {folder} holds other weights by now, such as of another training;"
            f" {_REMEDY}"
        )
    _check_same(network, folder, record.get("num_classes"))
    here = Path.cwd()
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    return Weights(
        str(folder),
        f"weights of {shown}: top-1 {record['top1']:.2f} %, trainings {chosen.key},"
        f" seed {record.get('seed', '?')}",
    )


def weighted(network: Network, weights: str | SupernetSource) -> tuple[nn.Module, bool]:
    """Build a network with given weights, also for its classifier.

    Args:
        network: The network.
        weights: ``"scratch"``, ``"supernet"``, ``"pretrained"``, the path of a directory of a
            training or of a checkpoint, or a supernet, whose image size and classes the network
            gets if it is trained.

    Returns:
        The network, and whether it is trained.

    Raises:
        TftasError: The weights do not apply to this network.
        UnavailableError: They cannot be read, or are of another network.
    """
    if weights == "supernet":
        weights = study_supernet(network)
    if isinstance(weights, SupernetSource):
        network = fitted(network, weights)
    num_classes = network.num_classes or 1000
    if isinstance(weights, SupernetSource) or weights == "scratch":
        model = build_network(network, num_classes=num_classes, weights=weights)
        return model, not isinstance(weights, str) and weights.trained is not None
    if weights == "pretrained":
        return build_network(network, num_classes=None, weights=weights), True
    path = Path(weights)
    if (path / "config.json").is_file():
        _check_same(network, path)
        return read_model(path), is_trained(path)
    path = path / "model.safetensors" if path.is_dir() else path
    state = read_state(path)
    model = build_network(network, num_classes=num_classes)
    for name in classifiers(model):
        head = state.get(f"{name}.weight")
        if head is not None and head.shape[0] != num_classes:
            model = build_network(network, num_classes=head.shape[0])
            break
    load_weights(model, path)
    return model, True


def check_weighted(networks: Sequence[Network], weights: str | SupernetSource) -> None:
    """Check that all networks can be cut from a supernet, if their weights are slices of one.

    Raises:
        TftasError: One does not fit.
    """
    if isinstance(weights, SupernetSource):
        check_fit((fitted(network, weights) for network in networks), weights)


def is_trained(folder: Path) -> bool:
    """Return whether a directory holds a trained network.

    Raises:
        UnavailableError: Its ``config.json`` cannot be read.
    """
    config = read_config(folder)
    if "weights" in config:
        return bool(config["weights"] != "untrained")
    # Release 0.2.0 gave this tag to trained networks too, but those have labels or a result.
    pretrained_cfg = config.get("pretrained_cfg")
    tag = pretrained_cfg.get("tag") if isinstance(pretrained_cfg, dict) else None
    return tag != "untrained" or "label_names" in config or (folder / RESULT).is_file()


def _check_same(network: Network, folder: Path, num_classes: int | None = None) -> None:
    """Check that a directory holds a given network.

    Raises:
        UnavailableError: It holds another one.
    """
    config = read_config(folder)
    try:
        theirs = recorded_architecture(config)
    except TftasError:
        theirs = None
    # An architecture has the same weights in a class of timm's and in ours.
    same = network.architecture is not None or config.get("architecture") == network.model
    if not same or theirs != network.architecture:
        raise UnavailableError(f"{folder} holds another network than {network.label}; {_REMEDY}")
    if num_classes not in (None, config.get("num_classes")):
        raise UnavailableError(
            f"{folder} holds a network of {config.get('num_classes')} classes, {network.label} was"
            f" trained on {num_classes}; {_REMEDY}"
        )
