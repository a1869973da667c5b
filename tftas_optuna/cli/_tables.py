"""Prints candidates as a terminal table, JSON, YAML or CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import yaml
from rich.console import Console
from rich.table import Table

from tftas_optuna._writing import json_text
from tftas_optuna.metrics import cost_names, get_cost
from tftas_optuna.metrics.units import short
from tftas_optuna.study import held_out
from tftas_optuna.study.accuracy import choose_key, count_trials, sets_by_key
from tftas_optuna.study.front import AGREEMENT
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study

    from tftas_optuna.study.accuracy import TrainingSet
    from tftas_optuna.study.front import Candidate


_COUNTS = {"n_params": "params", "macs": "MACs"}


def score_text(score: float) -> str:
    """Format a score with at least five digits."""
    return f"{score:,.0f}" if score >= 1e4 else f"{score:.5g}"


def candidate_rows(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return plain data, one mapping per candidate."""
    trained = any(candidate.top1 is not None for candidate in candidates)
    several = any(candidate.top1_sd is not None for candidate in candidates)
    shared = any(candidate.shared_top1 is not None for candidate in candidates)
    return [
        {
            "trial": candidate.trial,
            **candidate.named_values(),
            **({"top1": candidate.top1} if trained else {}),
            **({"top1_sd": candidate.top1_sd} if several else {}),
            **({"trained": candidate.trained} if trained else {}),
            **({"shared_top1": candidate.shared_top1} if shared else {}),
            **({"shared": candidate.shared} if shared else {}),
            "architecture": candidate.architecture.to_dict(),
        }
        for candidate in candidates
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


def candidate_table(
    candidates: Sequence[Candidate], title: str, studies: Sequence[str] = ()
) -> Table:
    """Return a terminal table of candidates, with a column of studies if there are several."""
    table = Table(title=title, title_justify="left")
    columns = [column for name in _names(candidates) for column in _columns(name, candidates)]
    if any(candidate.held_out is not None for candidate in candidates):
        columns.append(_Column("held out %", lambda c: _percent(c.held_out)))
    if any(candidate.top1 is not None for candidate in candidates):
        columns.append(_Column("top-1 %", _accuracy))
    if any(candidate.shared_top1 is not None for candidate in candidates):
        columns.append(_Column("shared top-1 %", lambda c: _percent(c.shared_top1)))
    if studies:
        table.add_column("study", overflow="fold")
    table.add_column("trial", justify="right", no_wrap=True)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column("width x depth, block means", overflow="fold")
    for i, candidate in enumerate(candidates):
        table.add_row(
            *studies[i : i + 1],
            str(candidate.trial),
            *(column.text(candidate) for column in columns),
            candidate.architecture.summary(),
        )
    return table


class _Column(NamedTuple):
    heading: str
    text: Callable[[Candidate], str]


def _names(candidates: Sequence[Candidate]) -> list[str]:
    """Return the metrics in the order of a table: indicators, counts, other costs."""
    names = dict.fromkeys(name for candidate in candidates for name in candidate.values)
    return sorted(names, key=lambda name: (name in cost_names(), name not in _COUNTS))


def _columns(name: str, candidates: Sequence[Candidate]) -> list[_Column]:
    if name in cost_names():
        return [_Column(_heading(name), lambda c: _optional(c.values.get(name), short))]
    heading = title(name)
    fidelities = [c.fidelity for c in candidates if name in c.approximated]
    if not fidelities:
        return [_Column(heading, lambda c: _optional(_exact(c, name)))]
    return [
        _Column(
            f"{fidelities[0]} {heading}",
            lambda c: _optional(c.values.get(name) if name in c.approximated else None),
        ),
        _Column(f"exact {heading}", lambda c: _optional(_exact(c, name))),
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


def training_table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Return a terminal table of training results."""
    table = Table(title=title, title_justify="left")
    table.add_column("directory", overflow="fold")
    for heading in ("top-1 %", "top-5 %", "loss", "params", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["out"],
            _percent(row["top1"]),
            _percent(row["top5"]),
            _optional(row["loss"], "{:.4f}".format),
            short(row["n_params"]),
            f"{row['seconds']:,.0f} s",
        )
    return table


def member_table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Return a terminal table of the members of a shared training."""
    table = Table(title=title, title_justify="left")
    table.add_column("member", overflow="fold")
    for heading in ("top-1 %", "top-5 %", "loss", "params", "MACs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            _percent(row["top1"]),
            _percent(row["top5"]),
            _optional(row["loss"], "{:.4f}".format),
            short(row["n_params"]),
            short(row["macs"]),
        )
    return table


def _optional(value: float | None, text: Callable[[float], str] = score_text) -> str:
    return "-" if value is None else text(value)


def _percent(top1: float | None) -> str:
    return "-" if top1 is None else f"{top1:.2f}"


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
            name = f"{study.study_name}: " if len(studies) > 1 else ""
            lines.append(f"{name}searched on {text}.")
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


def say_agreement(study: Study, n_front: int) -> None:
    """Print on stderr how well the exact scores of a front agree with the approximate ones."""
    for name, agreement in study.user_attrs.get(AGREEMENT, {}).items():
        n_exact = agreement.get("n", n_front)
        scored = "the front" if n_exact == n_front else f"{n_exact} of {n_front} members"
        click.echo(
            f"{name} of {scored} computed exactly: Kendall tau {agreement['kendall_tau']:.4f},"
            f" the approximation {agreement['relative_offset']:+.2%} on average.",
            err=True,
        )


def stdout() -> Console:
    """Return a console for results, wide enough for them where stdout is not a terminal.

    Names come from the user, so nothing in them is markup.
    """
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(width=120, markup=False, emoji=False)


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat.update(_flatten(value))
        else:
            flat[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat
