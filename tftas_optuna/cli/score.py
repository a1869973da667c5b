"""``tftas-optuna score``: indicators, parameters and MACs of architectures and timm models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import (
    device_option,
    format_option,
    supernet_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from tftas_optuna.cli._scoring import Scored


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE|DIRECTORY...")
@click.option(
    "--indicators",
    metavar="NAMES",
    callback=lambda ctx, param, value: tuple(n.strip() for n in value.split(",")) if value else (),
    help="Indicators to compute, separated by commas; by default DSS, as in the search of a file.",
)
@supernet_option
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the weights; by default 0."
)
@click.option(
    "--img-size", type=click.IntRange(1, 4096), help="Input size; by default the model's."
)
@click.option(
    "--num-classes", type=click.IntRange(1, 1_000_000), help="Outputs; by default the model's."
)
@device_option
@click.option(
    "--n-images",
    type=click.IntRange(2, 1_000_000),
    help="Images per batch, for indicators that see images, by default 8; and labelled images for "
    "accuracy and cross_entropy, by default all.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    help="Images for these indicators, one folder per class; by default noise. accuracy and "
    "cross_entropy see its folder val, or half of it: the rest is held out.",
)
@click.option("--explain", is_flag=True, help="Show how each layer was counted.")
@format_option
@verbosity_options
def score(
    names: tuple[str, ...],
    indicators: tuple[str, ...],
    supernet: str | None,
    seed: int | None,
    img_size: int | None,
    num_classes: int | None,
    device: str,
    n_images: int | None,
    data_dir: str | None,
    explain: bool,
    output: str,
) -> None:
    """Score exported files, published architectures and timm models.

    An exported file is scored on the supernets of its own search, so its DSS is that of its
    trial. Other architectures in its space share these supernets, and several that fit one preset
    share a supernet of it. Everything else gets fresh weights. Of a DIRECTORY of `retrain` the
    architecture counts, not its trained weights. With a trained --supernet all are slices of it.
    Compare only scores on the same weights; each set of weights has its own table.
    """
    from tftas_optuna.cli import _tables
    from tftas_optuna.cli._progress import StepDisplay
    from tftas_optuna.cli._scoring import ScoringRequest, check_names, score_names
    from tftas_optuna.devices import resolve_device
    from tftas_optuna.metrics import get_indicator
    from tftas_optuna.scoring.conditions import EvaluationSource, ImageSource

    resolved = resolve_device(device)
    for indicator in indicators:
        get_indicator(indicator)
    check_names(names)
    images = ImageSource.of(n_images, data_dir)
    evaluation = EvaluationSource.of(n_images, data_dir)
    request = ScoringRequest(
        indicators, supernet, seed, img_size, num_classes, images, evaluation, explain
    )
    with StepDisplay("scoring", "networks") as display:
        scored = score_names(names, request, resolved, display)
    if output != "table":
        rows = [row for network in scored for row in _layer_rows(network)] if explain else None
        _tables.print_rows([network.row for network in scored] if rows is None else rows, output)
        return
    if explain:
        for network in scored:
            _print_layers(network)
            for reason, weights in _by_reason(network.left_out).items():
                click.echo(f"left out, {reason}: {_shown(weights)}")
    comparable: dict[tuple[Any, ...], list[Scored]] = {}
    for network in scored:
        conditions = tuple(network.row[name] for name in ("weights", "img_size", "num_classes"))
        comparable.setdefault(conditions, []).append(network)
    for networks in comparable.values():
        _print_scores(networks, indicators)
    if len(comparable) > 1:
        click.echo(
            "Scores of different tables cannot be compared: their weights or images differ."
        )


def _print_scores(networks: list[Scored], indicators: tuple[str, ...]) -> None:
    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import scores_alike, short

    headings = {name: _tables.title(name) for name in indicators} or {
        "dss": "DSS",
        "dss_collapsed": "collapsed DSS",
    }
    rows = [network.row for network in networks]
    labels = [label for label in headings if rows[0].get(label) is not None]
    what = "DSS" if not indicators else "Indicators"
    kind = "slices of a trained supernet" if networks[0].trained else "untrained networks"
    _tables.print_table(
        f"{what} of {kind}; weights: {rows[0]['weights']}",
        [
            _tables.Column("name", [row["name"] for row in rows], 0, "name"),
            *(
                _tables.Column(headings[label], scores_alike(row[label] for row in rows), rank)
                for rank, label in enumerate(labels, 5)
            ),
            _tables.Column("params", [short(row["n_params"]) for row in rows], 6),
            _tables.Column("MACs", [short(row["macs"]) for row in rows], 7),
            _tables.Column("input", [str(row["img_size"]) for row in rows], 100),
        ],
    )


def _layer_rows(scored: Scored) -> list[dict[str, Any]]:
    """Return plain data: one mapping per layer, then one per weight that does not count."""
    name = scored.row["name"]
    rows: list[dict[str, Any]] = []
    for layer in scored.layers:
        fields = layer._asdict()
        rows.append(
            {"name": name, "layer": fields.pop("name"), **fields, "shape": list(layer.shape)}
        )
    empty = dict.fromkeys(rows[0]) if rows else {}
    return rows + [
        {**empty, "name": name, "layer": weight, "role": f"left out: {reason}"}
        for weight, reason in scored.left_out.items()
    ]


def _print_layers(scored: Scored) -> None:
    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import scores_alike

    layers = scored.layers
    total = math.fsum(layer.value for layer in layers)
    _tables.print_table(
        f"{scored.row['name']}, layer by layer",
        [
            _tables.Column("layer", [layer.name for layer in layers], 0, "name"),
            _tables.Column("counted as", [layer.role for layer in layers], 3, "words"),
            _tables.Column("out x in", ["{} x {}".format(*layer.shape) for layer in layers], 4),
            _tables.Column("|W|*", scores_alike(layer.weight_norm for layer in layers), 5),
            _tables.Column("|dL/dW|*", scores_alike(layer.grad_norm for layer in layers), 6),
            _tables.Column("adds", scores_alike(layer.value for layer in layers), 1),
            _tables.Column("share", [f"{layer.value / total:.1%}" for layer in layers], 2),
        ],
    )


def _by_reason(left_out: dict[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for weight, reason in left_out.items():
        reasons.setdefault(reason, []).append(weight)
    return reasons


def _shown(weights: list[str]) -> str:
    more = f" and {len(weights) - 3} more" if len(weights) > 4 else ""
    return ", ".join(weights[:3] if more else weights) + more
