"""Prints candidates as a terminal table, JSON, YAML or CSV."""

from __future__ import annotations

import csv
import io
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click
import yaml
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tftas_optuna._writing import json_text
from tftas_optuna.metrics import cost_names, get_cost
from tftas_optuna.metrics.units import MISSING, costs_alike, scores_alike, short
from tftas_optuna.study import held_out
from tftas_optuna.study.accuracy import choose_key, count_trials, sets_by_key
from tftas_optuna.study.agreement import agreement_texts
from tftas_optuna.study.front import value_names
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

    from tftas_optuna.study.accuracy import TrainingSet
    from tftas_optuna.study.front import Candidate


_COUNTS = {"n_params": "params", "macs": "MACs"}
# Width of a name that can still be recognised, and what surrounds a cell: a space each, a rule.
_NAME = 16
_FRAME = 3
# Rank of what says nothing that another column does not say better.
_LAST = 1000
_NO_LIMIT = 1_000_000
# Below this width nothing can be read anyway.
_NARROWEST = 10


def candidate_rows(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return plain data, one mapping per candidate, all with the same names."""
    named = [candidate.named_values() for candidate in candidates]
    names = value_names(candidates)
    trained = any(candidate.top1 is not None for candidate in candidates)
    several = any(candidate.top1_sd is not None for candidate in candidates)
    shared = any(candidate.shared_top1 is not None for candidate in candidates)
    return [
        {
            "trial": candidate.trial,
            **{name: values.get(name) for name in names},
            **({"top1": candidate.top1} if trained else {}),
            **({"top1_sd": candidate.top1_sd} if several else {}),
            **({"trained": candidate.trained} if trained else {}),
            **({"shared_top1": candidate.shared_top1} if shared else {}),
            **({"shared": candidate.shared} if shared else {}),
            "architecture": candidate.architecture.to_dict(),
        }
        for candidate, values in zip(candidates, named, strict=True)
    ]


def print_rows(rows: Sequence[dict[str, Any]], output: str) -> None:
    """Print plain data to stdout as JSON, YAML or CSV."""
    if output == "json":
        text = json_text(list(rows), indent=2) + "\n"
    elif output == "yaml":
        text = yaml.safe_dump(list(rows), sort_keys=False, default_flow_style=None, width=99)
    else:
        flat = [_flatten(row) for row in rows]
        buffer = io.StringIO()
        # Rows of several studies may have different names.
        names = list(dict.fromkeys(name for row in flat for name in row))
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        text = buffer.getvalue()
    print(text, end="")


class Column(NamedTuple):
    """A column of a terminal table.

    Attributes:
        heading: Its heading.
        cells: Its cells, one a row.
        rank: How soon it is left out of a narrow terminal: those of the lowest rank stay longest.
        kind: Names are shortened in the middle where they are too long; numbers and words are
            shown as they are, words on the left.
        brief: Shorter cells, where the others do not fit.
    """

    heading: str
    cells: Sequence[str]
    rank: int
    kind: Literal["number", "words", "name"] = "number"
    brief: Sequence[str] | None = None


def print_table(
    title: str,
    columns: Sequence[Column],
    *,
    section: int | None = None,
    complete: str = "-f csv",
) -> None:
    """Print a table on stdout, no row wider than the terminal, and say what was left out.

    Args:
        title: The title.
        columns: The columns, all of the same length.
        section: Number of rows above a rule; None for no rule.
        complete: What shows all columns.
    """
    console = stdout()
    kept, left_out = fitted(columns, console.width)
    table = Table()
    for column in kept:
        table.add_column(
            Text(column.heading),
            justify="right" if column.kind == "number" else "left",
            no_wrap=True,
        )
    for i, row in enumerate(zip(*(column.cells for column in kept), strict=True)):
        table.add_row(*map(Text, row), end_section=i + 1 == section)
    console.print(title, style="table.title", highlight=False)
    console.print(table)
    if left_out:
        console.print(
            f"Left out: {', '.join(left_out)}. A wider terminal or {complete} shows them.",
            highlight=False,
        )


def fitted(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """Return the columns that fit into a width, and what is left out.

    The first in rank is always among them. Texts are shortened as far as that makes room for other
    columns, but stay recognisable and, if possible, distinct.
    """
    columns = [
        column._replace(cells=[" ".join(cell.splitlines()) for cell in column.cells])
        for column in columns
    ]
    widths: dict[int, int] = {}
    left_out = {}
    spare = max(width, _NARROWEST) - 1
    for i in sorted(range(len(columns)), key=lambda i: columns[i].rank):
        column, least = columns[i], _least(columns[i], width)
        if not widths:
            least = min(least, spare - _FRAME)
        if least + _FRAME > spare:
            left_out[i] = column.heading
            if column.brief is None:
                continue
            columns[i] = column = column._replace(cells=column.brief)
            least = _least(column, width)
            if least + _FRAME > spare:
                continue
            left_out[i] = f"details of {column.heading}"
        widths[i] = least
        spare -= least + _FRAME
    for i in widths:
        grown = min(_natural(columns[i]) - widths[i], spare)
        widths[i] += grown
        spare -= grown
    kept = [
        columns[i]._replace(
            heading=shortened(columns[i].heading, widths[i]),
            cells=[shortened(cell, widths[i]) for cell in columns[i].cells],
        )
        for i in sorted(widths)
    ]
    return kept, [left_out[i] for i in sorted(left_out)]


def shortened(text: str, width: int) -> str:
    """Return a text of at most so many cells of a terminal, without its middle if it is longer."""
    if cell_len(text) <= width:
        return text
    tail = max(width - 1, 0) // 2
    # set_cell_size cuts at the end, so what is to be cut at its beginning is reversed.
    end = set_cell_size(text[::-1], tail)[::-1]
    return f"{set_cell_size(text, max(width - 1, 0) - tail)}…{end}"


def _natural(column: Column) -> int:
    return max(map(cell_len, (column.heading, *column.cells)))


def _least(column: Column, width: int) -> int:
    """Return the least width of a column in a table of a width."""
    natural = _natural(column)
    if column.kind != "name":
        return natural
    # Numbers stand beside names on half the width.
    most = min(natural, max(_NAME, width // 2))
    return next(
        (
            w
            for w in range(max(_NAME, width // 4), most)
            if len({shortened(cell, w) for cell in column.cells}) == len(set(column.cells))
        ),
        most,
    )


def candidate_columns(
    candidates: Sequence[Candidate], studies: Sequence[str] = ()
) -> list[Column]:
    """Return the columns of candidates, with one of studies if there are several."""
    columns = [Column("trial", [str(c.trial) for c in candidates], 1)]
    if studies:
        columns.insert(0, Column("study", studies, 0, "name"))
    names = list(dict.fromkeys(name for candidate in candidates for name in candidate.values))
    # Their order there is that of their importance: objectives, bounds, other counts.
    for name in sorted(names, key=lambda name: (name in cost_names(), name not in _COUNTS)):
        columns += _metric_columns(name, candidates, 10 + names.index(name))
    if any(candidate.held_out is not None for candidate in candidates):
        columns.append(Column("held out %", [_percent(c.held_out) for c in candidates], 5))
    if any(candidate.top1 is not None for candidate in candidates):
        means = [_percent(c.top1) for c in candidates]
        columns.append(Column("top-1 %", [_accuracy(c) for c in candidates], 2, brief=means))
    if any(candidate.shared_top1 is not None for candidate in candidates):
        columns.append(Column("shared top-1 %", [_percent(c.shared_top1) for c in candidates], 3))
    blocks = [candidate.architecture.summary() for candidate in candidates]
    return [*columns, Column("width x depth, block means", blocks, _LAST - 1, "words")]


def _metric_columns(name: str, candidates: Sequence[Candidate], rank: int) -> list[Column]:
    if name in cost_names():
        values = [candidate.values.get(name) for candidate in candidates]
        return [Column(_heading(name), costs_alike(values), rank)]
    heading = title(name)
    exact = scores_alike([_exact(candidate, name) for candidate in candidates])
    fidelities = [c.fidelity for c in candidates if name in c.approximated]
    if not fidelities:
        return [Column(heading, exact, rank)]
    approximate = [c.values.get(name) if name in c.approximated else None for c in candidates]
    # What is approximate says nothing more once all is known exactly.
    ranks = (rank, _LAST - 2) if MISSING in exact else (_LAST, rank)
    return [
        Column(f"{fidelities[0]} {heading}", scores_alike(approximate), ranks[0]),
        Column(f"exact {heading}", exact, ranks[1]),
    ]


def _exact(candidate: Candidate, name: str) -> float | None:
    scores = candidate.exact if name in candidate.approximated else candidate.values
    return scores.get(name)


def title(indicator: str) -> str:
    """Return the heading of an indicator: its name in options, but in capitals for DSS."""
    return "DSS" if indicator == "dss" else indicator


def _heading(name: str) -> str:
    if name in _COUNTS:
        return _COUNTS[name]
    unit = get_cost(name).unit
    return name.replace("_", " ") + (f" ({unit})" if unit else "")


def training_columns(rows: Sequence[dict[str, Any]], num_classes: int | None) -> list[Column]:
    """Return the columns of training results: of single networks, or of members of a supernet."""
    shared = "out" not in rows[0]
    columns = [
        Column("member", [row["name"] for row in rows], 0, "name")
        if shared
        else Column("directory", [row["out"] for row in rows], 0, "name"),
        Column("top-1 %", [_percent(row["top1"]) for row in rows], 1),
        Column("loss", ["-" if row["loss"] is None else f"{row['loss']:.4f}" for row in rows], 4),
        Column("params", [short(row["n_params"]) for row in rows], 2),
        Column("MACs", [short(row["macs"]) for row in rows], 3)
        if shared
        else Column("time", [f"{row['seconds']:,.0f} s" for row in rows], 5),
    ]
    # The label is always among the top five of five classes.
    if num_classes is None or num_classes > 5:
        columns.insert(2, Column("top-5 %", [_percent(row["top5"]) for row in rows], 6))
    return columns


def _percent(top1: float | None) -> str:
    return MISSING if top1 is None else f"{top1:.2f}"


def _accuracy(candidate: Candidate) -> str:
    sd = "" if candidate.top1_sd is None else f" ± {candidate.top1_sd:.2f}"
    return _percent(candidate.top1) + sd


def trainings_texts(studies: Sequence[Study], trained: str | None) -> list[str]:
    """Describe the training conditions of the accuracies that are shown, and list others.

    Args:
        studies: The studies with the accuracies.
        trained: The key that was asked for.

    Returns:
        A line for trainings of single members, the same for all studies; and one for each study
        with a shared training.
    """
    lines = [_trainings_text("top-1", choose_key(studies, trained), sets_by_key(studies))]
    for study in studies:
        by_key = sets_by_key([study], shared=True)
        asked = trained if trained in by_key else None
        key = choose_key([study], asked, shared=True)
        what = "shared top-1" if len(studies) == 1 else f"{study.study_name}: shared top-1"
        lines.append(_trainings_text(what, key, by_key))
    return [line for line in lines if line]


def _trainings_text(
    what: str, key: str | None, by_key: Mapping[str, Sequence[TrainingSet]]
) -> str:
    if key is None:
        return ""
    text = f"{what} of trainings {key}: {by_key[key][0]}; {count_trials(by_key[key])}."
    others = [f"{other} ({count_trials(sets)})" for other, sets in by_key.items() if other != key]
    if others:
        text += f" Others, with --trained: {', '.join(others)}."
    return text


def images_texts(studies: Sequence[Study]) -> list[str]:
    """Say which labelled images each study was searched on, and which were held out."""
    lines = []
    for study in studies:
        text = held_out.images_text(study, read_settings(study))
        if text:
            begin = f"{study.study_name}: searched" if len(studies) > 1 else "Searched"
            lines.append(f"{begin} on {text}.")
    return lines


def say_recorded(study: Study, key: str, storage: str) -> None:
    """Print on stderr how to see recorded accuracies if the front shows others."""
    from tftas_optuna.report.commands import trained_command

    shown = choose_key([study])
    if key != shown:
        command = trained_command(storage, study.study_name, key)
        click.echo(
            f"Recorded as {key}. The front still shows accuracies under other conditions, {shown};"
            f" to see these: {command}",
            err=True,
        )


def exact_texts(studies: Sequence[Study], fronts: Sequence[Sequence[Candidate]]) -> list[str]:
    """Say how many members of each study's front have exact values, and how these agree."""
    return [
        f"{study.study_name}: {line}" if len(studies) > 1 else line
        for study, front in zip(studies, fronts, strict=True)
        for line in agreement_texts(front)
    ]


def stdout() -> Console:
    """Return a console for results: as wide as the terminal, without a limit in a pipe or a file.

    ``COLUMNS`` sets the width of any. Names come from the user, so nothing in them is markup.
    """
    console = Console(markup=False, emoji=False)
    limited = console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
    return console if limited else Console(width=_NO_LIMIT, markup=False, emoji=False)


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat.update(_flatten(value))
        else:
            flat[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat
