"""Scores what a name stands for: an exported file, a published architecture, a timm model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
from timm.utils import random_seed

from tftas_optuna.cli._supernets import EXACT, find_subject, find_supernets, is_file
from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import get_indicator
from tftas_optuna.models import build_model
from tftas_optuna.passes.networks import count_macs, input_shape, inspect_model
from tftas_optuna.scoring.basis import Basis
from tftas_optuna.scoring.conditions import ImageSource, batches_seen
from tftas_optuna.scoring.model import explain_model, score_model
from tftas_optuna.scoring.scorer import Scorer
from tftas_optuna.spaces import published_architectures

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
        row: Its scores, its costs, and what they were taken for.
        layers: What each layer adds to the first score; empty unless asked for.
        left_out: Why a weight does not count, by name; empty unless asked for.
    """

    row: dict[str, Any]
    layers: list[LayerScore]
    left_out: dict[str, str]


def check_names(names: Sequence[str]) -> None:
    """Check that every name stands for something.

    Raises:
        TftasError: One does not.
    """
    published = published_architectures()
    for name in names:
        if not (is_file(name) or name in published or timm.is_model(name)):
            raise TftasError(
                f"{name!r} is neither a file, a timm model, nor one of {', '.join(published)}"
            )


class Asked(NamedTuple):
    """What is asked of every network.

    Attributes:
        indicators: Names of the indicators; empty for DSS, computed as a file's own search did.
        seed: Seed of the weights; None for the search's own, and 0.
        img_size: Height and width of the input, in pixels; None for the network's own.
        num_classes: Outputs of the classifier; None for the network's own.
        images: What indicators see.
        explain: Whether to tell what was counted as what.
    """

    indicators: tuple[str, ...] = ()
    seed: int | None = None
    img_size: int | None = None
    num_classes: int | None = None
    images: ImageSource = ImageSource()
    explain: bool = False


def score_names(
    names: Sequence[str],
    asked: Asked,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Scored]:
    """Score networks and count their costs.

    What fits one space is scored on the same supernet; the ``weights`` of a row tell which.
    ``progress`` is told before each network how many are done, and of how many.

    Raises:
        TftasError: A network cannot be scored so, or pictures are given that nothing sees.
    """
    if asked.images.data_dir is not None and not batches_seen(asked.indicators):
        raise TftasError(
            f"--data-dir does not apply: {', '.join(asked.indicators) or EXACT} sees no images;"
            " name --indicators that do, or leave it out"
        )
    wanted = {"img_size": asked.img_size, "num_classes": asked.num_classes}
    sizes = {name: value for name, value in wanted.items() if value is not None}
    subjects = [find_subject(name, sizes) for name in names]
    supernets = find_supernets(subjects, asked.seed)
    scorers = _Scorers(device, asked.images)
    scored: list[Scored] = []
    for subject, supernet in zip(subjects, supernets, strict=True):
        progress(len(scored), len(subjects))
        if supernet is not None:
            scored.append(_score_slices(subject, supernet, scorers, asked))
        elif subject.architecture is not None:
            scored.append(_score_architecture(subject, asked, device))
        else:
            scored.append(_score_timm(subject.name, asked, device))
    # Every row has the same columns.
    labels = asked.indicators or sorted(
        {label for each in scored for label in each.row if label.startswith(EXACT)}
    )
    for each in scored:
        rest = {name: value for name, value in each.row.items() if name not in labels}
        values = {label: each.row.get(label) for label in labels}
        each.row.clear()
        each.row.update({"name": rest.pop("name"), **values, **rest})
    return scored


