"""Scores that were kept are not computed again, and those of a damaged file are."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from tables import draw

from tftas_optuna import AutoFormerSpace, UnavailableError
from tftas_optuna.correlate import cache as cache_module
from tftas_optuna.correlate.cache import ScoreCache, cache_name, identity

GROUND = {"indicator": "dss", "seed": 0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a score and a time."""
    path = tmp_path / "t.csv.scores.json"
    cache = ScoreCache(path)
    cache.scores(GROUND)["a"] = [0.1]
    cache.seconds(GROUND)["cpu"] = 2.0
    cache.changed()
    cache.save()
    return path


def test_scores_are_known_by_all_that_they_depend_on(path: Path) -> None:
    cache = ScoreCache(path)
    assert cache.scores(dict(reversed(GROUND.items()))) == {"a": [0.1]}
    assert cache.seconds(GROUND) == {"cpu": 2.0}
    assert cache.scores({**GROUND, "seed": 1}) == {}


def test_work_of_more_than_seconds_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ScoreCache(path)
    cache.scores(GROUND)["b"] = [0.2]
    cache.changed()
    assert ScoreCache(path).scores(GROUND) == {"a": [0.1]}
    monkeypatch.setattr(cache_module, "_EVERY", 0.0)
    cache.changed()
    assert ScoreCache(path).scores(GROUND) == {"a": [0.1], "b": [0.2]}
    assert os.listdir(path.parent) == [path.name]


def test_two_runs_on_one_file_keep_the_work_of_both(path: Path) -> None:
    one, two = ScoreCache(path), ScoreCache(path)
    one.scores(GROUND)["b"] = [0.2]
    one.scores({"indicator": "snip"})["a"] = [0.3]
    two.scores(GROUND)["c"] = [0.4]
    for cache in (one, two):
        cache.changed()
        cache.save()
    assert ScoreCache(path).scores(GROUND) == {"a": [0.1], "b": [0.2], "c": [0.4]}
    assert ScoreCache(path).scores({"indicator": "snip"}) == {"a": [0.3]}


def test_scores_that_are_not_finite_are_null_in_json(path: Path) -> None:
    cache = ScoreCache(path)
    cache.scores(GROUND)["b"] = [0.2, math.nan]
    cache.changed()
    cache.save()
    kept = json.loads(path.read_text(), parse_constant=pytest.fail)["scores"][0]["scores"]
    assert kept == {"a": [0.1], "b": [0.2, None]}
    first, second = ScoreCache(path).scores(GROUND)["b"]
    assert first == 0.2 and math.isnan(second)
    # As earlier releases wrote it.
    path.write_text(path.read_text().replace("null", "NaN"))
    assert math.isnan(ScoreCache(path).scores(GROUND)["b"][1])


@pytest.mark.parametrize("damage", ["cut off", "empty", "changed", "no number"])
def test_what_is_damaged_is_told_and_not_trusted(
    damage: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = path.read_text()
    if damage == "cut off":
        text = text[: len(text) // 2]
    elif damage == "empty":
        text = ""
    elif damage == "changed":
        text = text.replace("0.1", "0.2")
    else:
        entry = [{"ground": GROUND, "scores": {"a": ["0.1"]}, "seconds": {}}]
        document = {**json.loads(text), "scores": entry}
        document["checksum"] = cache_module._checksum(entry)
        text = json.dumps(document)
    path.write_text(text)
    cache = ScoreCache(path)
    assert cache.scores(GROUND) == {}
    cache.scores(GROUND)["c"] = [1.0]
    cache.changed()
    cache.save()
    assert caplog.messages == [f"{path} is damaged: all scores are computed again"]
    assert ScoreCache(path).scores(GROUND) == {"c": [1.0]}


@pytest.mark.parametrize("text", ["[1, 2]", '{"format": "other"}', "a,b\n1,2\n", b"\xff\x80"])
def test_what_is_something_else_is_left_alone(text: str | bytes, path: Path) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UnavailableError, match="in the way: no scores of tftas-optuna"):
        ScoreCache(path)


def test_a_file_of_a_later_release_is_left_alone(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(UnavailableError, match="later release; upgrade"):
        ScoreCache(path)


def test_where_nothing_can_be_written_scores_are_kept_in_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    cache = ScoreCache(path)
    assert "scores are not kept for the next time" in caplog.text
    cache.scores(GROUND)["b"] = [0.2]
    cache.changed()
    cache.save()
    assert cache.scores(GROUND) == {"a": [0.1], "b": [0.2]}
    assert ScoreCache(path).scores(GROUND) == {"a": [0.1]}


def test_names_and_identities(small_space: AutoFormerSpace) -> None:
    archs = draw(small_space, 20)
    assert len({identity(arch) for arch in archs}) == 20
    assert cache_name("a study/of ../mine") == "a_study_of_.._mine.scores.json"
