from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path

import optuna
import pytest
import timm
import torch
import yaml

import tftas_optuna.models  # noqa: F401  (tells timm of the networks)
from tftas_optuna import (
    Architecture,
    Scorer,
    TftasError,
    export_front,
    get_space,
    pareto_front,
    score_exactly,
    search,
)
from tftas_optuna.devices import one_thread
from tftas_optuna.export import export_candidates
from tftas_optuna.spaces import AutoFormerSpace, space_from_dict


@pytest.fixture(scope="module")
def study(small_space: AutoFormerSpace) -> optuna.Study:
    return search(small_space, n_trials=16, population_size=8, img_size=32, num_classes=10, seed=2)


def test_the_document_is_complete(
    study: optuna.Study, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    front = pareto_front(study)
    paths = export_front(study, tmp_path / "made" / "here")
    assert len(paths) == 2 * len(front) == len(list((tmp_path / "made" / "here").iterdir()))
    for candidate, path in zip(front, paths[::2], strict=True):
        assert path.name == f"small-trial{candidate.trial:05d}.yaml"
        document = yaml.safe_load(path.read_text())
        assert document == json.loads(path.with_suffix(".json").read_text())
        assert document["format"] == "tftas-optuna/architecture"
        assert document["format_version"] == 1
        assert document["study"] == {"name": "small", "trial": candidate.trial}
        arch = Architecture.from_dict(document)
        assert arch == candidate.architecture
        scorer = Scorer(
            space_from_dict(document["search"]["space"]),
            seed=document["search"]["seed"],
            img_size=document["model"]["img_size"],
            num_classes=document["model"]["num_classes"],
        )
        with one_thread(scorer.device):  # as a search does; sums have an order
            assert scorer(arch) == document["scores"]["dss"] == candidate.exact["dss"]
        assert document["scores"]["dss_collapsed"] == candidate.values["dss"]
        assert document["scores"]["n_params"] == candidate.n_params


def test_a_score_that_is_not_finite_is_null_in_json(study: optuna.Study, tmp_path: Path) -> None:
    candidate = pareto_front(study)[0]
    candidate = dataclasses.replace(candidate, values={**candidate.values, "mine": math.inf})
    (path,) = export_candidates(study, [candidate], tmp_path, formats=["json"])
    document = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert document["scores"]["mine"] is None


def test_a_link_that_leads_nowhere_is_not_replaced(study: optuna.Study, tmp_path: Path) -> None:
    candidate = pareto_front(study)[0]
    link = tmp_path / f"small-trial{candidate.trial:05d}.json"
    link.symlink_to(tmp_path / "none")
    with pytest.raises(TftasError, match="in the way; use --force"):
        export_candidates(study, [candidate], tmp_path, formats=["json"])
    assert link.is_symlink()


def test_the_document_says_all_that_was_asked_for(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    grey = dataclasses.replace(small_space, name="grey", in_chans=1)
    study = search(grey, n_trials=2, population_size=2, img_size=32, num_classes=10)
    found = pareto_front(study)[0]
    candidate = dataclasses.replace(found, values={**found.values, "activations": 5.0})
    (path,) = export_candidates(study, [candidate], tmp_path, formats=["yaml"])
    document = yaml.safe_load(path.read_text())
    sizes = {"img_size": 32, "num_classes": 10, "in_chans": 1}
    assert document["model"] == {"name": "tftas_autoformer", **sizes}
    assert document["scores"]["activations"] == 5.0
    assert document["scores"]["macs"] == candidate.architecture.costs(**sizes).macs
    model = timm.create_model("tftas_autoformer", arch=path)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_the_training_configuration(tmp_path: Path) -> None:
    space = AutoFormerSpace.from_dict(
        {
            "name": "usual",
            "family": "autoformer",
            "embed_dim": [32, 48, 64],
            "depth": [1, 2],
            "num_heads": [1, 2],
            "mlp_ratio": [2, 4],
        }
    )
    study = search(space, n_trials=4, population_size=4, img_size=32)
    candidate = pareto_front(study)[0]
    (path,) = export_candidates(study, [candidate], tmp_path, formats=["retrain"])
    config = yaml.safe_load(path.read_text())
    assert config["SUPERNET"] == {"MLP_RATIO": 4.0, "NUM_HEADS": 2, "EMBED_DIM": 64, "DEPTH": 2}
    arch = candidate.architecture
    assert config["RETRAIN"] == {
        "MLP_RATIO": list(arch.mlp_ratio),
        "NUM_HEADS": list(arch.num_heads),
        "DEPTH": arch.depth,
        "EMBED_DIM": arch.embed_dim,
    }
    assert config["SEARCH_SPACE"]["EMBED_DIM"] == [32, 48, 64]
    assert Architecture.from_dict(config) == arch


def test_a_training_configuration_that_would_mean_another_network_is_refused(
    study: optuna.Study, tmp_path: Path
) -> None:
    with pytest.raises(TftasError, match="has no head_dim: 16 would become 64"):
        export_front(study, tmp_path, formats=["yaml", "retrain"])
    assert list(tmp_path.iterdir()) == []


def test_the_training_configuration_of_a_pit(tmp_path: Path) -> None:
    space = dataclasses.replace(get_space("pit-tiny"), img_size=32)
    study = search(space, n_trials=2, population_size=2, num_classes=10)
    front = pareto_front(study)
    paths = export_front(study, tmp_path)
    assert len(paths) == 3 * len(front)
    config = yaml.safe_load(paths[2].read_text())
    assert config["SEARCH_SPACE"]["DEPTH"] == ["1,2,3", "4,6,8", "2,4,6"]
    assert config["RETRAIN"]["BASE_DIM"] == [front[0].architecture.base_dim] * 3
    assert Architecture.from_dict(config) == front[0].architecture


def test_nothing_is_overwritten_and_nothing_half_written(
    study: optuna.Study, tmp_path: Path
) -> None:
    front = pareto_front(study)
    mine = tmp_path / f"small-trial{front[-1].trial:05d}.yaml"
    mine.write_text("mine")
    with pytest.raises(TftasError, match=f"{mine.name} in the way; use --force"):
        export_front(study, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert mine.read_text() == "mine"
    export_front(study, tmp_path, force=True)
    assert mine.read_text() != "mine"
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    export_front(study, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times


def test_a_score_that_is_approximate_says_so_and_how_far_off_it_may_be(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    study = search(
        small_space, n_trials=16, population_size=8, img_size=32, num_classes=10, n_exact=4
    )
    front = pareto_front(study)
    offsets = [c.values["dss"] / c.exact["dss"] - 1 for c in front if c.exact]
    expected = {
        "n": 4,
        "relative_offset": pytest.approx(statistics.mean(offsets)),
        "relative_offset_sd": pytest.approx(statistics.stdev(offsets)),
    }
    paths = export_front(study, tmp_path)
    for candidate, path in zip(front, paths[::2], strict=True):
        document = yaml.safe_load(path.read_text())
        assert document == json.loads(path.with_suffix(".json").read_text())
        assert ("dss" in document["scores"]) == bool(candidate.exact)
        about = document.get("approximate")
        assert about == (None if candidate.exact else {"dss_collapsed": expected})
        assert ("# dss_collapsed is approximate: +" in path.read_text()) == (not candidate.exact)


def test_without_any_exact_score_the_error_is_unknown(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    study = search(small_space, n_trials=2, population_size=2, img_size=32, n_exact=0)
    text = export_front(study, tmp_path, formats=["yaml"])[0].read_text()
    about = yaml.safe_load(text)["approximate"]["dss_collapsed"]
    assert about["n"] == 0 and about["relative_offset"] is about["relative_offset_sd"] is None
    assert "how far it is from the exact value was not measured" in text


@pytest.mark.parametrize("family", ["autoformer", "pit"])
def test_only_an_export_with_older_scores_is_replaced(tmp_path: Path, family: str) -> None:
    space = dataclasses.replace(
        get_space("pit-tiny" if family == "pit" else "autoformer-tiny"), img_size=32
    )
    study = search(space, n_trials=2, population_size=2, num_classes=10, n_exact=0)
    paths = export_front(study, tmp_path)
    assert {path.suffixes[0] for path in paths} == {".yaml", ".json", ".retrain"}
    before = {path: path.read_text() for path in paths}
    score_exactly(study)
    assert export_front(study, tmp_path) == paths
    after = {path: path.read_text() for path in paths}
    assert all(after[path] != before[path] for path in paths)
    for path in paths:
        path.write_text(before[path] + "# mine\n")
        with pytest.raises(TftasError, match="in the way"):
            export_front(study, tmp_path)
        path.write_text(after[path])


@pytest.mark.parametrize("prefix", ["../up", "/root", "a/b", "", ".hidden", "a\nb", "x" * 200])
def test_a_name_that_leaves_the_directory_is_refused(
    study: optuna.Study, tmp_path: Path, prefix: str
) -> None:
    with pytest.raises(TftasError, match="cannot start a file name"):
        export_front(study, tmp_path / "out", prefix=prefix)
    assert list(tmp_path.iterdir()) == []


def test_a_space_named_by_an_attacker_stays_inside(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    study = search(small_space, n_trials=2, population_size=2, img_size=32)
    study.set_user_attr(
        "space_definition", {**study.user_attrs["space_definition"], "name": "../../evil"}
    )
    paths = export_front(study, tmp_path / "out", formats=["yaml"])
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert all(path.name.startswith("evil-trial") for path in paths)


def test_what_is_in_the_way_is_named(study: optuna.Study, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TftasError, match="file is in the way: not a directory"):
            export_front(study, out)
    with pytest.raises(TftasError, match="format 'xml' does not exist; known: yaml, json"):
        export_front(study, tmp_path, formats=["xml"])
    with pytest.raises(TftasError, match="nothing to export"):
        export_candidates(study, [], tmp_path)
    folder = tmp_path / f"small-trial{pareto_front(study)[0].trial:05d}.yaml"
    folder.mkdir()
    with pytest.raises(TftasError, match="in the way"):
        export_front(study, tmp_path, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["file", folder.name])
