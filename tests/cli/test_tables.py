"""How tables are laid out: complete in a pipe, and in a terminal no wider than it is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import yaml
from conftest_cli import SEARCH, Run

from tftas_optuna.cli import _tables
from tftas_optuna.cli._tables import Column, fitted, print_table, shortened
from tftas_optuna.retrain.folder import RunFolder
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.front import Candidate

WIDTHS = (40, 60, 80, 120)
OTHER = "another-search-of-the-small-space-with-a-long-name-17"
# What each command prints, and the texts that show which rows are which.
COMMANDS = {
    "spaces": (("spaces",), ("autoformer-tiny", "pit-small")),
    "studies": (("studies",), ("small", "anot", "-17")),
    "front": (("front", "--study-name", "small"), ("trial", "DSS")),
    "fronts": (("front", "--study-name", "small", "--study-name", OTHER), ("small", "-17")),
    "score": (("score", "front/*.yaml"), ("front/sm", "00.yaml", "DSS")),
    "explain": (("score", "front/*.yaml", "--explain"), ("blocks.0.attn.qkv", "adds")),
    "correlate": (
        ("correlate", "acc.csv", "--space", "small.yaml", "--indicators", "dss"),
        ("n_params", "tau in bands"),
    ),
    "run": ((*SEARCH, "--n-trials", "1"), ("trial", "DSS")),
}


@pytest.fixture(scope="module")
def studied(
    tftas: Run, tmp_path_factory: pytest.TempPathFactory, small_space: AutoFormerSpace
) -> Path:
    folder = tmp_path_factory.mktemp("studied")
    (folder / "small.yaml").write_text(yaml.safe_dump(small_space.to_dict()))
    for extra in ((), ("--study-name", OTHER)):
        done = tftas(folder, *SEARCH, "--n-trials", "16", *extra)
        assert done.returncode == 0, done.stderr
    assert not tftas(folder, "export", "--study-name", "small").returncode
    rows = list(
        csv.DictReader(
            io.StringIO(tftas(folder, "front", "--study-name", "small", "-f", "csv").stdout)
        )
    )
    with (folder / "acc.csv").open("w") as file:
        writer = csv.DictWriter(file, [*rows[0], "acc"])
        writer.writeheader()
        writer.writerows({**row, "acc": 50 + i % 3} for i, row in enumerate(rows))
    return folder


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(tuple("┏┃┡│├└"))]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_row_is_wider_than_the_terminal_or_wrapped(
    name: str, width: int, studied: Path, tftas: Run
) -> None:
    words, expected = COMMANDS[name]
    files = sorted(str(path.relative_to(studied)) for path in studied.glob("front/*.yaml"))[:3]
    words = tuple(w for word in words for w in (files if "*" in word else [word]))
    done = tftas(studied, *words, COLUMNS=str(width))
    assert done.returncode == 0, done.stderr
    lines = table_lines(done.stdout)
    assert lines and max(map(len, lines)) <= width
    for text in expected:
        assert any(text in line for line in lines), done.stdout
    # A row that goes on in the next line has empty cells there; a lost column has no width.
    for line in lines:
        cells = line.strip("┃│").replace("┃", "│").split("│")
        assert all(len(cell) > 2 for cell in cells)
        assert cells[0].strip()


def test_what_is_left_out_is_named_in_one_sentence(studied: Path, tftas: Run) -> None:
    done = tftas(studied, "studies", COLUMNS="60")
    told = " ".join(done.stdout.split("┘\n")[1].split())
    assert told == "Left out: space, begun, how made. A wider terminal or -f csv shows them."
    assert "Left out" not in tftas(studied, "studies", COLUMNS="200").stdout


def test_a_table_in_a_pipe_is_complete(studied: Path, tftas: Run) -> None:
    told = tftas(studied, "studies").stdout
    assert f"│ {OTHER} │ small │ dss, n_params │" in told and "Left out" not in told
    assert "screened-nsgaii, seed 0, collapsed" in told


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("autoformer-tiny", 15, "autoformer-tiny"),
        ("autoformer-tiny", 11, "autof…-tiny"),
        ("autoformer-tiny", 4, "au…y"),
        ("日本語の名前", 8, "日本… 前"),
        ("abc", 1, "…"),
    ],
)
def test_names_lose_their_middle(text: str, width: int, short: str) -> None:
    assert shortened(text, width) == short


def test_columns_are_left_out_by_rank_and_names_stay_distinct() -> None:
    names = [f"the-end-{i}-of-a-name-that-is-much-longer" for i in range(3)]
    columns = [
        Column("loss", ["1"] * 3, 2),
        Column("name", names, 0, "name"),
        Column("score", ["2.25 ± 0.01"] * 3, 1, brief=["2.25"] * 3),
    ]
    kept, left_out = fitted(columns, 40)
    assert [column.heading for column in kept] == ["name", "score"]
    assert left_out == ["loss"] and kept[1].cells == columns[2].cells
    assert len(set(kept[0].cells)) == 3 and names != kept[0].cells
    kept, left_out = fitted(columns, 30)
    assert kept[1].cells == ["2.25"] * 3 and left_out == ["loss", "details of score"]
    assert fitted(columns, 1_000) == (columns, [])


def test_lines_of_a_name_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Studies", [Column("study", ["two\nlines [bold]"], 0, "name")])
    assert "│ two lines [bold] │" in capsys.readouterr().out


def test_indicators_come_first_then_counts_then_what_is_measured(
    small_space: AutoFormerSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"latency": 1.5, "macs": 2e6, "dss": 12_345.6, "n_params": 36_400}
    one = Candidate(7, small_space.smallest(), values)
    columns = _tables.candidate_columns([one])
    assert [column.heading for column in columns] == [
        "trial",
        "DSS",
        "MACs",
        "params",
        "latency (ms)",
        "width x depth, block means",
    ]
    print_table("Front", columns)
    told = capsys.readouterr().out
    for text in ("Front", "12,346", "2.00M", "36.40k", small_space.smallest().summary()):
        assert text in told


def test_an_approximation_is_left_out_where_all_is_known_exactly(
    small_space: AutoFormerSpace,
) -> None:
    def headings(*exact: dict[str, float]) -> list[str]:
        candidates = [
            Candidate(0, small_space.smallest(), {"dss": 1.0}, e, "collapsed", ("dss",))
            for e in exact
        ]
        return [column.heading for column in fitted(_tables.candidate_columns(candidates), 30)[0]]

    assert headings({"dss": 2.0}, {"dss": 2.0}) == ["trial", "exact DSS"]
    assert headings({"dss": 2.0}, {}) == ["trial", "collapsed DSS"]


def test_accuracies_stand_in_a_column_where_there_are_any(small_space: AutoFormerSpace) -> None:
    arch, values = small_space.smallest(), {"dss": 1.0, "n_params": 5, "macs": 6}
    both = [Candidate(0, arch, values), Candidate(1, arch, values, top1=12.5)]
    rows = _tables.candidate_rows(both)
    assert [row["top1"] for row in rows] == [None, 12.5]
    assert "top1" not in _tables.candidate_rows(both[:1])[0]
    cells = {column.heading: column.cells for column in _tables.candidate_columns(both)}
    assert cells["top-1 %"] == ["-", "12.50"]
    assert "top-1 %" not in {c.heading for c in _tables.candidate_columns(both[:1])}


def test_results_of_trainings_are_told_apart() -> None:
    row = {"out": "trained/x", "top1": 71.234, "top5": None, "loss": 1.23456}
    rows = [{**row, "n_params": 5_867_944, "seconds": 3725}]
    cells = {column.heading: column.cells[0] for column in _tables.training_columns(rows, 10)}
    assert cells == {
        "directory": "trained/x",
        "top-1 %": "71.23",
        "top-5 %": "-",
        "loss": "1.2346",
        "params": "5.87M",
        "time": "3,725 s",
    }
    # Five guesses among five classes are always right.
    assert "top-5 %" not in {column.heading for column in _tables.training_columns(rows, 5)}


def test_a_loss_that_is_not_finite_is_kept_and_shown(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    result = {"epoch": 1, "loss": float("nan"), "top1": 12.5, "top5": 50.0, "seconds": 3.0}
    folder.write_result({**result, "n_params": 1, "out": "x"})
    kept = folder.result()
    assert kept is not None and kept["loss"] is None
    cells = {column.heading: column.cells for column in _tables.training_columns([kept], 10)}
    assert cells["loss"] == ["-"]
