from __future__ import annotations

from pathlib import Path

import pytest

from tftas_optuna._writing import replacing


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
