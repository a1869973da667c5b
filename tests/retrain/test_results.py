"""What a training reports, in which order it sees images, and whom it learns from."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf

from tftas_optuna.retrain.network import Network, build_network
from tftas_optuna.retrain.training import Step, Training

Train = Callable[..., dict[str, Any]]


def table(path: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def losses(out: Path) -> list[float]:
    return [float(row["loss"]) for row in table(out / "steps.csv")]


def test_the_result_is_that_of_the_last_epoch_and_names_the_best(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter((10.0, 30.0, 20.0))

    def evaluate(self: Training, loader: Any) -> dict[str, float]:
        top1 = next(found)
        return {"loss": 100 - top1, "top1": top1, "top5": top1 + 50}

    monkeypatch.setattr(Training, "evaluate", evaluate)
    result = train(tmp_path, epochs=3)
    assert (result["top1"], result["top5"], result["loss"]) == (20.0, 70.0, 80.0)
    assert (result["best_top1"], result["best_epoch"]) == (30.0, 1)
    assert torch.load(tmp_path / "model_best.pth.tar", weights_only=True)["epoch"] == 1


def test_every_epoch_sees_all_images_in_another_order(train: Train, tmp_path: Path) -> None:
    train(tmp_path, opt="sgd", lr=0, min_lr=0, weight_decay=0, sched="constant")
    first, second = losses(tmp_path)[:9], losses(tmp_path)[9:]
    assert first != second and sorted(first) != sorted(second)
    assert sum(first) == pytest.approx(sum(second))


@pytest.mark.parametrize("step", [0, 4, 8])
def test_stopped_in_the_middle_of_an_epoch(train: Train, tmp_path: Path, step: int) -> None:
    values = {"epochs": 3, "model_ema": True, "mixup": 0.3, "smoothing": 0.1}
    result = train(tmp_path / "whole", **values)

    def stop(event: object) -> None:
        if isinstance(event, Step) and (event.epoch, event.step) == (1, step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "torn", callback=stop, **values)
    resumed = train(tmp_path / "torn", **values)
    assert {**resumed, "seconds": 0} == {**result, "seconds": 0}
    for name in ("metrics.csv", "steps.csv"):
        assert table(tmp_path / "torn" / name) == table(tmp_path / "whole" / name)


def test_a_teacher_does_not_learn(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "teacher"
    torch.manual_seed(0)
    save_for_hf(timm.create_model("test_resnet", num_classes=3), folder, safe_serialization=True)
    teachers: list[torch.nn.Module] = []
    create = timm.create_model

    def remember(name: str, **kwargs: Any) -> torch.nn.Module:
        model = create(name, **kwargs)
        if name.startswith("local-dir:"):
            teachers.append(model)
        return model

    monkeypatch.setattr(timm, "create_model", remember)
    train(tmp_path / "out", epochs=1, teacher=f"local-dir:{folder}")
    (teacher,) = teachers
    before = create(f"local-dir:{folder}", pretrained=True).state_dict()
    assert before and not teacher.training
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("weights", ["scratch", "pretrained"])
def test_weights_of_timm_are_loaded_where_they_are_asked_for(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def create(name: str, *, pretrained: bool, **kwargs: Any) -> torch.nn.Module:
        asked.append(pretrained)
        return torch.nn.Identity()

    monkeypatch.setattr(timm, "create_model", create)
    build_network(Network("vit", "test_vit"), num_classes=3, weights=weights)
    assert asked == [weights == "pretrained"]
