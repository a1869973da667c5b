from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.utils import CheckpointSaver

from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.checkpoints import Checkpoints, checkpoint_bytes, read_last

Train = Callable[..., dict[str, Any]]


def saver_of(folder: Path, history: int = 2) -> Checkpoints:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Checkpoints(model, optimizer, checkpoint_dir=str(folder), max_history=history)


def resume(folder: Path) -> Checkpoints:
    state, saver = read_last(folder), saver_of(folder)
    assert state is not None
    saver.restore(state)
    return saver


def epoch_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["epoch"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_link_in_the_place_of_the_next_checkpoint_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "tmp.pth.tar").symlink_to(victim)
    saver_of(tmp_path).save(0, 50.0)
    assert victim.read_text() == "precious"
    assert epoch_of(tmp_path / "last.pth.tar") == 0


@pytest.mark.parametrize("metrics", [(50.0, 40.0), (40.0, 50.0)])
def test_a_kill_before_the_ranked_copy(metrics: tuple[float, ...], tmp_path: Path) -> None:
    saver = saver_of(tmp_path)
    for epoch, metric in enumerate(metrics):
        saver.save(epoch, metric)
    before = names(tmp_path)
    (tmp_path / "checkpoint-1.pth.tar").unlink()
    resumed = resume(tmp_path)
    assert names(tmp_path) == before
    assert resumed.checkpoint_files == saver.checkpoint_files
    assert (resumed.best_epoch, resumed.best_metric) == (saver.best_epoch, saver.best_metric)


def test_a_kill_before_the_copy_of_the_best(tmp_path: Path) -> None:
    saver = saver_of(tmp_path)
    saver.save(0, 40.0)
    shutil.copy(tmp_path / "model_best.pth.tar", tmp_path / "before")
    saver.save(1, 50.0)
    (tmp_path / "before").replace(tmp_path / "model_best.pth.tar")
    resume(tmp_path)
    assert epoch_of(tmp_path / "model_best.pth.tar") == 1


def test_a_kill_before_the_worst_is_dropped(tmp_path: Path) -> None:
    saver = saver_of(tmp_path)
    for epoch, metric in enumerate((40.0, 50.0)):
        saver.save(epoch, metric)
    shutil.copy(tmp_path / "checkpoint-0.pth.tar", tmp_path / "before")
    saver.save(2, 60.0)
    (tmp_path / "before").replace(tmp_path / "checkpoint-0.pth.tar")
    (tmp_path / "checkpoint-2.pth.tar").unlink()
    resume(tmp_path)
    assert [path.stem for path in sorted(tmp_path.glob("checkpoint-*"))] == [
        "checkpoint-1.pth",
        "checkpoint-2.pth",
    ]


def test_one_that_is_among_the_worst_stays_unranked(tmp_path: Path) -> None:
    saver = saver_of(tmp_path)
    for epoch, metric in enumerate((60.0, 50.0, 40.0)):
        saver.save(epoch, metric)
    before = names(tmp_path)
    assert resume(tmp_path).checkpoint_files == saver.checkpoint_files
    assert names(tmp_path) == before and epoch_of(tmp_path / "last.pth.tar") == 2


def test_there_is_a_last_checkpoint_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = saver_of(tmp_path)
    saver.save(0, 40.0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        saver.save(1, 50.0)
    for name in ("last.pth.tar", "model_best.pth.tar", "checkpoint-0.pth.tar"):
        assert epoch_of(tmp_path / name) == 0


def test_a_timm_that_saves_another_way_is_named(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm, "__version__", "9.9.9")
    # There under the same name, and with other arguments.
    monkeypatch.setattr(CheckpointSaver, "_duplicate", lambda self, dst, src: None)
    with pytest.raises(UnavailableError, match=r"timm 9\.9\.9 no longer .*\._duplicate\(src, dst"):
        train(tmp_path / "out")
    monkeypatch.undo()
    # There, and no longer asked.
    monkeypatch.setattr(CheckpointSaver, "save_checkpoint", lambda self, epoch, metric: None)
    with pytest.raises(UnavailableError, match=r"was tried with .*: install that \(pip install"):
        saver_of(tmp_path)
    monkeypatch.undo()
    monkeypatch.delattr(CheckpointSaver, "_track_checkpoint")
    with pytest.raises(UnavailableError, match=f"timm {timm.__version__} no longer .*_track_che"):
        saver_of(tmp_path)


@pytest.mark.parametrize("ema", [False, True])
def test_the_room_that_checkpoints_take_is_known_before(ema: bool, tmp_path: Path) -> None:
    model = torch.nn.Linear(256, 256)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 256)).sum().backward()
    optimizer.step()
    averaged = torch.nn.Linear(256, 256) if ema else None
    saver = Checkpoints(
        model, optimizer, model_ema=averaged, checkpoint_dir=str(tmp_path), max_history=2
    )
    saver.save(0, 1.0)
    one = (tmp_path / "last.pth.tar").stat().st_size
    # Two ranked ones, the best, the last, and the next one while it is written.
    assert checkpoint_bytes(model, history=2, ema=ema) == pytest.approx(5 * one, rel=0.02)
