"""``tftas-optuna export`` of trained trials: their weights, or none under their names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from tftas_optuna.cli import main
from tftas_optuna.export.networks import save_timm
from tftas_optuna.retrain.network import build_network, candidate_network
from tftas_optuna.retrain.recorded import model_digest
from tftas_optuna.study.accuracy import record_accuracy
from tftas_optuna.study.front import get_candidate, pareto_front
from tftas_optuna.study.record import read_settings


class Trained:
    """A study of which one trial is trained on three classes, in a working directory."""

    def __init__(self) -> None:
        self.study = optuna.load_study(study_name="small", storage="sqlite:///tftas.db")
        self.trial, self.other = (one.trial for one in pareto_front(self.study)[:2])
        self.folder = Path("trained").resolve()
        self.leave(self.trial)
        self.record: dict[str, Any] = {
            "top1": 98.6,
            "num_classes": 3,
            "out": str(self.folder),
            "model_digest": model_digest(self.folder),
        }
        self.key = record_accuracy(self.study, self.trial, self.record)

    def leave(self, trial: int) -> None:
        """Leave what a training of a trial leaves."""
        candidate = get_candidate(self.study, trial)
        network = candidate_network(candidate, read_settings(self.study), self.study.study_name)
        self.folder.mkdir(exist_ok=True)
        save_timm(build_network(network, num_classes=3, seed=7), self.folder, trained=True)

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "model.safetensors")


@pytest.fixture
def trained(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return Trained()


def export(*args: str) -> Result:
    return CliRunner().invoke(main, ["export", "-f", "timm", *args], catch_exceptions=False)


def written(done: Result) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    assert done.exit_code == 0, done.stderr
    folder = Path(done.stdout.strip())
    return load_file(folder / "model.safetensors"), json.loads(
        (folder / "config.json").read_text()
    )


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def refused(done: Result, code: int, *parts: str) -> None:
    assert done.exit_code == code and done.stdout == "", done.stdout
    assert done.stderr.count("\n") == 1 and all(part in done.stderr for part in parts), done.stderr
    assert not Path("front").exists()


def test_a_trained_trial_leaves_with_its_weights(trained: Trained) -> None:
    done = export(f"--trial={trained.trial}")
    weights, config = written(done)
    assert same(weights, trained.weights())
    assert config["weights"] == "trained" and config["num_classes"] == 3
    assert "tag" not in config["pretrained_cfg"]
    assert f"top-1 98.60 %, trainings {trained.key}" in done.stderr


def test_an_untrained_trial_needs_weights(trained: Trained) -> None:
    done = export(f"--trial={trained.other}")
    refused(done, 2, f"trial {trained.other} was not trained; give --weights: a directory")


def test_nothing_is_written_where_one_of_several_is_untrained(trained: Trained) -> None:
    done = export(f"--trial={trained.trial}", f"--trial={trained.other}")
    refused(done, 2, f"trial {trained.other} was not trained")


def test_what_is_untrained_says_so(trained: Trained) -> None:
    done = export(f"--trial={trained.trial}", "--weights", "supernet")
    _, config = written(done)
    assert done.stdout == f"front/small-trial{trained.trial:05d}-untrained\n"
    assert "untrained; computes as PyTorch does" in done.stderr
    assert config["weights"] == config["pretrained_cfg"]["tag"] == "untrained"
    # And says it still when it is exported again.
    again = export(done.stdout.strip(), "--out", "again")
    assert again.stdout == f"again/small-trial{trained.trial:05d}-untrained\n"


def test_a_training_whose_directory_is_gone_is_told(trained: Trained) -> None:
    shutil.rmtree(trained.folder)
    told = f"was trained to 98.60 %, but {trained.folder} holds no network any more: it"
    refused(export(f"--trial={trained.trial}"), 1, told)


def test_a_directory_with_weights_of_another_training_is_told(trained: Trained) -> None:
    path = trained.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    refused(export(f"--trial={trained.trial}"), 1, "holds other weights by now")


def test_a_directory_with_another_network_is_told(trained: Trained) -> None:
    trained.leave(trained.other)
    trained.record["model_digest"] = model_digest(trained.folder)
    record_accuracy(trained.study, trained.trial, trained.record)
    refused(export(f"--trial={trained.trial}"), 1, "holds another network than small-trial")


def test_a_training_that_release_0_2_0_kept_has_no_directory(trained: Trained) -> None:
    trained.study.set_user_attr(f"retrained:{trained.other}", {"top1": 50.0})
    done = export(f"--trial={trained.other}")
    refused(done, 1, "trained to 50.00 %, but its study records no directory of it")


def test_the_directory_of_a_training_can_be_given(trained: Trained) -> None:
    weights, config = written(export(f"--trial={trained.trial}", "--weights", "trained"))
    assert same(weights, trained.weights()) and config["weights"] == "trained"
    refused_one = export(f"--trial={trained.other}", "--weights", "trained", "--out", "other")
    assert refused_one.exit_code == 1 and "holds another network" in refused_one.stderr


def test_a_checkpoint_brings_its_classifier(trained: Trained) -> None:
    torch.save({"state_dict": trained.weights()}, "last.pth.tar")
    weights, config = written(export(f"--trial={trained.trial}", "--weights", "last.pth.tar"))
    assert same(weights, trained.weights()) and config["num_classes"] == 3


def test_one_checkpoint_is_not_for_several_networks(trained: Trained) -> None:
    done = export("--weights", "trained")
    refused(done, 2, "--weights trained holds one network, and", "pick it with --trial")


def test_the_weights_of_other_trainings_are_asked_for_by_key(trained: Trained) -> None:
    short = record_accuracy(trained.study, trained.other, {"top1": 33.2, "epochs": 2})
    done = export(f"--trial={trained.trial}", "--trained", short)
    refused(done, 2, f"trial {trained.trial} was not trained among the trainings {short}")
    refused(export("--trained", "x"), 2, "no trainings have the key 'x'; there are")
    assert export(f"--trial={trained.trial}", "--trained", trained.key).exit_code == 0


def test_a_directory_of_release_0_2_0_is_trained_whatever_its_tag(trained: Trained) -> None:
    path = trained.folder / "config.json"
    config = json.loads(path.read_text())
    del config["weights"]
    config["pretrained_cfg"]["tag"] = "untrained"
    path.write_text(json.dumps(config))
    (trained.folder / "result.json").write_text("{}")
    _, config = written(export("trained"))
    assert config["weights"] == "trained" and "tag" not in config["pretrained_cfg"]


def test_the_front_shows_one_set_of_trainings_and_names_the_others(trained: Trained) -> None:
    run = CliRunner().invoke
    key = record_accuracy(trained.study, trained.other, {"top1": 33.25, "epochs": 2})
    long = record_accuracy(trained.study, trained.trial, {"top1": 91.0, "epochs": 9})
    record_accuracy(trained.study, trained.trial, {"top1": 93.0, "epochs": 9, "seed": 1})
    shown = run(main, ["front"]).stdout
    assert "92.00 ± 1.41" in shown and "33.25" not in shown and "98.60" not in shown
    assert f"top-1 of trainings {long}: recipe ?, 9 epochs, on ?; 1 trial." in shown
    assert f"{key} (1 trial)" in shown and f"{trained.key} (1 trial)" in shown
    rows = json.loads(run(main, ["front", "--trained", key, "-f", "json"]).stdout)
    assert {row["trial"]: row["top1"] for row in rows if row["top1"]} == {trained.other: 33.25}
    assert {row["trained"] for row in rows} == {key, None}
    unknown = run(main, ["front", "--trained", "x"])
    assert unknown.exit_code == 2 and unknown.stderr.count("\n") == 1
