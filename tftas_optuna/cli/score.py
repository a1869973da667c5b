"""``tftas-optuna score``: DSS, parameters and MACs of architectures and timm models."""

from __future__ import annotations

import click

from tftas_optuna.cli._options import format_option, verbosity_options


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the weights; 0.")
@click.option("--img-size", type=click.IntRange(1, 4096), help="Input size; the model's own.")
@click.option("--num-classes", type=click.IntRange(1, 1_000_000), help="Outputs; the model's own.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@format_option
@verbosity_options
def score(
    names: tuple[str, ...],
    seed: int | None,
    img_size: int | None,
    num_classes: int | None,
    device: str,
    output: str,
) -> None:
    """Score exported files, published architectures and timm models.

    An exported file is scored with the weights of its own search, so its DSS is that of its
    trial. Everything else gets fresh weights: compare such scores within one call.
    """
    from rich.table import Table

    from tftas_optuna.cli import _tables
    from tftas_optuna.cli._scoring import score_by_name
    from tftas_optuna.indicators.device import resolve_device
    from tftas_optuna.study.metrics import short

    resolved = resolve_device(device)
    rows = [score_by_name(name, seed, img_size, num_classes, resolved) for name in names]
    if output != "table":
        _tables.print_rows(rows, output)
        return
    table = Table(title="DSS of untrained networks", title_justify="left")
    table.add_column("name", overflow="fold")
    for heading in ("DSS", "params", "MACs", "input"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("weights")
    for row in rows:
        table.add_row(
            row["name"],
            _tables.score_text(row["dss"]),
            short(row["n_params"]),
            short(row["macs"]),
            str(row["img_size"]),
            row["weights"],
        )
    _tables.stdout().print(table)
