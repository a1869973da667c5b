"""Scores networks by name: exported files, published architectures and timm models."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
from timm.utils import random_seed

from tftas_optuna.cli._supernets import (
    EXACT,
    KINDS,
    find_subject,
    find_supernets,
    given_supernet,
)
from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import get_indicator
from tftas_optuna.models import build_model
from tftas_optuna.passes.networks import count_macs, input_shape, inspect_model
from tftas_optuna.retrain.network import Network, build_network
from tftas_optuna.retrain.sources import find_source
from tftas_optuna.scoring.basis import Basis
from tftas_optuna.scoring.conditions import (
    DRAWN,
    EvaluationSource,
    ImageSource,
    batches_seen,
    check_labelled,
    sees_labelled,
)
from tftas_optuna.scoring.model import explain_model, score_model
from tftas_optuna.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import nn

    from tftas_optuna.cli._supernets import SharedSupernet, Subject
    from tftas_optuna.indicators import Images, LayerScore

_CLASSES = 1000


class Scored(NamedTuple):
    """A scored network.

    Attributes:
        row: Its scores and costs, with the input size and weights that they belong to.
        layers: What each layer adds to the first score; empty unless asked for.
        left_out: Why weights do not count, by their names; empty unless asked for.
        trained: Whether it is a slice of a trained supernet.
    """

    row: dict[str, Any]
    layers: list[LayerScore]
    left_out: dict[str, str]
    trained: bool = False


def check_names(names: Sequence[str]) -> None:
    """Check that every name is a file, a directory, a published architecture or a timm model.

    Raises:
        TftasError: A name is none of these.
    """
    for name in names:
        find_source(name, kinds=KINDS)


class ScoringRequest(NamedTuple):
    """What to compute for every network.

    Attributes:
        indicators: Names of the indicators; empty for DSS, computed as a file's own search did.
        supernet: The supernet to score all of them on; None to choose it for each.
        seed: Seed of the weights; None for the search's own, and 0.
        img_size: Height and width of the input, in pixels; None for the network's own.
        num_classes: Outputs of the classifier; None for the network's own.
        images: What indicators see.
        evaluation: The labelled images that some see; None if there are none.
        explain: Whether to report how each layer was counted.
    """

    indicators: tuple[str, ...] = ()
    supernet: str | None = None
    seed: int | None = None
    img_size: int | None = None
    num_classes: int | None = None
    images: ImageSource = ImageSource()
    evaluation: EvaluationSource | None = None
    explain: bool = False


def score_names(
    names: Sequence[str],
    request: ScoringRequest,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Scored]:
    """Score networks and count their costs.

    Architectures that fit one space are scored on the same supernet, which the ``weights`` of a
    row name. ``progress`` is called before each network with the number done and the total.

    Raises:
        TftasError: A network cannot be scored this way, or no indicator sees the given pictures.
    """
    seen = batches_seen(request.indicators) or sees_labelled(request.indicators)
    if request.images.data_dir is not None and not seen:
        raise TftasError(
            f"--data-dir does not apply: {', '.join(request.indicators) or EXACT} sees no images;"
            " name --indicators that do, or leave it out"
        )
    given = {"img_size": request.img_size, "num_classes": request.num_classes}
    sizes = {name: value for name, value in given.items() if value is not None}
    subjects = [find_subject(name, sizes) for name in names]
    if request.supernet is None:
        supernets = find_supernets(subjects, request.seed)
    else:
        supernets = given_supernet(subjects, request.supernet, request.seed)
    scorers = _Scorers(device, request)
    scored: list[Scored] = []
    for subject, supernet in zip(subjects, supernets, strict=True):
        progress(len(scored), len(subjects))
        if supernet is not None:
            scored.append(_score_slices(subject, supernet, scorers, request))
        elif subject.architecture is not None:
            scored.append(_score_architecture(subject, request, device))
        else:
            scored.append(_score_timm(subject, request, device))
    # Every row has the same columns.
    labels = request.indicators or sorted(
        {label for network in scored for label in network.row if label.startswith(EXACT)}
    )
    for network in scored:
        rest = {name: value for name, value in network.row.items() if name not in labels}
        values = {label: network.row.get(label) for label in labels}
        network.row.clear()
        network.row.update({"name": rest.pop("name"), **values, **rest})
    return scored


class _Scorers:
    """Creates the scorers of supernets when they are first needed."""

    def __init__(self, device: torch.device, request: ScoringRequest) -> None:
        self._device = device
        self._request = request
        self._bases: list[tuple[SharedSupernet, Basis]] = []
        self._scorers: dict[tuple[int, str], Scorer] = {}

    def get(self, supernet: SharedSupernet, label: str) -> Scorer:
        index = self._index(supernet)
        if (index, label) not in self._scorers:
            # Only DSS is stored under two names.
            collapsed = label.startswith(f"{EXACT}_")
            name = EXACT if collapsed else label
            self._scorers[index, label] = Scorer(
                self._bases[index][1],
                indicator=get_indicator(name).with_options(**supernet.options.get(name, {})),
                fidelity=label.removeprefix(f"{EXACT}_") if collapsed else "exact",
            )
        return self._scorers[index, label]

    def _index(self, supernet: SharedSupernet) -> int:
        indices = [i for i, (other, _) in enumerate(self._bases) if other == supernet]
        if indices:
            return indices[0]
        chosen = self._request.supernet == DRAWN
        conditions = dataclasses.replace(
            supernet.conditions,
            supernet=dataclasses.replace(supernet.conditions.supernet, chosen=chosen),
            images=self._request.images,
            evaluation=self._request.evaluation,
        )
        check_labelled(self._request.indicators, conditions)
        self._bases.append((supernet, Basis(conditions, self._device)))
        return len(self._bases) - 1


def _score_slices(
    subject: Subject, supernet: SharedSupernet, scorers: _Scorers, request: ScoringRequest
) -> Scored:
    arch = subject.architecture
    assert arch is not None
    target = supernet.conditions.target
    labels = request.indicators or supernet.labels
    row = {
        "name": subject.name,
        **{label: scorers.get(supernet, label)(arch) for label in labels},
        **arch.costs(**target.input)._asdict(),
        "img_size": target.img_size,
        "num_classes": target.num_classes,
        "weights": str(supernet),
    }
    layers = scorers.get(supernet, labels[0]).explain(arch) if request.explain else []
    return Scored(row, layers, {}, supernet.conditions.supernet.path is not None)


def _score_architecture(subject: Subject, request: ScoringRequest, device: torch.device) -> Scored:
    arch = subject.architecture
    assert arch is not None
    sizes: dict[str, Any] = {
        "img_size": 224,
        "num_classes": _CLASSES,
        "in_chans": 3,
        **subject.sizes,
    }
    random_seed(request.seed or 0)
    with limit_threads(1):
        model = build_model(arch, **sizes).to(device)
    costs = arch.costs(**sizes)._asdict()
    return _score_fresh(subject.name, model, request._replace(img_size=sizes["img_size"]), costs)


def _score_timm(subject: Subject, request: ScoringRequest, device: torch.device) -> Scored:
    assert subject.model is not None
    sizes: dict[str, Any] = dict(subject.sizes)
    classes = sizes.pop("num_classes", None)
    if classes is None and not timm.get_pretrained_cfg_value(subject.model, "num_classes"):
        classes = _CLASSES
    network = Network(subject.name, subject.model, **sizes)
    model = build_network(network, num_classes=classes, seed=request.seed or 0).to(device)
    request = request._replace(img_size=sizes.get("img_size"))
    n_params = sum(parameter.numel() for parameter in model.parameters())
    macs = count_macs(model, img_size=request.img_size)
    return _score_fresh(subject.name, model, request, {"n_params": n_params, "macs": macs})


def _score_fresh(
    name: str, model: nn.Module, request: ScoringRequest, costs: Mapping[str, int]
) -> Scored:
    seed = request.seed or 0
    options: dict[str, Any] = dict(img_size=request.img_size, seed=seed)
    labels = request.indicators or (EXACT,)
    shape, classes = input_shape(model, request.img_size), getattr(model, "num_classes", _CLASSES)

    def images(label: str) -> Images | None:
        batches = get_indicator(label).batches
        return request.images.read(seed, shape, classes, batches) if batches else None

    layers = (
        explain_model(model, indicator=labels[0], images=images(labels[0]), **options)
        if request.explain
        else []
    )
    row = {
        "name": name,
        **{
            label: score_model(model, indicator=label, images=images(label), **options)
            for label in labels
        },
        **costs,
        "img_size": shape[1],
        "num_classes": classes,
        "weights": f"fresh, seed {seed}",
    }
    if not request.explain:
        return Scored(row, [], {})
    return Scored(row, layers, inspect_model(model, img_size=request.img_size).left_out)
