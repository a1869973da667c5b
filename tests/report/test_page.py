"""A report is right, whole, and harmless whatever its study is called."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from random_studies import random_study

from tftas_optuna import AutoFormerArchitecture, UnavailableError, pareto_front
from tftas_optuna.report import write_report
from tftas_optuna.report.commands import record_command
from tftas_optuna.report.contents import contents
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import record_accuracy, record_shared

HOSTILE = "<script>alert(1)</script>\"'&</style></title><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """What a browser finds in a page: elements with their attributes, scripts, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or "page"

    def handle_endtag(self, tag: str) -> None:
        self._script = None if tag == "script" else self._script

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.text += data

    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts["figures"])
        return found


def page(study: optuna.Study, folder: Path) -> Page:
    path = folder / "report.html"
    write_report(study, path)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    assert [entry.name for entry in folder.iterdir()] == ["report.html"]
    return Page(text)


def test_three_objectives_with_bounds(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    objectives = ("dss", "n_params", "activations")
    bounds = {"n_params": (None, 120_000.0), "macs": (None, 2e6)}
    study = random_study(small_space, 60, objectives=objectives, bounds=bounds)
    found = page(study, tmp_path)
    front = pareto_front(study)
    assert "n_params ≤ 120.00k, macs ≤ 2.00M" in found.text
    assert f"{len(front)} on the front" in found.text
    assert f"The whole front ({len(front)} members)" in found.text
    figures = found.figures()
    # The front, its growth, choices by objective, importances, architectures, layers.
    assert len(figures) == 8
    holders = {attributes.get("id") for _, attributes in found.elements}
    assert set(figures) <= holders
    assert len(figures["figure-0-0"]["layout"]["shapes"]) == 3
    assert "Nothing of this study was trained yet." in found.text


def test_retrained_members(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    study = random_study(small_space, 12)
    for trial, top1 in ((1, 60.25), (4, 70.5), (5, 50.0), (7, 65.0)):
        study.set_user_attr(f"retrained:{trial}", {"top1": top1})
    found = page(study, tmp_path)
    assert "Kendall's tau over 4 networks: dss_collapsed" in found.text
    accuracy = found.figures()["figure-5-0"]["data"][0]
    assert accuracy["y"] == [60.25, 70.5, 50.0, 65.0]
    assert "70.5" in found.text and "top-1 (%)" in found.text
    assert "importances say nothing of 12 trials; they need 50" in found.text


def test_accuracies_of_other_trainings_are_named_and_not_shown(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    study = random_study(small_space, 12)
    for trial in (1, 4):
        record_accuracy(study, trial, {"top1": 90.25, "epochs": 5})
    short = record_accuracy(study, 7, {"top1": 33.125, "epochs": 2})
    found = page(study, tmp_path)
    assert f"Others, under other conditions, are not shown: {short} (1 trial)." in found.text
    assert "90.25" in found.text and "33.12" not in found.text
    write_report(study, tmp_path / "report.html", trained=short)
    text = Page((tmp_path / "report.html").read_text()).text
    assert "33.12" in text and "90.25" not in text and f"--trained {short}" in text


def test_shared_accuracies_stand_beside_those_of_trainings(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    study = random_study(small_space, 12)
    tops = {1: 40.125, 4: 41.125, 5: 42.125, 7: 43.125}
    key = record_shared(study, {n: {"top1": top1} for n, top1 in tops.items()}, {"epochs": 3})
    alone = page(study, tmp_path)
    assert "41.12" in alone.text and "top-1 (%)" in alone.text
    assert f"Shared accuracies are those of trainings {key}: one supernet of 4" in alone.text
    record_accuracy(study, 4, {"top1": 90.25})
    found = page(study, tmp_path)
    assert "90.25" in found.text and "41.12" in found.text
    heads = [text for text in ("top-1 (%)", "shared top-1 (%)") if text in found.text]
    assert len(heads) == 2
    own, shared = (found.figures()[f"figure-5-{i}"]["data"][0]["y"] for i in (0, 1))
    assert own == [90.25] and shared == list(tops.values())


def test_an_empty_study(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    found = page(random_study(small_space, 0), tmp_path)
    assert "No trial has finished yet." in found.text and found.figures() == {}
    assert "tftas-optuna report" in found.text


def test_a_study_with_nothing_within_its_bounds(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    study = random_study(small_space, 5, bounds={"n_params": (None, 10.0)})
    found = page(study, tmp_path)
    assert "No trial is within the bounds yet." in found.text
    assert "figure-0-0" in found.figures()


def test_a_hostile_name_is_text(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    study = random_study(small_space, 8, name=HOSTILE)
    study.set_user_attr("versions", {HOSTILE: HOSTILE})
    found = page(study, tmp_path)
    assert HOSTILE in found.text
    assert "alert" not in "".join(found.scripts.values())
    tags = [tag for tag, _ in found.elements]
    assert "img" not in tags and tags.count("script") == 3 and tags.count("style") == 1
    assert not any(name.startswith("on") for _, attrs in found.elements for name in attrs)


def test_a_hostile_space_is_text(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    space = dataclasses.replace(small_space, name="</script><b>x</b>")
    found = page(random_study(space, 8), tmp_path)
    assert "</script><b>x</b>" in found.text
    assert "b" not in [tag for tag, _ in found.elements]


def test_what_a_family_says_of_itself_is_text_in_figures_too(
    small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoFormerArchitecture, "summary", lambda _: "</script><b>x</b>")
    found = page(random_study(small_space, 8), tmp_path)
    assert "b" not in [tag for tag, _ in found.elements]
    titles = [a["text"] for a in found.figures()["figure-3-0"]["layout"]["annotations"]]
    # Plotly reads <b> as bold, and this as text.
    assert titles[0].endswith("&lt;/script&gt;&lt;b&gt;x&lt;/b&gt;")


def test_only_its_own_scripts_may_run_and_nothing_is_fetched(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    from plotly.offline import get_plotlyjs

    found = page(random_study(small_space, 8), tmp_path)
    policies = [a["content"] or "" for t, a in found.elements if a.get("http-equiv")]
    plotly = gzip.decompress(base64.b64decode(found.scripts["plotly"])).decode()
    assert plotly == get_plotlyjs()
    assert policies[0].startswith("default-src 'none'; ")
    allowed = re.findall(r"'(sha256-[^']+)'", policies[0])
    digests = [hashlib.sha256(text.encode()).digest() for text in (found.scripts["page"], plotly)]
    assert allowed == [f"sha256-{base64.b64encode(digest).decode()}" for digest in digests]
    for _, attributes in found.elements:
        assert not {"src", "href", "action", "srcset"} & set(attributes)


def test_the_same_study_gives_the_same_file(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    study = random_study(small_space, 8)
    write_report(study, tmp_path / "a.html")
    write_report(study, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_password_stays_out(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 3)
    storage = "postgresql://me:secret@host/db"
    record_command(study, ["run", f"--storage={storage}", "--seed", "3"], storage)
    found = contents(study, storage=storage)
    assert found.commands[0].line.endswith("@host/db' --seed 3")
    lines = " ".join(command.line for command in found.commands)
    assert "secret" not in lines and "postgresql://me:***@host/db" in lines


def test_the_space_is_printed(small_space: AutoFormerSpace) -> None:
    assert "embed_dim: [32, 48, 64]" in contents(random_study(small_space, 2)).space


def test_the_command_that_began_a_search_is_the_one_that_is_shown(
    small_space: AutoFormerSpace,
) -> None:
    study = random_study(small_space, 2)
    for seed in "12":
        record_command(study, ["run", "--start", "a b", "--seed", seed], "sqlite:///tftas.db")
    assert contents(study).commands[0].line == "tftas-optuna run --start 'a b' --seed 1"


def test_a_search_that_was_not_begun_on_the_command_line(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    study = random_study(small_space, 2)
    study.set_user_attr("options", {"dss": {"head_weight": 0.5}})
    found = page(study, tmp_path)
    assert "the search" not in [command.purpose for command in contents(study).commands]
    assert "Layers: the study has options of dss that are not the usual ones" in found.text


def test_progress_ends_with_all_sections(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_report(
        random_study(small_space, 5),
        tmp_path / "report.html",
        callback=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 6) for done in range(7)]


def test_a_directory_that_is_not_there(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no file in a directory that exists"):
        write_report(random_study(small_space, 0), tmp_path / "none" / "report.html")


def test_a_report_replaces_another_and_nothing_else(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    study = random_study(small_space, 2)
    for _ in range(2):
        write_report(study, path)
    path.write_text("<title>somebody's</title>")
    with pytest.raises(UnavailableError, match=r"report.html is in the way"):
        write_report(study, path)
    assert path.read_text() == "<title>somebody's</title>"
