"""Trainings of a tiny network, some in processes that are killed."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import torch

from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network
from tftas_optuna.retrain.run import train_network
from tftas_optuna.retrain.training import Step

PLAIN = {
    "epochs": 2,
    "batch_size": 8,
    "warmup_epochs": 0,
    "no_aug": True,
    "smoothing": 0.0,
    "log_interval": 1,
}


def train(out: Path, *, network: Network, data: Path, **values: Any) -> dict[str, Any]:
    """Train on one CPU thread.

    ``values`` are a recipe's, options of ``train_network``, or ``splits``: fields of a source.
    """
    torch.set_num_threads(1)
    options = {
        name: values.pop(name)
        for name in (
            "weights",
            "num_classes",
            "workers",
            "callback",
            "tensorboard",
            "told",
            "pause",
        )
        if name in values
    }
    source = DataSource(data, **values.pop("splits", {}))
    recipe = load_recipe("quick", {**PLAIN, **values})
    world = World(torch.device("cpu"))
    return train_network(network, recipe, source, out, world=world, **options)


def train_and_be_killed(steps: int, seconds: float, out: Path, values: dict[str, Any]) -> None:
    """Train, and be killed with all children some time after some steps."""
    os.setsid()
    # Its own processes start in the usual way, not from one more server.
    multiprocessing.set_start_method(None, force=True)
    seen = itertools.count(1)

    def callback(event: object) -> None:
        if isinstance(event, Step) and next(seen) == steps:
            # It comes at any moment: in a step, an evaluation or a checkpoint.
            threading.Timer(seconds, os.killpg, (os.getpid(), signal.SIGKILL)).start()

    train(out, callback=callback, **values)
