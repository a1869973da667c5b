"""Seeds, sizes and layouts of ``tftas-optuna score``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from click.testing import CliRunner, Result

from tftas_optuna import Architecture, Scorer, export_front, search
from tftas_optuna.cli import main
from tftas_optuna.cli._supernets import find_subject, find_supernets
from tftas_optuna.passes.networks import count_macs
from tftas_optuna.spaces import AutoFormerSpace


def call(*args: str | Path) -> Result:
    done = CliRunner().invoke(main, ["score", *map(str, args)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done


def rows(*args: str | Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call(*args, "-f", "json").stdout)
    return found


def described(arch: Architecture, path: Path, **sizes: int) -> Path:
    path.write_text(yaml.safe_dump({"architecture": arch.to_dict(), "model": sizes}))
    return path


def exported(space: AutoFormerSpace, folder: Path, **how: Any) -> Path:
    study = search(space, n_trials=4, population_size=4, img_size=32, num_classes=10, **how)
    return export_front(study, folder, formats=["yaml"])[0]


def test_fresh_weights_are_drawn_from_the_seed(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    names = ("test_vit", described(small_space.smallest(), tmp_path / "a.yaml", img_size=32))
    usual, zero, three = rows(*names), rows(*names, "--seed", "0"), rows(*names, "--seed", "3")
    assert usual == zero
    for row, other in zip(usual, three, strict=True):
        assert other["dss"] != row["dss"]
        assert (row["weights"], other["weights"]) == ("fresh, seed 0", "fresh, seed 3")
        assert other["n_params"] == row["n_params"]


def test_a_preset_is_drawn_from_the_seed_too() -> None:
    subjects = [find_subject(name, {}) for name in ("tf-tas-small", "autoformer-small")]
    assert [str(each) for each in find_supernets(subjects, 3)] == [
        "autoformer-small supernet, seed 3"
    ] * 2
    assert {str(each) for each in find_supernets(subjects, None)} == {
        "autoformer-small supernet, seed 0"
    }
    assert find_supernets(subjects[:1], 3) == [None]


def test_sizes_of_a_file_are_its_own_unless_told(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    arch = small_space.smallest()
    alone = described(arch, tmp_path / "alone.yaml", img_size=32, num_classes=7)
    found = exported(small_space, tmp_path)
    (row,) = rows(alone)
    assert (row["img_size"], row["num_classes"]) == (32, 7)
    costs = arch.costs(img_size=32, num_classes=7)
    assert (row["n_params"], row["macs"]) == (costs.n_params, costs.macs)
    for path in (alone, found):
        (row,) = rows(path, "--img-size", "48", "--num-classes", "5")
        assert (row["img_size"], row["num_classes"]) == (48, 5)
    document = yaml.safe_load(found.read_text())
    own = Architecture.from_dict(document)
    assert row["n_params"] == own.costs(img_size=48, num_classes=5).n_params
    assert row["dss"] == Scorer(small_space, img_size=48, num_classes=5, device="cpu")(own)


def test_what_was_scored_for_other_classes_or_images_is_not_put_side_by_side(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    arch = small_space.smallest()
    usual = described(arch, tmp_path / "a.yaml", img_size=32, num_classes=10)
    same = described(small_space.largest(), tmp_path / "b.yaml", img_size=32, num_classes=10)
    for sizes in ({"img_size": 32, "num_classes": 7}, {"img_size": 48, "num_classes": 10}):
        other = described(arch, tmp_path / "c.yaml", **sizes)
        told = call(usual, same, other).stdout
        assert told.count("DSS of untrained networks") == 2
        assert "cannot be compared" in told
    assert call(usual, same).stdout.count("DSS of untrained networks") == 1


def test_every_row_has_the_columns_of_all(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    both = exported(small_space, tmp_path, fidelity="collapsed")
    found, vit = rows(both, "test_vit")
    assert list(found) == list(vit)
    assert list(found)[:3] == ["name", "dss", "dss_collapsed"]
    assert vit["dss_collapsed"] is None and vit["dss"] > 0
    table = list(csv.DictReader(io.StringIO(call("test_vit", both, "-f", "csv").stdout)))
    assert [bool(row["dss_collapsed"]) for row in table] == [False, True]


def test_a_network_that_takes_every_size_is_counted_at_the_one_asked_for() -> None:
    """It knows no such argument, so that only the image tells."""
    (row,) = rows("edgenext_xx_small", "--img-size", "64")
    assert row["img_size"] == 64
    assert row["macs"] == count_macs(timm.create_model("edgenext_xx_small"), img_size=64)


def test_shares_of_layers_add_up_to_the_whole() -> None:
    told = call("test_vit", "--img-size", "32", "--explain").stdout
    shares = [line.split()[-2] for line in told.splitlines() if "%" in line]
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=1)


def test_what_is_left_out_is_counted_in_full() -> None:
    network = ("edgenext_xx_small", "--img-size", "64", "--explain")
    lines = [line for line in call(*network).stdout.splitlines() if "left out, " in line]
    reasons = left_out(rows(*network))
    assert len(lines) == len(reasons) > 1 and any(" more" in line for line in lines)
    for line, (reason, weights) in zip(lines, reasons.items(), strict=True):
        start, listed = line.split(": ", 1)
        named, _, more = listed.partition(" and ")
        assert start == f"left out, {reason}"
        assert len(named.split(", ")) + int(more.split()[0] if more else 0) == len(weights)


def left_out(layers: list[dict[str, Any]]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for layer in layers:
        if layer["role"].startswith("left out: "):
            reasons.setdefault(layer["role"].removeprefix("left out: "), []).append(layer["layer"])
    return reasons


@pytest.mark.parametrize("name", ["none.yaml", "none.yml", "none.json"])
def test_a_file_that_is_not_there_is_told_as_a_file(name: str) -> None:
    done = CliRunner().invoke(main, ["score", name], catch_exceptions=False)
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith(f"Error: {name}") and done.stderr.count("\n") == 1
