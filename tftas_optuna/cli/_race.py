"""``tftas-optuna retrain --race``: members of a front and baselines, against each other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli import _tables
from tftas_optuna.cli._tables import Column
from tftas_optuna.cli._training import TrainingDisplay
from tftas_optuna.metrics.units import MISSING, short
from tftas_optuna.report.commands import race_commands
from tftas_optuna.retrain.network import candidate_network, resolve_network
from tftas_optuna.retrain.race import TABLE, Entrant, Race
from tftas_optuna.study.front import pareto_front
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optuna import Study

    from tftas_optuna.retrain.network import Network
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.scoring.conditions import SupernetSource

SMALLEST = "smallest"


def entrants(
    chosen: Sequence[tuple[int | None, Network]],
    weights: str | SupernetSource,
    baselines: Sequence[str],
    study: Study | None,
) -> list[Entrant]:
    """Return the networks of a race.

    Args:
        chosen: Trials and networks of the members.
        weights: Weights that the members start from.
        baselines: Names of networks to compare with, or ``"smallest"`` for the smallest member.
        study: The study of the members.

    Raises:
        TftasError: A baseline does not exist.
    """
    first = chosen[0][1]
    members = [Entrant(network, trial, weights) for trial, network in chosen]
    others = []
    for name in baselines:
        if name == SMALLEST:
            if study is None:
                raise click.UsageError("--baseline smallest is the smallest member of a --study")
            smallest = min(pareto_front(study), key=lambda candidate: candidate.n_params)
            network = candidate_network(smallest, read_settings(study), study.study_name)
            network = dataclasses.replace(network, img_size=first.img_size)
            members = [member for member in members if member.trial != smallest.trial]
            others.append(Entrant(network, smallest.trial, weights, baseline=True))
        else:
            network = resolve_network(name, img_size=first.img_size)
            network = dataclasses.replace(network, in_chans=first.in_chans)
            others.append(Entrant(network, baseline=True))
    return [*members, *others]


def race(
    networks: Sequence[Entrant],
    recipe: Recipe,
    source: Any,
    out: Path,
    *,
    output: str,
    title: str,
    quiet: bool,
    **options: Any,
) -> None:
    """Run a race and print its table.

    Args:
        networks: The networks.
        recipe: How to train them.
        source: The data.
        out: The directory of the race.
        output: The format to print in.
        title: Title of the table.
        quiet: Whether to show no progress.
        **options: Passed on to :class:`tftas_optuna.retrain.race.Race`.
    """
    primary = options["world"].primary
    with TrainingDisplay(out.name, recipe.epochs, quiet=quiet or not primary) as display:
        running = Race(
            networks,
            recipe,
            source,
            out,
            began=display.begin,
            told=display.tell,
            callback=display.update,
            **options,
        )
        try:
            rows = running.run()
        except KeyboardInterrupt:
            display.close()
            click.echo(
                f"Interrupted; whole epochs are kept in {out}. Go on with the same command.",
                err=True,
            )
            raise
    if not primary:
        return
    if output != "table":
        _tables.print_rows(rows, output)
        return
    _tables.print_table(title, _columns(rows), complete=f"{out / TABLE}")
    if any(row["margin"] is not None for row in rows):
        click.echo(
            "A difference is told from chance where it is larger than its margin, two standard"
            " errors by what seeds make."
        )
    if not quiet and rows[0]["seeds"] and not source.dataset:
        best = out / f"{rows[0]['name']}-seed{recipe.seed}"
        click.echo("Next:", err=True)
        for line, purpose in race_commands(str(best), str(source.root)):
            click.echo(f"  {line}    # {purpose}", err=True)


def _columns(rows: Sequence[dict[str, Any]]) -> list[Column]:
    def number(name: str, form: str = "{:.2f}") -> list[str]:
        return [MISSING if row[name] is None else form.format(row[name]) for row in rows]

    margins = [
        MISSING if row["margin"] is None else f"{row['behind']:.2f} ± {row['margin']:.2f}"
        for row in rows
    ]
    differs = [{None: MISSING, True: "yes", False: "no"}[row["differs"]] for row in rows]
    params = [MISSING if row["n_params"] is None else short(row["n_params"]) for row in rows]
    return [
        Column("network", [row["name"] for row in rows], 0, "name"),
        Column("", ["baseline" if row["baseline"] else "" for row in rows], 1, "words"),
        Column("top-1 %", number("top1"), 2),
        Column("sd", number("sd"), 6),
        Column("seeds", [str(row["seeds"]) for row in rows], 5),
        Column("behind", margins, 4),
        Column("differs", differs, 3, "words"),
        Column("epochs", [str(row["epochs"]) for row in rows], 7),
        Column("params", params, 8),
    ]
