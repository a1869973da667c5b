"""A training takes the threads that its passes are worth, and gives them back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from trainings import PLAIN

from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain import run as training_run
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network


@pytest.mark.parametrize(("worth", "expected"), [(None, 1), (1.0, 4)], ids=["usual", "all"])
def test_threads_of_a_training(
    tiny: Network,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    worth: float | None,
    expected: int,
) -> None:
    """Where one multiply-add were worth a thread, a training would have all that there are."""
    if worth is not None:
        monkeypatch.setattr("tftas_optuna.devices._MACS_PER_THREAD", worth)
    seen: set[int] = set()
    forward = nn.Linear.forward

    def look(self: nn.Linear, values: torch.Tensor) -> torch.Tensor:
        if self.training:
            seen.add(torch.get_num_threads())
        return forward(self, values)

    monkeypatch.setattr(nn.Linear, "forward", look)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        training_run.train_network(
            tiny,
            load_recipe("quick", {**PLAIN, "epochs": 1}),
            DataSource(images),
            tmp_path / "out",
            world=World(torch.device("cpu")),
        )
        left = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert seen == {expected} and left == 4
