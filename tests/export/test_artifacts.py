"""Files and drawings of trials, as optuna-dashboard finds them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import optuna
import optuna_dashboard
import pytest
import yaml
from optuna.artifacts import FileSystemArtifactStore
from random_studies import random_study

from tftas_optuna import Architecture, UnavailableError, pareto_front
from tftas_optuna.export.artifacts import keep_artifacts
from tftas_optuna.export.picture import as_svg
from tftas_optuna.spaces import AutoFormerSpace, get_space
from tftas_optuna.study.front import Candidate

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "../<script>alert(1)</script>"


@pytest.fixture(params=["sqlite:///study.db", "journal:///study.log"])
def study(
    request: pytest.FixtureRequest,
    small_space: AutoFormerSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> optuna.Study:
    from tftas_optuna.storage import open_storage

    monkeypatch.chdir(tmp_path)
    Path("store").mkdir()
    opened = open_storage(request.param, create=True)
    return random_study(small_space, 12, name=HOSTILE, storage=opened)  # type: ignore[arg-type]


def get(study: optuna.Study, path: str) -> tuple[str, dict[str, str], bytes]:
    """Ask a dashboard with the store in ``store``."""
    told: list[Any] = []
    app = optuna_dashboard.wsgi(study._storage, FileSystemArtifactStore(Path("store")))
    environment = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "after=0",
        "SERVER_NAME": "here",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
    }
    body = b"".join(app(environment, lambda *answer: told.append(answer)))
    return told[0][0], dict(told[0][1]), body


def artifacts(study: optuna.Study) -> dict[int, list[dict[str, Any]]]:
    detail = json.loads(get(study, f"/api/studies/{study._study_id}")[2])
    return {trial["number"]: trial["artifacts"] for trial in detail["trials"]}


def test_a_member_has_its_document_and_its_drawing(study: optuna.Study) -> None:
    front = pareto_front(study)
    assert keep_artifacts(study, front, Path("store")) == 2 * len(front)
    found = artifacts(study)
    assert {number for number, kept in found.items() if kept} == {c.trial for c in front}
    for candidate in front:
        document, drawing = found[candidate.trial]
        assert document["filename"] == f"trial{candidate.trial:05d}.yaml"
        assert drawing["filename"] == f"trial{candidate.trial:05d}.svg"
        trial_id = study.trials[candidate.trial]._trial_id
        at = f"/artifacts/{study._study_id}/{trial_id}"
        status, head, body = get(study, f"{at}/{document['artifact_id']}")
        assert status.startswith("200") and head["Content-Type"] == "text/plain"
        assert Architecture.from_dict(yaml.safe_load(body)) == candidate.architecture
        status, head, body = get(study, f"{at}/{drawing['artifact_id']}")
        assert status.startswith("200") and head["Content-Type"] == "image/svg+xml"
        assert ElementTree.fromstring(body).tag == f"{SVG}svg"


def test_a_second_time_nothing_is_written(study: optuna.Study) -> None:
    front = pareto_front(study)
    keep_artifacts(study, front, Path("store"))
    before = artifacts(study), sorted(Path("store").iterdir())
    assert keep_artifacts(study, front, Path("store")) == 0
    assert (artifacts(study), sorted(Path("store").iterdir())) == before


def test_another_store_gets_the_files_of_what_is_told_already(study: optuna.Study) -> None:
    front = pareto_front(study)[:1]
    keep_artifacts(study, front, Path("store"))
    before = artifacts(study)
    Path("other").mkdir()
    assert keep_artifacts(study, front, Path("other")) == 2
    assert artifacts(study) == before


def test_what_was_deleted_in_the_dashboard_stays_so(study: optuna.Study) -> None:
    front = pareto_front(study)[:1]
    keep_artifacts(study, front, Path("store"))
    artifact = artifacts(study)[front[0].trial][0]["artifact_id"]
    names = study._storage.get_study_system_attrs(study._study_id)
    (deleted,) = [name for name in names if name.endswith(artifact)]
    study._storage.set_study_system_attr(study._study_id, deleted, "null")
    Path("store", artifact).unlink()
    assert keep_artifacts(study, front, Path("store")) == 0
    (left,) = artifacts(study)[front[0].trial]
    assert left["filename"].endswith(".svg") and len(list(Path("store").iterdir())) == 1


def test_a_store_that_cannot_be_one_is_refused(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = pareto_front(study)
    Path("file").touch()
    for place, why in (("none", "does not exist"), ("file", "is no directory")):
        with pytest.raises(UnavailableError, match=f"{place} {why}; give a directory"):
            keep_artifacts(study, front, Path(place))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UnavailableError, match="store is not writable"):
        keep_artifacts(study, front, Path("store"))
    assert not any(artifacts(study).values())


def drawn(candidate: Candidate) -> tuple[list[float], list[str]]:
    """Return the heights of the bars, and what is written."""
    root = ElementTree.fromstring(str(as_svg(candidate)))
    heights = [float(bar.attrib["height"]) for bar in root.iter(f"{SVG}rect")][1:]
    return heights, [text.text or "" for text in root.iter(f"{SVG}text")]


def test_bars_are_as_high_as_blocks_are_wide(small_space: AutoFormerSpace) -> None:
    arch = small_space.largest()
    heights, told = drawn(Candidate(7, arch, {}))
    assert len(heights) == 2 * arch.depth
    for hidden, attention, up, down in zip(
        arch.hidden_dim, arch.inner_dim, heights[::2], heights[1::2], strict=True
    ):
        assert up / down == pytest.approx(hidden / attention, rel=0.01)
    assert told[0] == f"trial 7: {arch.summary()}"
    assert told[3::2] == [str(heads) for heads in arch.num_heads]


def test_stages_are_drawn_block_by_block() -> None:
    arch = get_space("pit-xs").smallest()
    assert len(drawn(Candidate(0, arch, {}))[0]) == 2 * sum(arch.depth)  # type: ignore[attr-defined]


def test_what_a_drawing_cannot_tell_is_left_out(small_space: AutoFormerSpace) -> None:
    class Untold:
        def summary(self) -> str:
            return HOSTILE

    assert as_svg(Candidate(0, Untold(), {})) is None  # type: ignore[arg-type]
    arch = small_space.smallest()
    untrusted = type("Named", (type(arch),), {"summary": lambda self: HOSTILE})
    named = untrusted(arch.embed_dim, arch.num_heads, arch.mlp_ratio)
    assert drawn(Candidate(0, named, {}))[1][0] == f"trial 0: {HOSTILE}"
