"""Checkpoints that survive a kill at any moment, on timm's ``CheckpointSaver``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tftas_optuna._reading import reading
from tftas_optuna.errors import UnavailableError, first_line
from tftas_optuna.retrain._timm import WholeFileSaver
from tftas_optuna.retrain.folder import LAST

if TYPE_CHECKING:
    from torch import nn

_REMEDY = "delete it to start again, or copy another checkpoint of this directory there"
_EXPECTED = ("epoch", "state_dict", "optimizer", "saver")


class Checkpoints(WholeFileSaver):
    """The last checkpoint of a training, its best ones, and their history."""

    def save(self, epoch: int, metric: float) -> None:
        """Save the state after an epoch.

        Raises:
            UnavailableError: The disk is full; the checkpoint before is kept.
        """
        scratch = os.path.join(self.checkpoint_dir, "tmp" + self.extension)
        try:
            # PyTorch would follow a link there.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)
            self.save_checkpoint(epoch, metric)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                os.unlink(scratch)
            raise UnavailableError(
                f"{self.checkpoint_dir}: the checkpoint of epoch {epoch} cannot be written"
                f" ({first_line(error)}); the one before is kept, go on with the same command"
            ) from error

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the history of a loaded checkpoint."""
        self.load_state_dict(state["saver"])
        epoch, metric = state["saver"]["pending"]
        self.rank_last(epoch, metric)


def read_last(folder: Path) -> dict[str, Any] | None:
    """Read the last checkpoint of a training, without unpickling anything but tensors.

    Returns:
        What timm's saver wrote, or None before the first one.

    Raises:
        UnavailableError: It is damaged.
    """
    path = folder / LAST
    if not path.exists():
        return None
    with reading(path, lambda reason: f"{path} cannot be used ({reason}); {_REMEDY}"):
        state = torch.load(path, map_location="cpu", weights_only=True)
        missing = [name for name in _EXPECTED if name not in state]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
    loaded: dict[str, Any] = state
    return loaded


def checkpoint_bytes(model: nn.Module, *, history: int, ema: bool) -> int:
    """Estimate the size of all checkpoints of a training together, in bytes.

    Each holds the weights, the two moments of an Adam-like optimizer and maybe the averaged
    weights; there are ``history`` ranked ones, the best, the last, and the next one being written.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return weights * (4 if ema else 3) * (history + 3)
