from __future__ import annotations

import math
from pathlib import Path

import pytest

from tftas_optuna._writing import check_ours, json_text, replacing
from tftas_optuna.errors import UnavailableError


def test_what_is_cut_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "front.html"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as scratch:
        scratch.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["front.html"]


def test_what_is_whole_takes_the_place_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "front.html"
    path.write_text("old")
    with replacing(path) as scratch:
        scratch.write_text("new")
        assert path.read_text() == "old" and scratch.suffix == ".html"
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["front.html"]


@pytest.mark.parametrize("kind", ["text", "directory", "link", "dangling"])
def test_what_somebody_else_wrote_is_in_the_way(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "front.html", tmp_path / "other.html"
    other.write_text("theirs" * 10_000)
    if kind == "directory":
        path.mkdir()
    elif kind == "text":
        other.rename(path)
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "none")
    with pytest.raises(UnavailableError, match=r"front.html is in the way: tftas-optuna has not"):
        check_ours(path, b"a mark")


@pytest.mark.parametrize("text", ["", "a mark" + "x" * 10_000, "x" * 10_000 + "a mark", "a mark"])
def test_what_is_ours_may_be_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "front.html"
    check_ours(path, b"a mark")
    path.write_text(text)
    check_ours(path, b"a mark")


def test_json_has_null_for_what_is_not_finite() -> None:
    data = {"scores": [math.inf, -math.inf, math.nan, 1.5, 2], "name": ("Infinity", None, True)}
    text = json_text(data)
    assert text == '{"scores": [null, null, null, 1.5, 2], "name": ["Infinity", null, true]}'
