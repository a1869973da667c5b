"""Members of a front, ranked and exported with the weights of one trained supernet."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import timm
import torch
import yaml
from click.testing import CliRunner, Result
from supernets import PREPROCESSING, train_supernet

from tftas_optuna import Scorer, pareto_front
from tftas_optuna.architecture import Architecture
from tftas_optuna.cli import main
from tftas_optuna.retrain import recorded
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import record_accuracy, record_shared
from tftas_optuna.study.front import Candidate

NAMES = ("ant", "bee", "cow")


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture
def shared(
    searched: Path, small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Candidate]:
    """The front of a study; its members are trained in one supernet, beside it."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    front = pareto_front(load())
    train_supernet(
        small_space,
        tmp_path / "trained" / "small-shared",
        num_classes=3,
        class_names=NAMES,
        members=tuple(candidate.architecture for candidate in front),
    )
    return front


def load() -> optuna.Study:
    return optuna.load_study(study_name="small", storage="sqlite:///tftas.db")


def record(front: list[Candidate]) -> str:
    """Record accuracies that are the higher the cheaper a member is."""
    results = {c.trial: {"top1": 90.0 - i, "top5": 99.0} for i, c in enumerate(front)}
    out = str(Path("trained/small-shared").resolve())
    return record_shared(load(), results, {"recipe": "quick", "epochs": 9, "out": out})


