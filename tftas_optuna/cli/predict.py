"""``tftas-optuna predict``: the classes of images, as CSV."""

from __future__ import annotations

import contextlib
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import batch_options, device_option, verbosity_options

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command()
@click.argument("network", metavar="NETWORK")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of classes to tell for each image, the most probable first.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File to write to; by default standard output.",
)
@batch_options
@device_option
@verbosity_options
def predict(
    network: str,
    folder: Path,
    top: int,
    out: Path | None,
    batch_size: int,
    workers: int,
    device: str,
) -> None:
    """Classify the images of a folder, with or without subfolders; prints CSV.

    NETWORK is what `evaluate` takes. Each line has the file, its class and the probability. An
    image that cannot be read is named, and the others are classified.

    \b
      tftas-optuna predict trained/mine-trial00042 photos > classes.csv
      tftas-optuna predict deployed/mine-trial00042.onnx photos --top 3 --out classes.csv
    """
    from tftas_optuna.cli._progress import StepDisplay
    from tftas_optuna.cli.evaluate import open_ready
    from tftas_optuna.errors import UnavailableError
    from tftas_optuna.export.files import check_directory
    from tftas_optuna.retrain.evaluation import predict as classify
    from tftas_optuna.retrain.splits import open_pictures

    if out is not None:
        check_directory(out.parent)
    reader = open_pictures(folder)
    opened = open_ready(network, device)
    if opened.class_names is None:
        click.echo(f"{network} names no classes: these are numbers of its outputs", err=True)
    broken: list[str] = []

    def report(line: str) -> None:
        broken.append(line)
        click.echo(line, err=True)

    with StepDisplay("classifying", "images") as display, _writer(out) as writer:
        numbers = ["", *(f"_{i}" for i in range(2, top + 1))]
        header = [f"{name}{number}" for number in numbers for name in ("class", "probability")]
        predictions = classify(
            opened,
            reader,
            top=top,
            batch_size=batch_size,
            workers=workers,
            callback=display,
            unreadable=report,
        )
        for i, (file, classes, probabilities) in enumerate(predictions):
            if i == 0:
                writer.writerow(["file", *header])
            pairs = zip(classes, (f"{p:.4f}" for p in probabilities), strict=True)
            writer.writerow([_printable(file), *(cell for pair in pairs for cell in pair)])
    if broken:
        raise UnavailableError(f"{len(broken)} of {len(reader)} images could not be read")


@contextlib.contextmanager
def _writer(out: Path | None) -> Iterator[Any]:
    """Write CSV to a file that appears when it is complete, or to standard output."""
    from tftas_optuna._writing import replacing
    from tftas_optuna.errors import UnavailableError

    if out is None:
        yield csv.writer(sys.stdout, lineterminator="\n")
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
            yield csv.writer(file, lineterminator="\n")
    except OSError as error:
        raise UnavailableError(f"{out}: cannot be written ({error.strerror or error})") from error


def _printable(name: str) -> str:
    """Return a name with what is no text in it replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