class _Scorers:
    """Scorers of supernets, each made when it is first needed."""

    def __init__(self, device: torch.device, images: ImageSource) -> None:
        self._device = device
        self._images = images
        self._bases: list[tuple[SharedSupernet, Basis]] = []
        self._made: dict[tuple[int, str], Scorer] = {}

    def get(self, supernet: SharedSupernet, label: str) -> Scorer:
        place = self._place(supernet)
        if (place, label) not in self._made:
            # Only DSS is stored under two names.
            collapsed = label.startswith(f"{EXACT}_")
            name = EXACT if collapsed else label
            self._made[place, label] = Scorer(
                self._bases[place][1],
                indicator=get_indicator(name).with_options(**supernet.options.get(name, {})),
                fidelity=label.removeprefix(f"{EXACT}_") if collapsed else "exact",
            )
        return self._made[place, label]

    def _place(self, supernet: SharedSupernet) -> int:
        places = [i for i, (other, _) in enumerate(self._bases) if other == supernet]
        if places:
            return places[0]
        conditions = dataclasses.replace(supernet.conditions, images=self._images)
        self._bases.append((supernet, Basis(conditions, self._device)))
        return len(self._bases) - 1


def _score_slices(
    subject: Subject, supernet: SharedSupernet, scorers: _Scorers, asked: Asked
) -> Scored:
    arch = subject.architecture
    assert arch is not None
    target = supernet.conditions.target
    labels = asked.indicators or supernet.labels
    row = {
        "name": subject.name,
        **{label: scorers.get(supernet, label)(arch) for label in labels},
        **arch.costs(**target.input)._asdict(),
        "img_size": target.img_size,
        "num_classes": target.num_classes,
        "weights": str(supernet),
    }
    layers = scorers.get(supernet, labels[0]).explain(arch) if asked.explain else []
    return Scored(row, layers, {})


def _score_architecture(subject: Subject, asked: Asked, device: torch.device) -> Scored:
    arch = subject.architecture
    assert arch is not None
    sizes = {"img_size": 224, "num_classes": _CLASSES, "in_chans": 3, **subject.sizes}
    random_seed(asked.seed or 0)
    with limit_threads(1):
        model = build_model(arch, **sizes).to(device)
    costs = arch.costs(**sizes)._asdict()
    return _score_fresh(subject.name, model, asked._replace(img_size=sizes["img_size"]), costs)


def _score_timm(name: str, asked: Asked, device: torch.device) -> Scored:
    model = _timm_model(name, asked.seed or 0, asked.img_size, asked.num_classes).to(device)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    macs = count_macs(model, img_size=asked.img_size)
    return _score_fresh(name, model, asked, {"n_params": n_params, "macs": macs})


@limit_threads(1)
def _timm_model(name: str, seed: int, img_size: int | None, num_classes: int | None) -> nn.Module:
    """Build a timm model with fresh weights; one without a classifier gets one."""
    if num_classes is None and not timm.get_pretrained_cfg_value(name, "num_classes"):
        num_classes = _CLASSES
    wanted = {"img_size": img_size, "num_classes": num_classes}
    given: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    while True:
        random_seed(seed)
        try:
            model: nn.Module = timm.create_model(name, **given)
            return model
        except (TypeError, AssertionError, ValueError) as error:
            # Many networks take images of any size and no argument for it.
            if "img_size" not in str(error) or given.pop("img_size", None) is None:
                raise TftasError(f"timm model {name} cannot be built so: {error}") from error


def _score_fresh(name: str, model: nn.Module, asked: Asked, costs: Mapping[str, int]) -> Scored:
    seed = asked.seed or 0
    how: dict[str, Any] = dict(img_size=asked.img_size, seed=seed)
    labels = asked.indicators or (EXACT,)
    shape, classes = input_shape(model, asked.img_size), getattr(model, "num_classes", _CLASSES)

    def images(label: str) -> Images | None:
        batches = get_indicator(label).batches
        return asked.images.read(seed, shape, classes, batches) if batches else None

    layers = (
        explain_model(model, indicator=labels[0], images=images(labels[0]), **how)
        if asked.explain
        else []
    )
    row = {
        "name": name,
        **{
            label: score_model(model, indicator=label, images=images(label), **how)
            for label in labels
        },
        **costs,
        "img_size": shape[1],
        "num_classes": classes,
        "weights": f"fresh, seed {seed}",
    }
    if not asked.explain:
        return Scored(row, [], {})
    return Scored(row, layers, inspect_model(model, img_size=asked.img_size).left_out)
