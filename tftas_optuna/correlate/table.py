"""Trained architectures with their accuracies, as a table, a directory or a study holds them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna.architecture import read_architecture, read_yaml
from tftas_optuna.correlate.entries import (
    IncompleteError,
    OutsideError,
    arch_columns,
    file_column,
    find_file,
    missing_fields,
    read_row,
    required_fields,
)
from tftas_optuna.correlate.files import find_table, is_blank, read_cells, read_number
from tftas_optuna.errors import InputFileError, TftasError, did_you_mean
from tftas_optuna.export.sections import read_section
from tftas_optuna.metrics.units import name_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.correlate.files import Cells, Tell
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.study.accuracy import TrainingSet

# ``top1``, ``acc``, ``c100_kd_acc``, ``val accuracy``, ...
_ACCURACY = re.compile(r"(.*[\W_])?(acc|acc@?1|accuracy|top[-_ ]?1)", re.IGNORECASE)
# Columns that are computed anyway, and those that only number rows.
_NOT_SCORES = {
    "n_params",
    "params",
    "macs",
    "flops",
    "depth",
    "width",
    "trial",
    "seed",
    "id",
    "index",
}
_NOT_SCORES |= {"top1_sd"}
# Spreadsheets and data frames write the numbers of rows into columns without a name.
_NAMED = re.compile(r"(?!Unnamed: )\S")
# ``top5``, ``acc@5``, ...: accuracies that are not compared.
_TOP = re.compile(r"(.*[\W_])?(acc@?|top[-_ ]?)\d+", re.IGNORECASE)
# A column may hold these and still be one of scores.
_INFINITE = re.compile(r"\s*[+-]?inf(inity)?\s*", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class TrainedTable:
    """Different architectures of one space, with accuracies.

    Attributes:
        name: Its name.
        space: The space.
        architectures: The architectures.
        accuracies: By column, the accuracy of each architecture; None if it was not trained.
        scores: By column, scores from elsewhere that the table has; None where one is missing.
        sizes: ``img_size`` and ``num_classes`` where the table knows them.
        notes: Sentences that say which rows were left out, and why.
        numbers: Number of the row, or of the trial, of each architecture.
        counted: What the numbers count: ``"row"`` or ``"trial"``.
        trainings: Of a study, by column, the trainings that reached the accuracies.
    """

    name: str
    space: SearchSpace
    architectures: tuple[Architecture, ...]
    accuracies: Mapping[str, tuple[float | None, ...]]
    scores: Mapping[str, tuple[float | None, ...]] = dataclasses.field(default_factory=dict)
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    counted: str = "row"
    trainings: Mapping[str, TrainingSet] = dataclasses.field(default_factory=dict)


def read_table(
    source: str | Path,
    space: SearchSpace | None,
    accuracy: Sequence[str] | None,
    tell: Tell = lambda *_: None,
) -> TrainedTable:
    """Read a CSV file, a JSON list of objects, or a directory with a CSV file of file names.

    Rows outside the space, repeated architectures, and rows without a field that an architecture
    needs are left out; the notes give their numbers, counted from 1. Optional fields that are not
    in the table are taken from the supernet of the space.

    Args:
        source: The path.
        space: The space; None for that of the exported files in the table.
        accuracy: Columns of accuracies; None to find them by their names.
        tell: Called with ``"reading"``, the number of the row and the number of rows.

    Raises:
        TftasError: There is no space, or no such column.
        UnavailableError: The table cannot be read, or a cell makes no sense; names the row.
    """
    path = find_table(Path(source))
    rows = read_cells(path)
    columns: dict[str, Any] = {name: None for row in rows for name in row}
    reader = _RowReader(path, space, columns)
    names = _accuracy_columns(columns, accuracy, reader.described, path)
    row_of: dict[Architecture, int] = {}
    kept: list[dict[str, float | None]] = []
    left_out = _LeftOut()
    untrained: dict[str, list[int]] = {}
    for number, row in enumerate(rows, start=1):
        tell("reading", number, len(rows))
        try:
            arch = reader.read(row)
        except IncompleteError as error:
            left_out.add(number, str(error))
            continue
        except OutsideError as error:
            left_out.add(number, f"not in space {reader.space.name}", str(error))
            continue
        except TftasError as error:
            raise InputFileError(f"{path}, row {number}: {error}") from error
        if arch in row_of:
            left_out.add(number, "repeated architecture", f"as in row {row_of[arch]}")
            continue
        values = {name: _read_accuracy(name, row.get(name), path, number) for name in names}
        if all(value is None for value in values.values()):
            left_out.add(number, f"no {' nor '.join(names)}")
            continue
        for name in names:
            if values[name] is None:
                untrained.setdefault(name, []).append(number)
        row_of[arch] = number
        kept.append(values)
    if not kept:
        raise InputFileError(f"{path}: no row is left: {'; '.join(left_out.sentences())}")
    return TrainedTable(
        name=path.name,
        space=reader.space,
        architectures=tuple(row_of),
        accuracies={name: tuple(values[name] for values in kept) for name in names},
        scores=_scores_of(
            [rows[number - 1] for number in row_of.values()], {*reader.described, *names}
        ),
        sizes=reader.sizes,
        notes=left_out.sentences()
        + tuple(
            f"{name_numbers(numbers, 'row')} left out of {name}: no value"
            for name, numbers in untrained.items()
        ),
        numbers=tuple(row_of.values()),
    )


class _RowReader:
    """Reads the architectures of one table, from its cells or from the files they name.

    Args:
        path: The table.
        space: Its space; None for that of the files it names.
        columns: Its columns.

    Attributes:
        space: Its space.
        sizes: See :class:`TrainedTable`.
        described: Columns that describe the architectures.
    """

    def __init__(self, path: Path, space: SearchSpace | None, columns: dict[str, Any]) -> None:
        self._folder = path.parent
        self._file_column = file_column(columns, space)
        self._space = space
        self.sizes: dict[str, int] = {}
        if self._file_column is not None:
            self.described = {self._file_column}
            return
        if space is None:
            raise TftasError(f"{path} does not name its space; give one with --space")
        self.described = arch_columns(space)
        missing = missing_fields(columns, space)
        if missing:
            raise InputFileError(
                f"{path}: no column {missing[0]}; an architecture of {space.name} needs"
                f" {', '.join(sorted(required_fields(space)))}, here are {', '.join(columns)}"
            )

    @property
    def space(self) -> SearchSpace:
        """The space of the table; if it was not given, that of the first row that was read."""
        assert self._space is not None
        return self._space

    def read(self, row: Cells) -> Architecture:
        """Read the architecture of a row; see :func:`read_row`."""
        if self._file_column is None:
            return self._inside(read_row(row, self.space))
        name = row.get(self._file_column)
        if is_blank(name):
            raise IncompleteError(f"no {self._file_column}")
        path = find_file(str(name), self._folder)
        if self._space is None:
            self._space = _space_of(path)
        arch, model = read_architecture(path)
        sizes: dict[str, int] = {
            name: model[name] for name in ("img_size", "num_classes") if name in model
        }
        if self.sizes and self.sizes != sizes:
            raise TftasError(f"{path} is for {sizes}, files before it for {self.sizes}")
        self.sizes = sizes
        return self._inside(arch)

    def _inside(self, arch: Architecture) -> Architecture:
        try:
            self.space.encode(arch)
        except TftasError as error:
            raise OutsideError(str(error)) from error
        return arch


def _space_of(path: Path) -> SearchSpace:
    document = read_yaml(path)
    if not isinstance(document, dict) or document.get("search") is None:
        raise TftasError(f"{path} does not name its space; give one with --space")
    return read_section(document["search"], str(path)).conditions.space


def _accuracy_columns(
    columns: Mapping[str, Any], accuracy: Sequence[str] | None, described: set[str], path: Path
) -> tuple[str, ...]:
    others = [name for name in columns if name not in described]
    accuracy = (accuracy,) if isinstance(accuracy, str) else accuracy
    if accuracy is not None:
        unknown = [name for name in accuracy if name not in others]
        if unknown or not accuracy:
            raise TftasError(
                f"accuracy is {', '.join(unknown) or 'nothing'}; {path} has"
                f" {', '.join(others) or 'no other columns'}"
                f"{did_you_mean(next(iter(unknown), ''), others, most=0)}"
            )
        return tuple(dict.fromkeys(accuracy))
    matching = tuple(name for name in others if _ACCURACY.fullmatch(name))
    if not matching:
        raise TftasError(
            f"{path}: no column is called acc, accuracy, top1 or ends so; name one with"
            f" --accuracy, out of {', '.join(others) or 'no other columns'}"
        )
    return matching


def _read_accuracy(name: str, value: Any, path: Path, number: int) -> float | None:
    try:
        return None if is_blank(value) else read_number(name, value)
    except TftasError as error:
        raise InputFileError(f"{path}, row {number}: {error}") from error


def _scores_of(
    rows: Sequence[Cells], described: Collection[str]
) -> Mapping[str, tuple[float | None, ...]]:
    """Find columns of scores from elsewhere: numbers that are neither accuracies nor shapes.

    Args:
        rows: The rows that count.
        described: Columns that have another meaning.

    Returns:
        By column, the score of each row; None where it is missing or not finite. Columns of equal
        numbers are left out: they rank nothing.
    """
    scores = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name in described or name.lower() in _NOT_SCORES or not _NAMED.match(name):
            continue
        # Names are shown in tables on the terminal.
        if not name.isprintable():
            continue
        if _ACCURACY.fullmatch(name) or _TOP.fullmatch(name):
            continue
        cells = [row.get(name) for row in rows]
        try:
            values = tuple(_score(name, cell) for cell in cells)
        except TftasError:
            continue
        if len(set(values) - {None}) > 1:
            scores[name] = values
    return scores


def _score(name: str, cell: Any) -> float | None:
    missing = is_blank(cell) or _INFINITE.fullmatch(str(cell))
    return None if missing else read_number(name, cell)


class _LeftOut:
    """Rows that are left out, by reason."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = {}
        self._first: dict[str, str] = {}

    def add(self, number: int, reason: str, detail: str = "") -> None:
        """Leave a row out; the first detail of each reason is kept."""
        self._rows.setdefault(reason, []).append(number)
        if detail:
            self._first.setdefault(reason, f" (row {number}: {detail})")

    def sentences(self) -> tuple[str, ...]:
        """Return a sentence for each reason."""
        return tuple(
            f"{name_numbers(numbers, 'row')} left out: {reason}{self._first.get(reason, '')}"
            for reason, numbers in self._rows.items()
        )
