"""Private parts of timm that trainings use, checked before use."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
from typing import Any

import timm
from PIL import Image
from timm.data import auto_augment
from timm.utils import CheckpointSaver

from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.folder import BEST, LAST

_TRIED = "1.0.31"
_HOOKS = {
    "_replace": ["src", "dst"],
    "_duplicate": ["src", "dst"],
    "_checkpoint_path": ["epoch"],
    "_cleanup_checkpoints": ["trim"],
    "_track_checkpoint": ["save_path", "epoch", "metric"],
}


class WholeFileSaver(CheckpointSaver):
    """timm's saver, with files that are whole at any moment.

    timm unlinks a file before it renames the next one to its name; in between there is no last
    checkpoint.

    Raises:
        UnavailableError: timm's saver no longer uses the methods that are replaced here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _check_hooks()
        super().__init__(*args, **kwargs)

    def rank_last(self, epoch: int, metric: float) -> None:
        """Rank the last checkpoint if a kill came after it was written and before its copies."""
        last, path = os.path.join(self.checkpoint_dir, LAST), self._checkpoint_path(epoch)
        if os.path.exists(path):
            if self.best_epoch == epoch:
                self._duplicate(last, os.path.join(self.checkpoint_dir, BEST))
            return
        full = len(self.checkpoint_files) >= self.max_history
        if full and not self.cmp(metric, self.checkpoint_files[-1][1]):
            return
        if full:
            self._cleanup_checkpoints(1)
        self._duplicate(last, path)
        self._track_checkpoint(path, epoch, metric)

    def _replace(self, src: str, dst: str) -> None:
        os.replace(src, dst)

    def _duplicate(self, src: str, dst: str) -> None:
        if os.path.exists(dst) and os.path.samefile(src, dst):
            # Renaming one link to another of the same file leaves both.
            return
        scratch = dst + ".tmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        try:
            os.link(src, scratch)
        except OSError:
            shutil.copy2(src, scratch)
        os.replace(scratch, dst)


def mend_posterize(transform: Any) -> None:
    """Let the policies of a training transform posterize to 0 bits, which is black.

    timm asks for 0 bits at the highest level; Pillow 13 refuses it, and earlier ones return black.

    Args:
        transform: The transform that timm made; it is changed in place.
    """
    for part in getattr(transform, "transforms", ()):
        for entry in (*getattr(part, "ops", ()), *getattr(part, "policy", ())):
            for op in entry if isinstance(entry, list | tuple) else (entry,):
                if getattr(op, "aug_fn", None) is auto_augment.posterize:
                    op.aug_fn = _posterize


def _posterize(image: Image.Image, bits_to_keep: int, **options: Any) -> Image.Image:
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    posterized: Image.Image = auto_augment.posterize(image, bits_to_keep, **options)
    return posterized


def _check_hooks() -> None:
    used = CheckpointSaver.save_checkpoint.__code__.co_names
    for name, expected in _HOOKS.items():
        hook = getattr(CheckpointSaver, name, None)
        names = [] if hook is None else list(inspect.signature(hook).parameters)[1:]
        if names[: len(expected)] != expected or name not in used:
            raise UnavailableError(
                f"timm {timm.__version__} no longer saves checkpoints through"
                f" CheckpointSaver.{name}({', '.join(expected)}); tftas-optuna was tried with"
                f" {_TRIED}: install that (pip install 'timm=={_TRIED}'), or a newer tftas-optuna"
            )
