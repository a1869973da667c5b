"""``lr: auto``: a range test finds the rate, keeps its curve, and changes nothing else."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tftas_optuna import TftasError, UnavailableError
from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.learning_rate import Tried, choose, range_test


def curve(out: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((out / "lr.csv").read_text().splitlines())
    return [{name: float(value) for name, value in row.items()} for row in rows]


def test_a_quadratic_bowl_diverges_where_theory_says() -> None:
    """Gradient descent on ``c x² / 2`` converges below a rate of ``2 / c``, and diverges above."""
    curvature = 40.0
    x = nn.Parameter(torch.tensor(1.0))
    training: Any = Bowl(x, curvature)
    tried = range_test(training)
    lrs = [step.lr for step in tried]
    assert lrs == pytest.approx(np.geomspace(1e-4, 1, 240)[: len(lrs)].tolist())
    # 1 / c is best; kicks and smoothing move the lowest point a little.
    assert 0.5 / curvature < 5 * choose(tried) < 2 / curvature
    assert lrs[-1] < 4 / curvature, "it goes on long after the loss has diverged"


class Bowl:
    """What a range test needs of a training, with one weight."""

    def __init__(self, x: nn.Parameter, curvature: float) -> None:
        self.x, self.curvature = x, curvature
        self.optimizer = torch.optim.SGD([{"params": [x], "lr_scale": 1.0}], lr=1.0)
        self.recipe = load_recipe("quick")
        self.loader = Loader()
        self.task = nn.Identity()
        self.world = self

    rank = 0

    def mean(self, loss: torch.Tensor) -> float:
        return float(loss)

    def step(self, batches: Any, update: int) -> torch.Tensor:
        next(batches)
        self.optimizer.zero_grad()
        # Batches pull to both sides; otherwise it would rest in the middle at any rate.
        self.x.data += 0.1 * (-1) ** update
        loss = self.curvature * self.x**2 / 2 + 20
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Loader(list[int]):
    """Three batches."""

    sampler = dataset = None

    def __init__(self) -> None:
        super().__init__([0, 1, 2])


def test_it_is_found_once_kept_and_used(train: Any, tmp_path: Path) -> None:
    told: list[str] = []
    out = tmp_path / "out"
    result = train(out, lr="auto", told=told.append)
    rows = curve(out)
    assert list(rows[0]) == ["lr", "loss", "smoothed"] and len(rows) > 50
    assert result["lr"] == min(rows, key=lambda row: row["smoothed"])["lr"] / 5
    assert f"learning rate {result['lr']:.2g} by a range test (lr.csv)" in told
    # The curve begins with the loss of fresh weights.
    assert rows[0]["loss"] == pytest.approx(np.log(3), abs=0.5)
    # What it finds is what is used: the same value by hand trains the same network.
    by_hand = train(tmp_path / "hand", lr=result["lr"])
    assert by_hand["loss"] == result["loss"]
    assert load_recipe(out / "recipe.yaml").lr == "auto"


def test_a_training_goes_on_with_the_one_that_it_has(train: Any, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", lr="auto")
    part = tmp_path / "part"
    paused = train(part, lr="auto", pause=lambda epochs: epochs == 1)
    assert paused["epochs"] == 1 and paused["n_params"] == whole["n_params"]
    before = (part / "lr.csv").read_text()
    result = train(part, lr="auto")
    assert result["loss"] == whole["loss"] and (part / "lr.csv").read_text() == before


def test_other_learning_rates(train: Any, tmp_path: Path) -> None:
    with pytest.raises(TftasError, match="lr is 'fast', allowed: a number, 0 or more, or auto"):
        load_recipe("quick", {"lr": "fast"})
    with pytest.raises(UnavailableError, match="the range test of --lr auto has no finite loss"):
        choose([])
    assert load_recipe("quick", {"lr": "0.01"}).lr == 0.01
    assert load_recipe("quick", {"lr": "auto"}).digest != load_recipe("quick").digest
    assert choose([Tried(1e-3, 2.0, 2.0), Tried(1e-2, 1.0, 1.0), Tried(1e-1, 3.0, 1.5)]) == 2e-3


def test_a_loss_that_never_falls_gives_the_usual_rate(caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).normal(2.3, 0.02, 200).tolist()
    lrs = np.geomspace(1e-5, 1, 200).tolist()
    tried = [Tried(lr, loss, loss) for lr, loss in zip(lrs, noise, strict=True)]
    smoothed = [step._replace(smoothed=2.3 - 0.001 * (i == 0)) for i, step in enumerate(tried)]
    assert choose(smoothed) == 1e-3
    assert "found no learning rate at which the loss falls; 0.001 is taken" in caplog.text
    # The first loss of all may be low by chance.
    falls = [step._replace(smoothed=2.2 if i == 100 else 2.3) for i, step in enumerate(tried)]
    falls[0] = falls[0]._replace(smoothed=2.1)
    assert choose(falls) == lrs[100] / 5


def test_a_schedule_does_not_rise_above_its_peak(train: Any, tmp_path: Path) -> None:
    train(tmp_path, lr=1e-6, warmup_epochs=1, warmup_lr=0.1, min_lr=0.5, epochs=3, batch_size=8)
    steps = csv.DictReader((tmp_path / "steps.csv").read_text().splitlines())
    peak = load_recipe("quick", {"lr": 1e-6, "batch_size": 8}).scaled_lr
    assert [float(row["lr"]) for row in steps] == pytest.approx([peak] * 27)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lr.csv", "lr,loss\n1,2\n"),
        ("lr.csv", "lr,loss,smoothed\n1,2\n"),
        ("lr.csv", "lr,loss,smoothed\n1,2,3,4\n"),
        ("metrics.csv", "epoch,top1\n1\n"),
    ],
)
def test_damaged_files_of_a_training_are_named(
    name: str, text: str, train: Any, tmp_path: Path
) -> None:
    train(tmp_path, lr="auto", pause=lambda epochs: True)
    (tmp_path / name).write_text(text)
    with pytest.raises(UnavailableError, match=f"{name} is damaged"):
        train(tmp_path, lr="auto")
