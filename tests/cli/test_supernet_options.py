"""``--supernet`` of ``run``, ``score`` and ``correlate``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tables import draw, table_rows, write_csv

from tftas_optuna import AutoFormerSpace, Scorer
from tftas_optuna.architecture import read_architecture
from tftas_optuna.cli import main
from tftas_optuna.supernet.files import TrainedSupernet, write_supernet


@pytest.fixture
def space(small_space: AutoFormerSpace) -> AutoFormerSpace:
    return dataclasses.replace(small_space, img_size=32, num_classes=10)


@pytest.fixture
def shared(
    space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TrainedSupernet:
    """A supernet in the working directory, as shared training leaves one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared").mkdir()
    trained = TrainedSupernet(
        path=tmp_path / "shared",
        tensors=Scorer(space, device="cpu", seed=7).supernet.state_dict,
        space=space.to_dict(),
        img_size=32,
        num_classes=10,
    )
    write_supernet(trained)
    return trained


def call(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, [*args, "--device", "cpu"])
    return done.exit_code, done.stdout, done.stderr


def test_run_searches_the_space_of_the_supernet(
    shared: TrainedSupernet, space: AutoFormerSpace
) -> None:
    code, _, err = call("run", "--supernet", "shared", "--n-trials", "4", "-q")
    assert code == 0, err
    assert CliRunner().invoke(main, ["export", "--out", "front"]).exit_code == 0
    files = sorted(Path("front").glob("*.yaml"))
    files = [file for file in files if not file.name.endswith(".retrain.yaml")]
    scorer = Scorer(space, supernet="shared", device="cpu")
    for file in files:
        scores = yaml.safe_load(file.read_text())["scores"]
        assert scores["dss"] == pytest.approx(scorer(read_architecture(file)[0]), rel=1e-6)
    # A file of this search is scored on the same weights again, and only on these.
    code, out, _ = call("score", str(files[0]))
    assert "slices of a trained supernet" in out
    write_supernet(other_weights(shared))
    code, _, err = call("score", str(files[0]))
    assert code == 1 and "holds other weights than before" in err and err.count("\n") == 1


def other_weights(trained: TrainedSupernet) -> TrainedSupernet:
    return dataclasses.replace(trained, tensors={n: 2 * t for n, t in trained.tensors.items()})


def test_run_refuses_a_supernet_of_another_space(shared: TrainedSupernet) -> None:
    code, _, err = call("run", "--space", "autoformer-tiny", "--supernet", "shared")
    assert code == 2 and "holds no weights for space 'autoformer-tiny'" in err
    assert err.count("\n") == 1
    assert not Path("tftas.db").exists()


@pytest.mark.parametrize(
    ("source", "code", "fact"),
    [
        ("timm:resnet18", 2, "no plain Vision Transformer"),
        ("study", 2, "there is no study here"),
        ("nothing", 1, "does not exist"),
        (".", 1, "is no trained supernet"),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("score", "autoformer-tiny")])
def test_sources_that_cannot_be_used_are_one_line(
    shared: TrainedSupernet, command: tuple[str, ...], source: str, code: int, fact: str
) -> None:
    actual, _, err = call(*command, "--supernet", source)
    assert actual == code and fact in err and err.count("\n") == 1
    assert not Path("tftas.db").exists()


def test_score_on_a_given_supernet(shared: TrainedSupernet, space: AutoFormerSpace) -> None:
    arch = space.largest()
    document = {"architecture": arch.to_dict(), "format": "tftas-optuna/architecture"}
    Path("own.yaml").write_text(yaml.safe_dump({**document, "format_version": 1}))
    code, out, err = call("score", "own.yaml", "--supernet", "shared", "-f", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["dss"] == Scorer(space, supernet="shared", device="cpu")(arch)
    code, _, err = call("score", "own.yaml", "vit_tiny_patch16_224", "--supernet", "shared")
    assert code == 2 and "is a network of timm, no slice of shared" in err


def test_correlate_scores_a_table_on_a_given_supernet(
    shared: TrainedSupernet, space: AutoFormerSpace
) -> None:
    archs = draw(space, 12)
    rows = table_rows(archs)
    accuracies = range(len(rows))
    write_csv(Path("t.csv"), [{**r, "acc": a} for r, a in zip(rows, accuracies, strict=True)])
    Path("space.yaml").write_text(yaml.safe_dump(space.to_dict()))
    options = ("t.csv", "--space", "space.yaml", "--indicators", "dss", "-f", "json")
    code, _, err = call("correlate", *options, "--supernet", "shared")
    assert code == 0, err
    assert shared.digest in Path("t.csv.scores.json").read_text()
