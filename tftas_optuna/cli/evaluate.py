"""``tftas-optuna evaluate``: the accuracy of a trained network, class by class."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import (
    batch_options,
    device_option,
    format_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from tftas_optuna.retrain.deployed import Deployed
    from tftas_optuna.retrain.evaluation import Evaluation

_LOG = logging.getLogger(__name__)
_MOST_ROWS = 20


@click.command()
@click.argument("network", metavar="NETWORK")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory of labelled images, SPLIT/CLASS/IMAGE.",
)
@click.option(
    "--split",
    metavar="NAME",
    help="Folder to evaluate on, or . for the directory itself; default: the first of val, valid, "
    "validation, test.",
)
@click.option(
    "--confusion",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the confusion matrix as CSV: a row for each class, a column for each "
    "prediction.",
)
@batch_options
@device_option
@format_option
@verbosity_options
def evaluate(
    network: str,
    data_dir: Path,
    split: str | None,
    confusion: Path | None,
    batch_size: int,
    workers: int,
    device: str,
    output: str,
) -> None:
    """Tell how many images of each class a trained network gets right.

    NETWORK is a directory that `retrain` or `export -f timm` left, an exported .onnx or
    .torchscript.pt, or a pretrained model of timm. Its images are prepared as in its training,
    and its classes are found by the names of the folders.

    \b
      tftas-optuna evaluate trained/mine-trial00042 --data-dir images --split test
      tftas-optuna evaluate deployed/mine-trial00042.onnx --data-dir images --split test
    """
    from tftas_optuna.cli import _tables
    from tftas_optuna.cli._progress import StepDisplay
    from tftas_optuna.export.files import check_directory
    from tftas_optuna.retrain.evaluation import evaluate as judge
    from tftas_optuna.retrain.evaluation import match_classes
    from tftas_optuna.retrain.splits import open_split

    if confusion is not None:
        check_directory(confusion.parent)
    images = open_split(data_dir, split)
    where = data_dir / images.name
    opened = open_ready(network, device)
    outputs, note = match_classes(opened, list(images.reader.class_to_idx), where)
    if note:
        click.echo(note, err=True)
    with StepDisplay("evaluating", "images") as display:
        evaluation = judge(
            opened,
            images.reader,
            outputs,
            batch_size=batch_size,
            workers=workers,
            callback=display,
        )
    row = {
        "network": network,
        "data_dir": str(data_dir),
        "split": images.name,
        **evaluation.to_dict(),
    }
    _keep(opened, row)
    if confusion is not None:
        _write_confusion(confusion, evaluation)
    if output == "csv":
        row = {name: value for name, value in row.items() if not isinstance(value, list)}
    if output != "table":
        _tables.print_rows([row], output)
        return
    _print_classes(row, f"{opened.source.label} on {where}")
    click.echo(_summary(row))


def open_ready(network: str, device: str) -> Deployed:
    """Open a network, and say on stderr if it is untrained or its classes have no names."""
    from tftas_optuna.retrain.deployed import open_network

    opened = open_network(network, device)
    if not opened.trained:
        click.echo(f"{network} is untrained: its accuracy is that of guessing", err=True)
    return opened


def _keep(opened: Deployed, row: dict[str, Any]) -> None:
    """Write the evaluation beside the network, where reports find it."""
    from tftas_optuna.retrain.recorded import model_digest
    from tftas_optuna.study.evaluated import write_evaluation

    folder = opened.source.path
    if folder is None or opened.source.kind != "directory":
        return
    split = row["split"] if row["split"] != "." else Path(row["data_dir"]).resolve().name
    try:
        path = write_evaluation(folder, split, row, model_digest=model_digest(folder))
    except OSError as error:
        _LOG.warning("%s: the evaluation is not kept there (%s)", folder, error.strerror or error)
    else:
        click.echo(f"Kept in {path}", err=True)


def _write_confusion(path: Path, evaluation: Evaluation) -> None:
    from tftas_optuna._writing import replacing
    from tftas_optuna.errors import UnavailableError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["class", *evaluation.classes])
            for name, line in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True):
                writer.writerow([name, *line])
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written ({error.strerror or error})") from error
    click.echo(f"Confusion matrix: {path}", err=True)


def _print_classes(row: dict[str, Any], title: str) -> None:
    from tftas_optuna.cli._tables import Column, print_table
    from tftas_optuna.metrics.units import MISSING

    classes = row["classes"]
    if len(classes) > _MOST_ROWS:
        title += f", the worst {_MOST_ROWS} of {len(classes)} classes"
        classes = sorted(classes, key=lambda entry: entry["top1"])[:_MOST_ROWS]
    columns = [
        Column("class", [entry["class"] for entry in classes], 0, "name"),
        Column("images", [f"{entry['n_images']:,}" for entry in classes], 2),
        Column("top-1 %", [f"{entry['top1']:.2f}" for entry in classes], 1),
        Column("mostly taken for", [e["taken_for"] or MISSING for e in classes], 3, "name"),
    ]
    print_table(title, columns, complete="-f json")


def _summary(row: dict[str, Any]) -> str:
    top5 = "" if row["top5"] is None else f", top-5 {row['top5']:.2f} %"
    return (
        f"top-1 {row['top1']:.2f} %{top5} of {row['n_images']:,} images;"
        f" {1000 * row['seconds_per_image']:.3g} ms per image in the network"
    )
