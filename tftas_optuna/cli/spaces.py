"""``tftas-optuna spaces``: lists search spaces, their choices and sizes."""

from __future__ import annotations

import shlex
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna._writing import file_stem
from tftas_optuna.cli._options import Amount, format_option, verbosity_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.retrain.timing import StepTime
    from tftas_optuna.spaces import SearchSpace

# Images of an epoch if no others are given.
_THOUSAND = 1000


@click.command()
@click.argument("names", nargs=-1, metavar="[SPACE|FILE|timm:NAME]...")
@click.option(
    "--check",
    is_flag=True,
    help="Describe each space in detail, and measure the time of a score and of an epoch of "
    "training on this machine.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --check: images to train on, which an epoch is estimated for; by default 1,000.",
)
@click.option(
    "--for",
    "images_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Propose a space for the images in DIR, train/CLASS/IMAGE or CLASS/IMAGE, as YAML.",
)
@click.option(
    "--params-max",
    type=Amount(),
    help="With --for: maximum number of parameters, such as 1M; by default 100 for each image.",
)
@format_option
@verbosity_options
def spaces(
    names: tuple[str, ...],
    check: bool,
    data_dir: Path | None,
    images_dir: Path | None,
    params_max: float | None,
    output: str,
) -> None:
    """Print search spaces: all presets, or the given presets, YAML files and networks of timm.

    With --for it prints a space that it proposes for a folder of images, ready for --space.

    \b
      tftas-optuna spaces --check space.yaml
      tftas-optuna spaces --for flowers --params-max 1M > flowers.yaml
    """
    if data_dir is not None and not check:
        raise click.UsageError("--data-dir is for --check")
    if images_dir is not None:
        if names or check or output not in ("table", "yaml"):
            raise click.UsageError("--for proposes one space, as YAML; give it alone")
        _propose(images_dir, params_max)
        return
    if params_max is not None:
        raise click.UsageError("--params-max is for --for; to bound a search, give it to `run`")
    from tftas_optuna.cli import _tables
    from tftas_optuna.spaces import get_space, space_names

    search_spaces = [get_space(name) for name in names or space_names()]
    if check:
        # Measuring needs PyTorch, listing does not.
        from tftas_optuna.scoring.timing import seconds_per_score

        n_images = _THOUSAND
        if data_dir is not None:
            from tftas_optuna.retrain.survey import survey

            n_images = survey(data_dir).n_images
    if output != "table":
        rows = [_row(space) for space in search_spaces]
        if check:
            for row, space in zip(rows, search_spaces, strict=True):
                row["seconds_per_score"] = seconds_per_score(space)
                training = _time_training(space)
                row["seconds_per_epoch"] = [t.seconds * n_images for t in training]
        _tables.print_rows(rows, output)
    elif check:
        for space in search_spaces:
            _explain(space, seconds_per_score(space), n_images)
    else:
        for title, group in groupby(search_spaces, key=_title):
            _list(title, list(group))


def _propose(directory: Path, params_max: float | None) -> None:
    """Print a space for a folder of images, and the commands that use it."""
    from tftas_optuna.retrain.survey import survey
    from tftas_optuna.spaces.proposing import propose_space

    images = survey(directory)
    name = file_stem(directory.resolve().name)
    proposal = propose_space(
        name,
        side=images.side,
        in_chans=images.in_chans,
        num_classes=images.num_classes,
        n_images=images.n_images,
        params_max=params_max,
    )
    sides = "shorter side" if images.alike else "median shorter side"
    about = {
        "img_size": f"{images.side} pixels is the {sides} of {images.n_opened} images opened",
        "in_chans": "these are grey" if images.in_chans == 1 else "these have colours",
        "num_classes": f"folders with {images.n_images:,} images to train on",
    }
    text = proposal._replace(reasons={**about, **proposal.reasons}).to_yaml()
    file = shlex.quote(f"{name}.yaml")
    search = f"tftas-optuna run --space {file}"
    click.echo(f"# {search}\n{text}", nl=False)
    words = ["tftas-optuna", "spaces", "--for", str(directory)]
    if params_max is not None:
        words += ["--params-max", f"{params_max:.0f}"]
    click.echo(
        f"Next:\n  {shlex.join(words)} > {file}    # keep it\n  {search}    # search it", err=True
    )


def _time_training(space: SearchSpace) -> list[StepTime]:
    """Measure a step of training of the smallest and the largest network."""
    from tftas_optuna.retrain.timing import time_step, usual_recipe

    return [time_step(space, a, usual_recipe()) for a in (space.smallest(), space.largest())]


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


def _explain(space: SearchSpace, seconds: dict[str, float], n_images: int) -> None:
    """Print what a space is, and how long its scores and trainings take here."""
    from rich.table import Table
    from rich.text import Text

    from tftas_optuna.cli import _tables
    from tftas_optuna.metrics.units import count_text
    from tftas_optuna.retrain.timing import duration, usual_recipe, where
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
            f"{1000 * cost:.3g} ms on {machine()}; 1,000 trials take {duration(1000 * cost)}",
        )
    times = _time_training(space)
    epochs = " - ".join(duration(each.seconds * n_images, 600) for each in times)
    table.add_row("an epoch of training", f"{epochs} for {n_images:,} images")
    steps = " and ".join(f"{each.steps} x {each.batch_size}" for each in times)
    how = f"here by {steps} images, recipe {usual_recipe()}, {where()}; images not read"
    table.add_row("measured", how)
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
