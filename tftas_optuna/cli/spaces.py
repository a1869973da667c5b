"""``tftas-optuna spaces``: lists search spaces, their choices and sizes."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import format_option, verbosity_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.spaces import SearchSpace


@click.command()
@click.argument("names", nargs=-1, metavar="[SPACE|FILE]...")
@click.option(
    "--check",
    is_flag=True,
    help="Describe each space in detail, and measure the time of a score on this machine.",
)
@format_option
@verbosity_options
def spaces(names: tuple[str, ...], check: bool, output: str) -> None:
    """Print search spaces: all presets, or the given presets and YAML files."""
    from tftas_optuna.cli import _tables
    from tftas_optuna.spaces import get_space, space_names

    search_spaces = [get_space(name) for name in names or space_names()]
    costs: list[dict[str, float]] = []
    if check:
        # Measuring needs PyTorch, listing does not.
        from tftas_optuna.scoring.timing import seconds_per_score

        costs = [seconds_per_score(space) for space in search_spaces]
    if output != "table":
        rows = [_row(space) for space in search_spaces]
        for row, seconds in zip(rows, costs, strict=False):
            row["seconds_per_score"] = seconds
        _tables.print_rows(rows, output)
    elif check:
        for space, seconds in zip(search_spaces, costs, strict=True):
            _explain(space, seconds)
    else:
        for title, group in groupby(search_spaces, key=_title):
            _list(title, list(group))


def _row(space: SearchSpace) -> dict[str, Any]:
    least, most = space.costs(space.smallest()), space.costs(space.largest())
    return {
        **space.to_dict(),
        "cardinality": space.cardinality(),
        "n_params": [least.n_params, most.n_params],
        "macs": [least.macs, most.macs],
    }


def _title(space: SearchSpace) -> str:
    return f"Search spaces of family {space.family}, for {_images(space)}"


def _list(title: str, search_spaces: Sequence[SearchSpace]) -> None:
    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import count_text

    sizes = [count_text(space.cardinality()) for space in search_spaces]
    names = search_spaces[0].choices()
    choices = {name: [_values(space.choices()[name]) for space in search_spaces] for name in names}
    _tables.print_table(
        title,
        [
            _tables.Column("space", [space.name for space in search_spaces], 0, "name"),
            *(
                _tables.Column(name, cells, rank, "words")
                for rank, (name, cells) in enumerate(choices.items(), 4)
            ),
            _tables.Column("architectures", sizes, 2),
            _tables.Column("params", [_range(space, "n_params") for space in search_spaces], 1),
            _tables.Column("MACs", [_range(space, "macs") for space in search_spaces], 3),
        ],
    )


def _explain(space: SearchSpace, seconds: dict[str, float]) -> None:
    from rich.table import Table
    from rich.text import Text

    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import count_text
    from tftas_optuna.scoring.timing import machine

    table = Table.grid(padding=(0, 2))
    named = Text.assemble((space.name, "bold"), f", family {space.family}")
    table.add_row(Text("space", "bold"), named)
    table.add_row("for", _images(space))
    for dimension, values in space.choices().items():
        table.add_row(dimension, _values(values))
    for trait, value in space.traits().items():
        table.add_row(trait, str(value))
    table.add_row("parameters in Optuna", ", ".join(_shortened(list(space.distributions()))))
    table.add_row("architectures", count_text(space.cardinality()))
    table.add_row("params", _range(space, "n_params"))
    table.add_row("MACs", _range(space, "macs"))
    for fidelity, cost in seconds.items():
        table.add_row(
            f"a score, {fidelity}",
            f"{1000 * cost:.3g} ms on {machine()}; 1000 trials take {_duration(1000 * cost)}",
        )
    _tables.stdout().print(table)


def _values(values: Sequence[Any]) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, int | float) else str(v) for v in values)


def _range(space: SearchSpace, cost: str) -> str:
    from tftas_optuna.metrics.units import short

    least, most = space.costs(space.smallest()), space.costs(space.largest())
    return f"{short(getattr(least, cost))} - {short(getattr(most, cost))}"


def _images(space: SearchSpace) -> str:
    size = f"{space.in_chans}x{space.img_size}x{space.img_size}"
    return f"{size} images and {space.num_classes} classes"


def _shortened(names: list[str]) -> list[str]:
    slots = [name for name in names if name.startswith("block_")]
    if len(slots) < 3:
        return names
    return [*(name for name in names if name not in slots), f"{slots[0]} ... {slots[-1]}"]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