def logits(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    with torch.no_grad():
        output: torch.Tensor = model(images)
    return output


def expected(space: AutoFormerSpace, arch: Architecture) -> torch.Tensor:
    return logits(Scorer(space, supernet="trained/small-shared", device="cpu").subnet(arch))


def refused(done: Result, code: int, *parts: str) -> None:
    assert done.exit_code == code and done.stdout == "", done.stdout
    assert done.stderr.count("\n") == 1 and all(part in done.stderr for part in parts), done.stderr
    assert not Path("front").exists()


def test_the_front_has_both_columns_and_says_which_ranks_it(shared: list[Candidate]) -> None:
    key = record(shared)
    own = record_accuracy(load(), shared[-1].trial, {"top1": 97.25})
    shown = call("front").stdout
    (head,) = (line for line in shown.splitlines() if "shared top-1 %" in line)
    assert " top-1 % " in head and "97.25" in shown and "90.00" in shown
    assert "\nBest first, by shared_top1.\n" in shown
    assert f"shared top-1 of trainings {key}: one supernet of {len(shared)} members" in shown
    assert f"\ntop-1 of trainings {own}: " in shown

    done = call("front", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [int(row["trial"]) for row in rows] == [c.trial for c in shared]
    assert [float(row["shared_top1"]) for row in rows][:2] == [90.0, 89.0]
    assert {row["shared"] for row in rows} == {key} and {row["trained"] for row in rows} == {
        own,
        "",
    }
    assert "\nBest first, by shared_top1.\n" in done.stderr


def test_another_shared_training_is_shown_by_its_key(shared: list[Candidate]) -> None:
    key = record(shared)
    two = {c.trial: {"top1": 10.0 * i} for i, c in enumerate(shared[:2], 1)}
    short = record_shared(load(), two, {"recipe": "quick", "epochs": 1})
    assert f"Others, with --trained: {short} (2 trials)." in call("front").stdout
    rows = json.loads(call("front", "--trained", short, "-f", "json").stdout)
    assert [row["shared_top1"] for row in rows[:3]] == [20.0, 10.0, None]
    assert {row["shared"] for row in rows} == {short, None} != {key}


def test_a_study_without_shared_trainings_has_no_such_column(shared: list[Candidate]) -> None:
    assert "shared" not in call("front").stdout + call("front", "-f", "json").stdout


def test_the_first_of_the_front_is_the_best_everywhere(
    shared: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    record(shared)
    asked: list[dict[str, Any]] = []

    def train(network: Any, **how: Any) -> dict[str, Any]:
        asked.append(how)
        row = {"top1": 1.0, "top5": 2.0, "loss": 3.0, "n_params": 4, "seconds": 5.0}
        return {"name": network.label, **row, "out": "x"}

    monkeypatch.setattr(recorded, "train_and_record", train)
    weights = ("--weights", "trained/small-shared", "--data-dir", ".", "--device", "cpu")
    assert call("retrain", "--study", "small", "--top", "2", *weights).exit_code == 0
    assert [how["trial"] for how in asked] == [c.trial for c in shared[:2]]
    assert {how["weights"].path for how in asked} == {str(Path("trained/small-shared").resolve())}
    done = call("export", "--best", "-f", "yaml")
    assert done.stdout == f"front/small-trial{shared[0].trial:05d}.yaml\n"


@pytest.mark.parametrize(
    "source",
    [
        ("--weights", "trained/small-shared"),
        ("--supernet", "trained/small-shared/supernet.yaml"),
        ("--weights", "supernet", "--supernet", "trained/small-shared"),
    ],
)
def test_all_members_leave_as_trained_networks(
    shared: list[Candidate], small_space: AutoFormerSpace, source: tuple[str, ...]
) -> None:
    done = call("export", "-f", "timm", *source)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.split() == [f"front/small-trial{c.trial:05d}" for c in shared]
    supernet = Path("trained/small-shared").resolve()
    assert done.stderr.count(f"  slices of the supernet {supernet} (SHA-256 ") == len(shared)
    for candidate, folder in zip(shared, done.stdout.split(), strict=True):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        ours = expected(small_space, candidate.architecture)
        torch.testing.assert_close(logits(model), ours, atol=1e-6, rtol=0)
    config = json.loads(Path(folder, "config.json").read_text())
    assert config["weights"] == "trained" and config["label_names"] == list(NAMES)
    assert config["num_classes"] == 3 and "tag" not in config["pretrained_cfg"]
    assert PREPROCESSING.from_dict(config["pretrained_cfg"]) == PREPROCESSING


@pytest.mark.slow
def test_onnx_has_the_logits_of_the_slices(
    shared: list[Candidate], small_space: AutoFormerSpace
) -> None:
    import onnx
    import onnxruntime

    best = shared[-1]
    done = call("export", "-f", "onnx", "--best", "--weights", "trained/small-shared")
    assert done.stdout == f"front/small-trial{best.trial:05d}.onnx\n"
    session = onnxruntime.InferenceSession(done.stdout.strip())
    ours = logits(
        lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    )
    wanted = expected(small_space, best.architecture)
    torch.testing.assert_close(ours, wanted, atol=1e-6, rtol=0)
    properties = onnx.load(done.stdout.strip()).metadata_props
    assert {p.key: p.value for p in properties}["weights"] == "trained"


def test_an_exported_file_leaves_with_the_slices(
    shared: list[Candidate], small_space: AutoFormerSpace
) -> None:
    call("export", "--best", "-f", "yaml", "--out", "chosen")
    (file,) = Path("chosen").glob("*.yaml")
    done = call("export", str(file), "--supernet", "trained/small-shared")
    model = timm.create_model(f"local-dir:{done.stdout.strip()}", pretrained=True).eval()
    wanted = expected(small_space, shared[-1].architecture)
    torch.testing.assert_close(logits(model), wanted, atol=1e-6, rtol=0)


def test_without_weights_the_supernet_is_named(shared: list[Candidate]) -> None:
    key = record(shared)
    told = f"trained in a supernet only; give --weights {Path('trained/small-shared').resolve()}"
    refused(call("export", "--best", "-f", "timm"), 2, told)
    refused(call("export", "--best", "-f", "timm", "--trained", key), 2, told)


def test_what_is_asked_in_vain_is_refused_before_anything_is_written(
    shared: list[Candidate], small_space: AutoFormerSpace
) -> None:
    first = train_supernet(
        small_space, Path("first"), members=(shared[0].architecture,), num_classes=3
    )
    timm_form = ("export", "-f", "timm")
    refused(call(*timm_form, "--weights", str(first)), 2, "what lies beyond is untrained")
    refused(call(*timm_form, "--supernet", "nowhere"), 1, "'nowhere' does not exist")
    refused(call(*timm_form, "--supernet", "timm:resnet18"), 2, "no plain Vision Transformer")
    refused(
        call(*timm_form, "--weights", "scratch", "--supernet", "first"),
        2,
        "weights scratch and supernet first exclude each other",
    )
    refused(
        call(*timm_form, "--trained", "s", "--supernet", "first"),
        2,
        "--supernet and --trained exclude each other",
    )
    refused(call("export", "--supernet", "first"), 2, "--supernet needs a format that holds them")
    (first / "supernet.safetensors").unlink()
    refused(call(*timm_form, "--weights", str(first)), 1, "holds no supernet.safetensors")


def test_training_is_refused_before_the_first_step(shared: list[Candidate]) -> None:
    train = ("retrain", "--study", "small", "--data-dir", ".", "--device", "cpu")
    done = call(*train, "--supernet", "trained/small-shared", "--img-size", "64")
    refused(done, 2, "takes images of 64 pixels", "give --img-size 32")
    damaged = yaml.safe_load(Path("trained/small-shared/supernet.yaml").read_text())
    damaged["digest"] = "0" * 64
    Path("trained/small-shared/supernet.yaml").write_text(yaml.safe_dump(damaged))
    refused(call(*train, "--weights", "trained/small-shared"), 1, "holds other weights than")
