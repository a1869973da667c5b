"""``tftas-optuna spaces``: the known spaces, their choices and sizes."""

from __future__ import annotations

import click

from tftas_optuna.cli._options import format_option, verbosity_options


@click.command()
@click.argument("names", nargs=-1, metavar="[SPACE]...")
@format_option
@verbosity_options
def spaces(names: tuple[str, ...], output: str) -> None:
    """Print search spaces: all presets, or those named (a YAML file is a name too)."""
    from rich.table import Table

    from tftas_optuna.cli import _tables
    from tftas_optuna.spaces import get_space, space_names
    from tftas_optuna.study.metrics import short

    known = [get_space(name) for name in names or space_names()]
    if output != "table":
        rows = [
            {
                **space.to_dict(),
                "cardinality": space.cardinality(),
                "n_params": [space.smallest().n_params, space.largest().n_params],
                "macs": [space.smallest().macs, space.largest().macs],
            }
            for space in known
        ]
        _tables.print_rows(rows, output)
        return
    table = Table(title="Search spaces, at 224x224 with 1000 classes", title_justify="left")
    table.add_column("space", no_wrap=True)
    for dimension in known[0].choices():
        table.add_column(dimension)
    for heading in ("architectures", "params", "MACs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for space in known:
        least, most = space.smallest(), space.largest()
        table.add_row(
            space.name,
            *(", ".join(f"{value:g}" for value in values) for values in space.choices().values()),
            f"{space.cardinality():.2g}",
            f"{short(least.n_params)} - {short(most.n_params)}",
            f"{short(least.macs)} - {short(most.macs)}",
        )
    _tables.stdout().print(table)
