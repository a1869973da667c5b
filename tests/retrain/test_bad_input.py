from __future__ import annotations

import dataclasses
import os
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from images import draw_images

from tftas_optuna import TftasError, pareto_front, search
from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain import folder
from tftas_optuna.retrain.network import (
    Network,
    build_network,
    candidate_network,
    read_model,
    resolve_network,
)
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.record import read_settings

Train = Callable[..., dict[str, Any]]


def test_missing_data(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="data directory .*none does not exist; give"):
        train(tmp_path / "out", data=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UnavailableError, match="empty has no folder train; its folders: none; give"
    ):
        train(tmp_path / "out", data=tmp_path / "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_that_only_one_split_has(train: Train, tmp_path: Path, split: str) -> None:
    data = draw_images(tmp_path / "data", train=8, val=2)
    shutil.rmtree(data / split / "green")
    with pytest.raises(UnavailableError, match="only one of them has 'green'"):
        train(tmp_path / "out", data=data)
    assert not (tmp_path / "out").exists()


def test_wrong_number_of_classes(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TftasError, match="--num-classes is 10, but .* has 3 classes"):
        train(tmp_path / "out", num_classes=10)
    assert not (tmp_path / "out").exists()


def test_fewer_images_than_a_batch(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="has 72 images to train on, fewer than one batch"):
        train(tmp_path / "out", batch_size=80)


def test_batches_that_cannot_be_shared(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TftasError, match="batch_size 8 cannot be shared .* a multiple of 3"):
        train(tmp_path / "out", grad_accum_steps=3)
    with pytest.raises(TftasError, match="even number of images at a time, not 1"):
        train(tmp_path / "out", grad_accum_steps=8, mixup=0.2)
    with pytest.raises(TftasError, match="amp float16 needs CUDA"):
        train(tmp_path / "out", amp="float16")
    with pytest.raises(TftasError, match="opt 'nonesuch' cannot be made"):
        train(tmp_path / "out", opt="nonesuch")


def test_another_training_in_the_way(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(out, epochs=1)
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UnavailableError, match="holds a training with seed 0, not 1; use the"):
        train(out, epochs=1, seed=1)
    with pytest.raises(UnavailableError, match="with weights 'scratch', not '.*; use the same"):
        train(out, epochs=1, weights=str(out))
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UnavailableError, match="mine is in the way: it holds other files"):
        train(tmp_path / "mine")
    with pytest.raises(UnavailableError, match="notes.txt is in the way: not a directory"):
        train(tmp_path / "mine" / "notes.txt")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_damaged_last_checkpoint(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(out, epochs=1)
    (out / "result.json").unlink()
    last = out / "last.pth.tar"
    whole = last.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        last.unlink()
        last.write_bytes(damaged)
        with pytest.raises(UnavailableError, match="last.pth.tar cannot be used .*; delete it to"):
            train(out, epochs=1)
        assert last.read_bytes() == damaged
    last.unlink()
    torch.save({"epoch": 0}, last)
    with pytest.raises(UnavailableError, match="it has no state_dict"):
        train(out, epochs=1)


def test_weights_that_do_not_fit(tiny: Network, tmp_path: Path) -> None:
    def start(weights: str) -> None:
        build_network(tiny, num_classes=3, weights=weights)

    with pytest.raises(
        UnavailableError,
        match="weights .*none.pth do not exist; give a checkpoint, a directory of",
    ):
        start(str(tmp_path / "none.pth"))
    for name in ("bad.pth", "bad.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x04nonsense")
        with pytest.raises(UnavailableError, match=f"{name} is no readable checkpoint"):
            start(str(tmp_path / name))
    torch.save({"cls_token": torch.zeros(1, 1, 99)}, tmp_path / "other.pth")
    with pytest.raises(UnavailableError, match="other.pth holds other weights: blocks.0"):
        start(str(tmp_path / "other.pth"))
    torch.save({"code": os.system}, tmp_path / "evil.pth")
    with pytest.raises(UnavailableError, match="evil.pth is no readable checkpoint"):
        start(str(tmp_path / "evil.pth"))
    with pytest.raises(TftasError, match="tiny comes from no study, so it has no supernet"):
        start("supernet")
    with pytest.raises(TftasError, match="has no pretrained weights"):
        start("pretrained")


def test_networks_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        TftasError, match="'nonesuch' is neither a file, a directory, a timm model, nor one"
    ):
        resolve_network("nonesuch")
    with pytest.raises(UnavailableError, match="missing.yaml: cannot be read"):
        resolve_network(str(tmp_path / "missing.yaml"))
    with pytest.raises(UnavailableError, match="holds no config.json"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "nonesuch", "pretrained_cfg": {}}')
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        read_model(tmp_path)


def test_a_space_named_by_an_attacker_stays_inside(small_space: AutoFormerSpace) -> None:
    study = search(small_space, n_trials=2, population_size=2, img_size=32)
    (candidate, *_) = pareto_front(study)
    settings = read_settings(study)
    evil = dataclasses.replace(small_space, name="../../evil")
    conditions = dataclasses.replace(settings.conditions, space=evil)
    settings = dataclasses.replace(settings, conditions=conditions)
    assert candidate_network(candidate, settings, "s").label == f"evil-trial{candidate.trial:05d}"


def test_too_little_disk(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UnavailableError, match="the checkpoints take 0 MB and 0 MB are free"):
        train(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fill(event: object) -> None:
        if getattr(event, "row", {}).get("epoch") == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UnavailableError, match="checkpoint of epoch 1 cannot be written"):
            train(out, callback=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.load(out / "last.pth.tar", weights_only=True)["epoch"] == 0
    assert not (out / "tmp.pth.tar").exists() and not (out / "result.json").exists()
    assert train(out)["epochs"] == 2


def test_a_loss_that_explodes(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"the training loss is nan in epoch 0\. .* lower"):
        train(tmp_path / "out", lr=1e30, opt="sgd")
    assert not (tmp_path / "out" / "last.pth.tar").exists()


def test_what_is_advised_after_an_explosion_trains(train: Train, tmp_path: Path) -> None:
    wild = {"lr": 30.0, "lr_base_size": None, "opt": "sgd"}
    with pytest.raises(UnavailableError) as caught:
        train(tmp_path / "out", **wild)
    advice = re.fullmatch(
        r"the training loss is nan in epoch \d.*\. Begin again with a lower --lr or"
        r" --set (\w+)=(\S+), and another --out",
        str(caught.value),
    )
    assert advice is not None
    found = train(tmp_path / "another", **wild, **{advice[1]: float(advice[2])})
    assert found["epochs"] == 2


def test_a_training_that_clips_is_not_told_to_clip(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="Begin again with a lower --lr, and another --out"):
        train(tmp_path / "out", lr=1e30, opt="sgd", clip_grad=1.0)
