"""The supernets that networks are cut from: which one is meant, and what fits it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tftas_optuna._given import LOCAL
from tftas_optuna.errors import TftasError
from tftas_optuna.export.sections import read_section
from tftas_optuna.scoring.basis import open_supernet, space_of
from tftas_optuna.scoring.conditions import Conditions, SupernetSource
from tftas_optuna.supernet.files import is_supernet
from tftas_optuna.supernet.larger import is_larger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tftas_optuna.export.sections import SearchSection
    from tftas_optuna.retrain.network import Network
    from tftas_optuna.supernet import Supernet

_CHECKPOINTS = (".pth", ".pt")
_STUDY = "study"
_NO_STUDY = (
    "{} comes from no study, so it has no supernet; use --weights scratch, or a file that"
    " `tftas-optuna export` wrote"
)


def resolve_weights(
    network: Network, weights: str | None, supernet: str | None
) -> str | SupernetSource | None:
    """Return what a network starts from, for the options ``--weights`` and ``--supernet``.

    Args:
        network: The network, or one of several of the same study.
        weights: A word or a path. ``"supernet"`` is that of the study; the path of a trained
            supernet and ``timm:NAME`` are the same as ``supernet``.
        supernet: ``"study"``, ``"drawn"``, the path of a trained supernet, or ``timm:NAME``.

    Returns:
        A supernet that is not the study's drawn one; else a word or the path of a checkpoint;
        None if nothing is given.

    Raises:
        TftasError: The options exclude each other, or the network comes from no study.
        UnavailableError: The supernet cannot be read, or has changed.
    """
    if supernet is not None and weights not in (None, "supernet"):
        raise TftasError(
            f"weights {weights} and supernet {supernet} exclude each other; give one of them"
        )
    if supernet == _STUDY or (supernet is None and weights == "supernet"):
        source = study_supernet(network)
        return "supernet" if source.trained is None else source
    if supernet is not None:
        section = _section(network)
        own = SupernetSource() if section is None else section.conditions.supernet
        source = SupernetSource.of(supernet, own.seed)
        return "supernet" if source == own and own.path is None else source
    if weights is None:
        return None
    weights = weights.removeprefix(LOCAL)
    if is_supernet(weights) or is_larger(weights):
        return SupernetSource.of(weights)
    return _checkpoint(network, weights) or weights


def check_fit(networks: Iterable[Network], weights: str | SupernetSource | None) -> None:
    """Check that all networks can be cut from a supernet, if that is what they start from.

    Raises:
        TftasError: One does not fit.
        UnavailableError: The supernet cannot be read, or has changed.
    """
    if isinstance(weights, SupernetSource):
        for network in networks:
            open_for(network, weights, network.num_classes or 1000)


def weights_text(weights: str | SupernetSource) -> str:
    """Name the first weights of a training, a trained supernet by its digest."""
    if isinstance(weights, str):
        return weights
    return "drawn supernet" if weights.digest is None else f"supernet {weights.digest[:12]}"


def study_supernet(network: Network) -> SupernetSource:
    """Return the supernet that the study of a network was searched on.

    Raises:
        TftasError: It comes from no study.
    """
    section = _section(network)
    if section is None:
        raise TftasError(_NO_STUDY.format(network.label))
    return section.conditions.supernet


def fitted(network: Network, source: SupernetSource) -> Network:
    """Return a network with the image size and the classes of a trained supernet."""
    trained = source.trained
    if trained is None:
        return network
    return dataclasses.replace(
        network,
        img_size=trained.img_size or network.img_size,
        num_classes=trained.num_classes or network.num_classes,
    )


def open_for(network: Network, source: SupernetSource, num_classes: int) -> Supernet:
    """Open the supernet that a network is cut from.

    Args:
        network: The network.
        source: The supernet.
        num_classes: Outputs of the classifier, if the supernet does not have its own.

    Raises:
        TftasError: The network does not fit.
        UnavailableError: The supernet cannot be read, or has changed.
    """
    arch, trained, section = network.architecture, source.trained, _section(network)
    if arch is None:
        raise TftasError(
            f"{network.label} is cut from no supernet; give --weights scratch or pretrained"
        )
    if trained is not None and (trained.space is not None or section is None):
        space = space_of(source)
    else:
        space = None if section is None else section.conditions.space
    if space is None:
        raise TftasError(_NO_STUDY.format(network.label))
    img_size = network.img_size or 224
    if network.in_chans != space.in_chans:
        raise TftasError(
            f"{network.label} takes images of {network.in_chans} channels, {source} is trained on"
            f" {space.in_chans}; give other weights"
        )
    if trained is not None and trained.img_size not in (None, img_size):
        raise TftasError(
            f"{network.label} takes images of {img_size} pixels, {source} is trained on"
            f" {trained.img_size}; give --img-size {trained.img_size}"
        )
    classes = num_classes if trained is None else trained.num_classes or num_classes
    supernet = open_supernet(Conditions(space, img_size, classes, supernet=source))
    try:
        supernet.check(arch)
    except TftasError as error:
        raise TftasError(f"{network.label} cannot be cut from {source}: {error}") from error
    return supernet


def _checkpoint(network: Network, path: str) -> SupernetSource | None:
    """Return the supernet in a checkpoint of AutoFormer; None if it holds something else."""
    if network.architecture is None or Path(path).suffix not in _CHECKPOINTS:
        return None
    try:
        source = SupernetSource.of(path)
        open_for(network, source, network.num_classes or 1000)
    except TftasError:
        # Then it is one of a single network, and whoever loads it says if it is not.
        return None
    return source


def _section(network: Network) -> SearchSection | None:
    return None if network.search is None else read_section(network.search, network.label)
