"""Every broken table is refused in one clear line that says where and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tables import draw, table_rows, write_csv

from tftas_optuna import AutoFormerSpace, TftasError, UnavailableError
from tftas_optuna.correlate.table import read_table

HEADER = "embed_dim,num_heads,mlp_ratio,acc\n"
GOOD = "32,1 2,2 2,50\n"

BROKEN = {
    "empty": ("t.csv", "", "t.csv: no rows; write one for each architecture"),
    "header alone": ("t.csv", HEADER, "t.csv: no rows"),
    "no list of rows": ("t.json", '{"acc": 1}', "holds {'acc': 1}, expected a list of objects"),
    "no object": ("t.json", '[{"acc": 1}, 7]', "t.json, row 2: is 7, expected an object"),
    "cut off": ("t.json", '[{"acc": 1},\n {"acc', "t.json, line 2: no JSON (Unterminated"),
    "nested": ("t.json", "[" * 99_999, "t.json: no JSON (nested too deeply)"),
    "no text": ("t.csv", b"\x80\x81\xff", "t.csv: not a text file"),
    "other file": ("t.xlsx", "", "t.xlsx: tables are .csv and .json files"),
    "no field": (
        "t.csv",
        "embed_dim,heads,acc\n32,1 2,50\n",
        "t.csv: no column mlp_ratio; an architecture of small needs embed_dim, mlp_ratio,"
        " num_heads, here are embed_dim, heads, acc",
    ),
    "other family": ("t.csv", "base_dim,depth,acc\n16,1,5\n", "t.csv: no column embed_dim"),
    "no accuracy": (
        "t.csv",
        HEADER.replace("acc", "score") + GOOD,
        "t.csv: no column is called acc, accuracy, top1 or ends so; name one with --accuracy, out"
        " of score",
    ),
    "two columns": ("t.csv", HEADER.replace("acc", "embed_dim") + GOOD, "two columns are called"),
    "bare list": (
        "t.csv",
        HEADER + GOOD + "32,[1, 2],[2, 2],50\n",
        't.csv, row 2: 6 cells under 4 column names; put lists into quotes, "[3, 4]", or',
    ),
    "accuracy": ("t.csv", HEADER + "32,1 2,2 2,high\n", "row 1: acc is 'high', expected a number"),
    "infinite": ("t.csv", HEADER + "32,1 2,2 2,inf\n", "row 1: acc is 'inf', expected a finite"),
    "list": (
        "t.csv",
        HEADER + "32,1 x 2,2 2,50\n",
        "row 1: num_heads is '1 x 2', expected numbers such as [3, 4] or 3 4",
    ),
    "width": ("t.csv", HEADER + GOOD + "wide,1 2,2 2,5\n", "row 2: embed_dim is 'wide', allowed"),
    "lengths": ("t.csv", HEADER + "32,1 2 3,2 2,50\n", "row 1: num_heads has 3 blocks and"),
    "depth": (
        "t.json",
        '[{"arch": {"embed_dim": 32, "num_heads": [1], "mlp_ratio": [2], "depth": 2}, "acc": 1}]',
        "row 1: depth is 2 but num_heads lists 1 blocks",
    ),
    "unknown field": (
        "t.json",
        '[{"arch": {"embed_dim": 32, "num_heads": [1], "mlp_ratio": [2], "dim": 2}, "acc": 1}]',
        "row 1: unknown key 'dim' in an autoformer architecture",
    ),
    "nothing in the space": (
        "t.csv",
        HEADER + "32,1 9,2 2,50\n33,1 2,2 2,50\n",
        "t.csv: no row is left: rows 1-2 left out: not in space small (row 1: a block with 9",
    ),
    "no file": ("t.csv", "file,acc\nnone.yaml,1\n", "row 1: there is no file 'none.yaml' in"),
}


@pytest.mark.parametrize(("name", "text", "line"), BROKEN.values(), ids=BROKEN)
def test_a_broken_table(
    name: str, text: str | bytes, line: str, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TftasError, match=re.escape(line)) as error:
        read_table(path, small_space, None)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_no_table_at_all(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="none.csv: cannot be read"):
        read_table(tmp_path / "none.csv", small_space, None)
    with pytest.raises(UnavailableError, match="needs one CSV file .* it has none"):
        read_table(tmp_path, small_space, None)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    with pytest.raises(UnavailableError, match="it has a.csv, b.csv; name the file"):
        read_table(tmp_path, small_space, None)


def test_a_table_without_a_space_or_a_column(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", table_rows(draw(small_space, 5)))
    with pytest.raises(TftasError, match="does not name its space; give one with --space"):
        read_table(path, None, None)
    with pytest.raises(TftasError, match="accuracy is acc, top; .* has trial, top1"):
        read_table(path, small_space, ["acc", "top1", "top"])


def test_a_file_that_is_named_and_is_no_architecture(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text("family: none")
    path = tmp_path / "t.csv"
    path.write_text("file,acc\nnet,1\n")
    with pytest.raises(TftasError, match="row 1: .*net.yaml does not name its space"):
        read_table(path, None, None)
