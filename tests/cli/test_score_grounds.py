"""On which weights ``tftas-optuna score`` scores, and what it puts side by side."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from tftas_optuna import Scorer, export_front, search
from tftas_optuna.cli import main
from tftas_optuna.retrain.network import build_network, resolve_network
from tftas_optuna.spaces import AutoFormerSpace

SIZES = {"img_size": 32, "num_classes": 10}


def score(*args: str | Path) -> str:
    done = CliRunner().invoke(main, ["score", *map(str, args)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def rows(*args: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(score(*args, "-f", "json"))
    return found


def exported(space: AutoFormerSpace, folder: Path, **how: Any) -> list[Path]:
    study = search(space, n_trials=6, population_size=6, **{**SIZES, **how})
    return export_front(study, folder, formats=["yaml"])


def as_released(path: Path, head_weight: float) -> Path:
    """Rewrite a file as release 0.1.0 wrote it."""
    document = yaml.safe_load(path.read_text())
    new = document["search"]
    document["search"] = {
        "indicator": "dss",
        **{name: new[name] for name in ("fidelity", "n_seeds")},
        "seed": new["supernet_seed"],
        "head_weight": head_weight,
        "metrics": ["dss", "n_params"],
        "bounds": {},
        "deployment": None,
        "space": new["space"],
    }
    old = path.with_name(f"old-{path.name}")
    old.write_text(yaml.safe_dump(document))
    return old


def test_a_file_is_scored_on_all_its_supernets(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = exported(small_space, tmp_path, n_seeds=2, supernet_seed=7, seed=1)[0]
    (row,) = rows(path)
    assert row["dss"] == yaml.safe_load(path.read_text())["scores"]["dss"]
    assert row["weights"] == "small supernet, seeds 7 to 8"
    (other,) = rows(path, "--seed", "3")
    assert other["dss"] != row["dss"] and other["weights"] == "small supernet, seeds 3 to 4"


def test_a_file_is_scored_exactly_and_at_the_fidelity_that_it_holds(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = exported(small_space, tmp_path, fidelity="collapsed")[0]
    document = yaml.safe_load(path.read_text())
    both = document["scores"]
    (row,) = rows(path)
    assert row["dss"] == pytest.approx(both["dss"], rel=1e-6)
    assert row["dss_collapsed"] == pytest.approx(both["dss_collapsed"], rel=1e-6)
    assert "collapsed DSS" in score(path)
    del both["dss"]
    path.write_text(yaml.safe_dump(document))
    assert rows(path) == [row]
    layers = rows(path, "--explain")
    assert sum(layer["value"] for layer in layers) == pytest.approx(row["dss"])
    document["scores"] = {"dss": row["dss"]}
    path.write_text(yaml.safe_dump(document))
    assert "dss_collapsed" not in rows(path)[0]


def test_files_of_the_first_release_are_read(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    path = exported(small_space, tmp_path, supernet_seed=4, seed=1)[0]
    (now,) = rows(path)
    (old,) = rows(as_released(path, 1.0))
    assert {**old, "name": ""} == {**now, "name": ""}
    (doubled,) = rows(as_released(path, 2.0))
    arch = resolve_network(path).architecture
    assert arch is not None
    scorer = Scorer(small_space, seed=4, head_weight=2.0, device="cpu", **SIZES)
    assert doubled["dss"] == pytest.approx(scorer(arch), rel=1e-6)
    assert doubled["weights"] == "small supernet, seed 4, head_weight 2.0"


def test_slices_are_those_of_the_supernet_that_was_scored(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = exported(small_space, tmp_path, supernet_seed=4, seed=1)[0]
    network = resolve_network(path)
    assert network.architecture is not None
    wanted = Scorer(small_space, seed=4, device="cpu", **SIZES).subnet(network.architecture)
    for file in (path, as_released(path, 1.0)):
        model = build_network(resolve_network(file), num_classes=10, weights="supernet")
        for name, tensor in wanted.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor)


def test_what_is_in_the_space_of_a_file_shares_its_supernet(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = exported(small_space, tmp_path, supernet_seed=4)[0]
    alone = tmp_path / "alone.yaml"
    arch = small_space.smallest()
    alone.write_text(yaml.safe_dump({"architecture": arch.to_dict()}))
    ours, plain, vit = rows(path, alone, "test_vit")
    assert plain["weights"] == ours["weights"] == "small supernet, seed 4"
    assert plain["dss"] == Scorer(small_space, seed=4, device="cpu", **SIZES)(arch)
    assert (plain["img_size"], plain["num_classes"]) == (32, 10)
    assert vit["weights"] == "fresh, seed 0"
    shown = score(path, alone, "test_vit")
    assert shown.count("DSS of untrained networks") == 2
    for weights in ("small supernet, seed 4", "fresh, seed 0"):
        assert f"DSS of untrained networks; weights: {weights}\n" in shown
    assert shown.splitlines()[-1].startswith("Scores of different tables cannot be compared")
    assert score(path, alone).count("DSS of untrained networks") == 1
    assert "cannot be compared" not in score(path, alone)
    table = list(csv.DictReader(io.StringIO(score(path, "test_vit", "-f", "csv"))))
    assert [row["weights"] for row in table] == ["small supernet, seed 4", "fresh, seed 0"]


def test_another_size_is_another_supernet(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    path = exported(small_space, tmp_path)[0]
    alone = tmp_path / "alone.yaml"
    document = {"architecture": small_space.smallest().to_dict(), "model": {"img_size": 64}}
    alone.write_text(yaml.safe_dump(document))
    assert rows(path, alone)[1]["weights"] == "fresh, seed 0"


def test_several_of_one_preset_share_its_supernet() -> None:
    names = ("tf-tas-small", "autoformer-small", "tf-tas-pit-tiny", "--img-size", "64")
    found, human, pit = rows(*names)
    assert found["weights"] == human["weights"] == "autoformer-small supernet, seed 0"
    assert pit["weights"] == "fresh, seed 0"
    assert rows("tf-tas-tiny", "--img-size", "64")[0]["weights"] == "fresh, seed 0"


@pytest.mark.parametrize(
    "section",
    [
        {},
        [],
        {"seed": "x"},
        {"seed": 0, "space": 3},
        {"options": {"dss": 3}},
        {"seed": 0, "options": {"dss": {"head_weight": "x"}}},
    ],
)
def test_a_damaged_section_is_one_line(
    section: object, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = tmp_path / "broken.yaml"
    arch = small_space.smallest().to_dict()
    path.write_text(yaml.safe_dump({"architecture": arch, "search": section}))
    done = CliRunner().invoke(main, ["score", str(path)], catch_exceptions=False)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "broken.yaml: its search section is damaged" in done.stderr
