"""Trainings and searches that begin with slices of a larger network of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from larger import SPACE, VIT, keep, vision_transformer
from torch import Tensor, nn

from tftas_optuna import Execution, Scorer, retrain, retrain_shared, search
from tftas_optuna.errors import TftasError
from tftas_optuna.retrain.network import read_model
from tftas_optuna.supernet.files import read_supernet

CPU = Execution(device="cpu")
STILL: dict[str, Any] = {
    "recipe": "quick",
    "overrides": {
        "epochs": 1,
        "warmup_epochs": 0,
        "batch_size": 24,
        "no_aug": True,
        "opt": "sgd",
        "sched": "constant",
        "lr": 1e-12,
    },
    "device": "cpu",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return keep(vision_transformer(), tmp_path_factory.mktemp("vit"), VIT)


def features(model: nn.Module) -> Tensor:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out: Tensor = model.eval().forward_features(images)
    return out


@pytest.mark.parametrize("option", ["weights", "supernet"])
def test_a_training_starts_from_a_slice(
    source: str, images: Path, tmp_path: Path, option: str
) -> None:
    start = f"{source},order=even,blocks=even"
    arch = SPACE.smallest()
    options = {option: start, "img_size": 32, "out": tmp_path}
    result = retrain(arch, data_dir=images, **options, **STILL)
    expected = Scorer(SPACE, supernet=start, device="cpu").subnet(arch)
    torch.testing.assert_close(features(read_model(Path(result["out"]))), features(expected))


def test_a_shared_training_starts_from_it_and_keeps_how_it_is_sliced(
    source: str, images: Path, tmp_path: Path
) -> None:
    start = f"{source},blocks=even"
    members = [SPACE.smallest(), SPACE.largest()]
    result = retrain_shared(
        members, space=SPACE, supernet=start, data_dir=images, out=tmp_path, **STILL
    )
    kept = read_supernet(result["out"])
    assert (kept.slicing.blocks, kept.slicing.qkv_bias) == ("even", "rows")
    assert kept.num_classes == 3
    trained, first = (
        Scorer(SPACE, supernet=name, device="cpu") for name in (result["out"], start)
    )
    for arch in members:
        torch.testing.assert_close(features(trained.subnet(arch)), features(first.subnet(arch)))


def test_a_search_goes_on_with_the_same_arrangement_only(source: str, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    options: dict[str, Any] = {"storage": storage, "study_name": "s", "execution": CPU}
    whole = search(SPACE, n_trials=12, supernet=source, execution=CPU)
    search(SPACE, n_trials=6, supernet=source, **options)
    study = search(SPACE, n_trials=6, supernet=f"{source},order=even", **options)
    assert [trial.values for trial in study.trials] == [trial.values for trial in whole.trials]
    with pytest.raises(TftasError, match="order=even,.* not .*order=first,"):
        search(SPACE, n_trials=6, supernet=f"{source},order=first", **options)
    assert len(optuna.load_study(study_name="s", storage=storage).trials) == 12


def test_accuracy_needs_the_classifier_that_was_trained(source: str, images: Path) -> None:
    with pytest.raises(TftasError, match="needs a trained classifier"):
        search(
            SPACE,
            n_trials=2,
            supernet=source,
            num_classes=3,
            data_dir=images,
            objectives=["accuracy", "n_params"],
            execution=CPU,
        )
