from __future__ import annotations

import csv
import dataclasses
import io
import json
import random
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from processes import CONTEXT
from programs import Begin, end_together
from trainings import train_and_be_killed

from tftas_optuna import Scorer, TftasError
from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network, build_network, candidate_network
from tftas_optuna.retrain.run import Epoch, train_network
from tftas_optuna.search.api import search
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.front import pareto_front
from tftas_optuna.study.record import read_settings

# Everything that holds a state or draws a number.
FULL = {
    "epochs": 6,
    "warmup_epochs": 1,
    "no_aug": False,
    "hflip": 0.5,
    "color_jitter": 0.3,
    "reprob": 0.3,
    "remode": "pixel",
    "mixup": 0.4,
    "cutmix": 0.4,
    "mixup_off_epoch": 4,
    "smoothing": 0.1,
    "drop": 0.1,
    "drop_path": 0.2,
    "model_ema": True,
    "model_ema_decay": 0.9,
    "clip_grad": 1.0,
    "checkpoint_hist": 2,
    "workers": 1,
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]


def losses(out: Path) -> list[float]:
    return [float(row["loss"]) for row in rows(out / "steps.csv")]


def test_a_network_learns_and_is_left_as_a_timm_model(
    train: Any, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = train(out, epochs=8)
    assert result["top1"] == 100.0 and result["n_train"] == 72 and result["n_val"] == 21
    table = rows(out / "metrics.csv")
    assert [int(row["epoch"]) for row in table] == list(range(8))
    assert float(table[-1]["train_loss"]) < 0.5 * float(table[0]["train_loss"])
    assert len(losses(out)) == 8 * 9
    assert json.loads((out / "result.json").read_text()) == result
    assert load_recipe(out / "recipe.yaml").to_dict() == yaml.safe_load(
        (out / "recipe.yaml").read_text()
    )
    about = yaml.safe_load((out / "run.yaml").read_text())
    assert about["versions"]["timm"] == timm.__version__ and about["num_classes"] == 3

    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    assert model.pretrained_cfg["label_names"] == ["blue", "green", "red"]
    correct = 0
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    dataset = timm.data.create_dataset("", str(images / "val"), transform=transform)
    dataset.transform = transform
    with torch.no_grad():
        for image, label in dataset:
            correct += int(model(image[None]).argmax()) == label
    assert correct == 21
    assert train(out, epochs=8) == result


def test_killed_three_times_it_ends_with_the_same_metrics(
    train: Any, tiny: Network, images: Path, tmp_path: Path
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    result = train(whole, **FULL)
    rng = random.Random(3)
    values = {"network": tiny, "data": images, **FULL}
    for _ in range(3):
        # Nine steps make an epoch: none of the three gets beyond its second.
        fate = (rng.randrange(3, 14), rng.uniform(0, 0.05), torn, values)
        process = CONTEXT.Process(target=train_and_be_killed, args=fate)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    resumed = train(torn, **FULL)
    assert {**resumed, "seconds": 0} == {**result, "seconds": 0}
    for name in ("metrics.csv", "steps.csv"):
        assert rows(torn / name) == rows(whole / name)
    ours, theirs = (
        timm.models.load_state_dict(f"{out}/model.safetensors") for out in (whole, torn)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    kept = sorted(path.name for path in torn.glob("*.pth.tar"))
    assert kept == sorted(path.name for path in whole.glob("*.pth.tar"))
    assert len(kept) == 4


def test_killed_between_a_checkpoint_and_its_copies(train: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(event: object) -> None:
        if isinstance(event, Epoch):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(out, callback=stop)
    for name in ("model_best.pth.tar", "checkpoint-0.pth.tar"):
        (out / name).unlink()
    with pytest.raises(KeyboardInterrupt):
        train(out, callback=stop)
    assert (out / "model_best.pth.tar").exists()
    assert len(rows(out / "metrics.csv")) == 2


def test_accumulated_steps_make_one_batch(train: Any, tmp_path: Path) -> None:
    train(tmp_path / "whole", batch_size=16)
    train(tmp_path / "parts", batch_size=16, grad_accum_steps=4)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    assert len(losses(tmp_path / "parts")) == 8


def test_half_precision_follows_full(train: Any, tmp_path: Path) -> None:
    train(tmp_path / "full")
    train(tmp_path / "half", amp="bfloat16")
    full, half = losses(tmp_path / "full"), losses(tmp_path / "half")
    assert half == pytest.approx(full, rel=0.05) and half != full


def test_a_student_that_is_its_teacher_has_nothing_to_learn(train: Any, tmp_path: Path) -> None:
    train(tmp_path / "teacher", epochs=4)
    teacher = f"local-dir:{tmp_path / 'teacher'}"
    distilled = {"teacher": teacher, "distillation_alpha": 1.0, "distillation_tau": 2.0}
    train(tmp_path / "same", weights=str(tmp_path / "teacher"), **distilled)
    assert losses(tmp_path / "same")[0] == pytest.approx(0, abs=1e-6)
    train(tmp_path / "fresh", **distilled)
    assert losses(tmp_path / "fresh")[0] > 0.05
    with pytest.raises(UnavailableError, match="teacher nonesuch cannot be loaded"):
        train(tmp_path / "none", teacher="nonesuch")
    other = dataclasses.replace(_network_of(tmp_path / "teacher"), img_size=16)
    with pytest.raises(UnavailableError, match="does not take images of 3x16x16"):
        train(tmp_path / "large", network=other, **distilled)


def _network_of(out: Path) -> Network:
    from tftas_optuna import Architecture

    about = yaml.safe_load((out / "run.yaml").read_text())["network"]
    return Network("tiny", about["model"], Architecture.from_dict(about["architecture"]), 8)


def test_starting_from_the_supernet(small_space: AutoFormerSpace) -> None:
    study = search(small_space, n_trials=4, population_size=4, img_size=32, seed=5)
    settings, (candidate, *_) = read_settings(study), pareto_front(study)
    network = candidate_network(candidate, settings, "s")
    model = build_network(network, num_classes=10, weights="supernet").eval()
    scorer = Scorer(small_space, seed=5, img_size=32, num_classes=10, device="cpu")
    images = torch.randn(2, 3, 32, 32)
    expected = scorer.subnet(candidate.architecture)(images)
    torch.testing.assert_close(model(images), expected)
    assert not torch.allclose(build_network(network, num_classes=10)(images), expected)


def test_starting_from_a_checkpoint(train: Any, tiny: Network, tmp_path: Path) -> None:
    train(tmp_path / "out", epochs=1, model_ema=True)
    final = timm.models.load_state_dict(str(tmp_path / "out" / "model.safetensors"))
    for source in ("out", "out/model.safetensors", "out/last.pth.tar", "out/model_best.pth.tar"):
        state = build_network(tiny, num_classes=3, weights=str(tmp_path / source)).state_dict()
        assert all(torch.equal(state[name], final[name]) for name in final)
    other = build_network(tiny, num_classes=5, weights=str(tmp_path / "out"))
    assert other.head.out_features == 5
    assert torch.equal(other.state_dict()["cls_token"], final["cls_token"])


def test_the_seed_decides(train: Any, tmp_path: Path) -> None:
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / out, epochs=1, seed=seed)
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


def test_a_timm_model_for_comparison(train: Any, tmp_path: Path) -> None:
    result = train(tmp_path / "out", network=Network("t", "test_vit", img_size=32), epochs=1)
    assert result["n_params"] > 300_000
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert model.num_classes == 3
    # Its own training was at 160 pixels, and it takes images of any size.
    assert timm.data.resolve_data_config(model=model)["input_size"] == (3, 32, 32)


def test_grey_images(train: Any, tiny: Network, tmp_path: Path) -> None:
    grey = dataclasses.replace(tiny, in_chans=1)
    assert (
        train(tmp_path / "out", network=grey, epochs=1)["n_params"]
        == -16 * 16 * 2 + (train(tmp_path / "rgb", epochs=1)["n_params"])
    )
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 3)


def test_a_data_set_of_torchvision(images: Path, tiny: Network, tmp_path: Path) -> None:
    source = DataSource(images, dataset="torch/image_folder", val_split="val")
    recipe = load_recipe("quick", {"epochs": 1, "warmup_epochs": 0, "batch_size": 8})
    world = World(torch.device("cpu"))
    result = train_network(tiny, recipe, source, tmp_path / "out", world=world)
    assert (result["n_train"], result["n_val"]) == (72, 21)


def test_a_data_set_in_shards(images: Path, tiny: Network, tmp_path: Path) -> None:
    for split in ("train", "val"):
        files = sorted((images / split).glob("*/*"))
        classes = sorted({file.parent.name for file in files})
        with tarfile.open(tmp_path / f"{split}.tar", "w") as shard:
            for number, file in enumerate(files):
                shard.add(file, f"{number:05d}{file.suffix}")
                label = str(classes.index(file.parent.name)).encode()
                entry = tarfile.TarInfo(f"{number:05d}.cls")
                entry.size = len(label)
                shard.addfile(entry, io.BytesIO(label))
    counts = {"train": 72, "val": 21}
    splits = {
        split: {
            "name": split,
            "num_samples": count,
            "filenames": [f"{split}.tar"],
            "shard_lengths": [count],
        }
        for split, count in counts.items()
    }
    (tmp_path / "_info.json").write_text(json.dumps({"name": "drawn", "splits": splits}))
    source = DataSource(tmp_path, dataset="wds/drawn", val_split="val")
    recipe = load_recipe("quick", {"epochs": 1, "warmup_epochs": 0, "batch_size": 8})
    world = World(torch.device("cpu"))

    def run(**options: Any) -> dict[str, Any]:
        return train_network(tiny, recipe, source, tmp_path / "out", world=world, **options)

    with pytest.raises(TftasError, match="wds/drawn does not list its classes; give --num-class"):
        run(workers=1)
    with pytest.raises(UnavailableError, match="ran out in the middle of an epoch; .* --workers"):
        run(num_classes=3, workers=2)
    assert run(num_classes=3, workers=1)["n_val"] == 21


def test_tensorboard_sees_the_same(train: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "out", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    seen = [event.value for event in events.Scalars("epoch/loss")]
    table = [float(row["loss"]) for row in rows(tmp_path / "out" / "metrics.csv")]
    assert seen == pytest.approx(table)
    assert len(events.Scalars("step/loss")) == 18


def test_two_processes_match_one_with_the_doubled_batch(
    train: Any, images: Path, tiny: Network, begin: Begin, tmp_path: Path
) -> None:
    arch = tmp_path / "tiny.yaml"
    assert tiny.architecture is not None
    arch.write_text(
        yaml.safe_dump({"architecture": tiny.architecture.to_dict(), "model": {"img_size": 8}})
    )
    command = (
        *("retrain", str(arch), "--data-dir", str(images), "--recipe", "quick", "--epochs", "2"),
        *("--batch-size", "16", "--device", "cpu", "--set", "warmup_epochs=0"),
        *("--set", "no_aug=true", "--set", "smoothing=0", "--set", "log_interval=1"),
        *("--workers", "0", "--out", str(tmp_path / "two")),
    )
    done = end_together(begin, tmp_path, *command)
    assert [each.returncode for each in done] == [0, 0], done
    assert ["Trained on" in each.stdout for each in done] == [True, False]
    train(tmp_path / "one", batch_size=16)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two" / "tiny")
    assert len(two) == 8 and two == pytest.approx(one, rel=1e-5)
    table = [rows(path / "metrics.csv")[-1] for path in (tmp_path / "one", tmp_path / "two/tiny")]
    assert float(table[0]["loss"]) == pytest.approx(float(table[1]["loss"]), rel=1e-4)
    assert table[0]["top1"] == table[1]["top1"]
