"""Networks that start as slices of a trained supernet: the weights that were trained, or none."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from images import COLOURS
from random_studies import random_study
from supernets import PREPROCESSING, train_supernet

from tftas_optuna import Scorer, TftasError, UnavailableError, pareto_front, retrain, search
from tftas_optuna.architecture import Architecture
from tftas_optuna.export.networks import export_network
from tftas_optuna.retrain.network import Network, build_network, candidate_network
from tftas_optuna.retrain.slices import check_fit, fitted, open_for, resolve_weights
from tftas_optuna.retrain.trained import weighted
from tftas_optuna.scoring.conditions import SupernetSource
from tftas_optuna.spaces import AutoFormerSpace, PiTSpace, SearchSpace
from tftas_optuna.study.record import read_settings
from tftas_optuna.supernet.files import read_supernet

NAMES = tuple(sorted(COLOURS))
QUICK: dict[str, Any] = {
    "recipe": "quick",
    "overrides": {"epochs": 1, "warmup_epochs": 0, "batch_size": 24, "no_aug": True},
    "device": "cpu",
}
PIT = PiTSpace(
    name="pools",
    base_dim=(8, 12),
    depth=((1, 2), (1,), (1, 2)),
    num_heads=(1, 2),
    mlp_ratio=(2.0, 3.5),
    patch_size=8,
    stride=8,
    img_size=32,
    num_classes=10,
)


def network_of(space: SearchSpace, arch: Architecture, **fields: Any) -> Network:
    """A network of a study on the drawn supernet of the space."""
    settings = read_settings(random_study(space, 0))
    study = random_study(space, 1)
    (candidate,) = pareto_front(study)
    candidate = dataclasses.replace(candidate, architecture=arch)
    return dataclasses.replace(candidate_network(candidate, settings, "s"), **fields)


def logits(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        output: torch.Tensor = model.eval()(torch.randn(4, 3, 32, 32, generator=generator))
    return output


def expected(space: SearchSpace, folder: Path, arch: Architecture) -> torch.Tensor:
    return logits(Scorer(space, supernet=folder, device="cpu").subnet(arch))


@pytest.fixture(params=["autoformer", "pit"])
def space(request: pytest.FixtureRequest, small_space: AutoFormerSpace) -> SearchSpace:
    return small_space if request.param == "autoformer" else PIT


@pytest.fixture
def shared(small_space: AutoFormerSpace, tmp_path: Path) -> Path:
    return train_supernet(small_space, tmp_path / "shared")


def test_logits_are_those_of_the_slices(space: SearchSpace, tmp_path: Path) -> None:
    folder = train_supernet(space, tmp_path / "shared")
    arch = space.smallest()
    network = network_of(space, arch)
    start = resolve_weights(network, str(folder), None)
    assert start == resolve_weights(network, None, str(folder))
    for model in (
        build_network(network, num_classes=10, weights=start or ""),
        weighted(network, start or "")[0],
    ):
        torch.testing.assert_close(logits(model), expected(space, folder, arch), atol=1e-6, rtol=0)
    assert not torch.allclose(
        logits(build_network(network, num_classes=10, weights="supernet")),
        expected(space, folder, arch),
        atol=1e-3,
    )


@pytest.mark.parametrize("form", ["timm", pytest.param("onnx", marks=pytest.mark.slow)])
def test_exported_logits_are_those_of_the_slices(tmp_path: Path, form: str) -> None:
    folder, arch = train_supernet(PIT, tmp_path / "shared"), PIT.smallest()
    model, trained = weighted(network_of(PIT, arch), SupernetSource.of(folder))
    path, worst = export_network(model, tmp_path / "net", form, trained=trained)
    assert worst < 1e-6
    if form == "timm":
        model = timm.create_model(f"local-dir:{path}", pretrained=True)
    torch.testing.assert_close(logits(model), expected(PIT, folder, arch), atol=1e-6, rtol=0)


def test_images_are_prepared_as_they_were_for_the_supernet(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    names = tuple(f"class {i}" for i in range(10))
    folder = train_supernet(small_space, tmp_path / "shared", class_names=names)
    source = SupernetSource.of(folder)
    model, trained = weighted(network_of(small_space, small_space.smallest()), source)
    config = model.pretrained_cfg
    assert trained and PREPROCESSING.from_dict(config) == PREPROCESSING
    assert config["label_names"] == names


def test_an_exported_network_has_the_sizes_of_its_supernet(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    folder = train_supernet(small_space, tmp_path / "shared", img_size=16, num_classes=3)
    network = network_of(small_space, small_space.smallest())
    model, _ = weighted(network, SupernetSource.of(folder))
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 3)


def test_a_training_starts_from_the_slices(
    small_space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    folder = train_supernet(small_space, tmp_path / "s", num_classes=3, class_names=NAMES)
    study = random_study(small_space, 4)
    best = pareto_front(study)[-1]
    still = {**QUICK["overrides"], "opt": "sgd", "sched": "constant", "lr": 1e-12}
    row = retrain(
        best,
        study=study,
        data_dir=images,
        weights=folder,
        out=tmp_path / "out",
        **{**QUICK, "overrides": still},
    )
    # A rate of nothing leaves the weights where they started.
    kept = torch.load(tmp_path / "out" / row["name"] / "last.pth.tar", weights_only=True)
    slices = Scorer(small_space, supernet=folder, device="cpu").subnet(best.architecture)
    for name, tensor in slices.state_dict().items():
        torch.testing.assert_close(kept["state_dict"][name], tensor, atol=1e-6, rtol=0)
    config = json.loads((tmp_path / "out" / row["name"] / "config.json").read_text())
    assert PREPROCESSING.from_dict(config["pretrained_cfg"]) == PREPROCESSING
    about = yaml.safe_load((tmp_path / "out" / row["name"] / "run.yaml").read_text())
    digest = read_supernet(folder).digest
    assert about["weights"] == f"supernet {digest[:12]}"
    record = study.user_attrs[f"retrained:{best.trial}:{row['trained']}:0"]
    assert record["weights"] == about["weights"]


@pytest.mark.parametrize("names", [("blue", "red", "green"), ("blue", "green", "rot")])
def test_other_classes_are_refused_before_the_first_step(
    small_space: AutoFormerSpace, images: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder = train_supernet(small_space, tmp_path / "s", num_classes=3, class_names=names)
    study = random_study(small_space, 2)
    with pytest.raises(TftasError, match="class [12] of the data is .*, and .* of .*; give"):
        retrain(
            pareto_front(study)[0],
            study=study,
            data_dir=images,
            supernet=folder,
            out=tmp_path / "out",
            **QUICK,
        )
    assert not (tmp_path / "out").exists()


def test_another_number_of_classes_gets_a_new_classifier(
    small_space: AutoFormerSpace, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = network_of(small_space, small_space.smallest())
    with caplog.at_level(logging.WARNING):
        model = build_network(
            network, num_classes=3, weights=SupernetSource.of(shared), class_names=NAMES, seed=4
        )
    assert "has 10 classes and" in caplog.text and "its classifier starts as drawn" in caplog.text
    drawn = build_network(network, num_classes=3, seed=4).state_dict()
    slices = Scorer(small_space, supernet=shared, device="cpu").subnet(network.architecture)
    state = model.state_dict()
    assert torch.equal(state["head.weight"], drawn["head.weight"])
    assert torch.equal(state["cls_token"], slices.state_dict()["cls_token"])
    assert model.pretrained_cfg["label_names"] is None


def test_a_checkpoint_of_autoformer_is_a_supernet(
    small_space: AutoFormerSpace, shared: Path, tmp_path: Path
) -> None:
    tensors = dict(read_supernet(shared).tensors)
    path = tmp_path / "supernet.pth"
    torch.save({"model": tensors, "args": argparse.Namespace(gp=True)}, path)
    arch = small_space.smallest()
    network = network_of(small_space, arch)
    model, trained = weighted(network, resolve_weights(network, str(path), None) or "")
    assert trained
    torch.testing.assert_close(logits(model), expected(small_space, shared, arch))
    # A checkpoint of one network remains that.
    torch.save(model.state_dict(), path)
    assert resolve_weights(network, str(path), None) == str(path)


def test_the_supernet_of_the_study_may_be_a_trained_one(
    small_space: AutoFormerSpace, shared: Path
) -> None:
    study = search(small_space, supernet=shared, n_trials=2, population_size=2)
    (candidate, *_) = pareto_front(study)
    network = candidate_network(candidate, read_settings(study), study.study_name)
    for start in (
        "supernet",
        *(resolve_weights(network, *given) for given in (("supernet", None), (None, "study"))),
    ):
        model, trained = weighted(network, start or "")
        assert trained
        wanted = expected(small_space, shared, candidate.architecture)
        torch.testing.assert_close(logits(model), wanted, atol=1e-6, rtol=0)
    model, trained = weighted(network, resolve_weights(network, None, "drawn") or "")
    assert not trained and not torch.allclose(logits(model), wanted, atol=1e-3)


def test_the_drawn_supernet_of_the_study_has_one_name(small_space: AutoFormerSpace) -> None:
    network = network_of(small_space, small_space.smallest())
    for given in (("supernet", None), (None, "study"), (None, "drawn"), ("supernet", "drawn")):
        assert resolve_weights(network, *given) == "supernet"
    assert resolve_weights(network, None, None) is None
    assert resolve_weights(network, "scratch", None) == "scratch"


@pytest.mark.parametrize(
    ("weights", "supernet", "message"),
    [
        ("scratch", "shared", "weights scratch and supernet shared exclude each other; give one"),
        ("last.pth.tar", "study", "exclude each other"),
        (None, "timm:resnet18", "no plain Vision Transformer"),
        (None, "nowhere", "'nowhere' does not exist"),
    ],
)
def test_sources_that_cannot_be(
    small_space: AutoFormerSpace, weights: str | None, supernet: str, message: str
) -> None:
    with pytest.raises(TftasError, match=message):
        resolve_weights(network_of(small_space, small_space.smallest()), weights, supernet)


def test_what_does_not_fit_is_told_in_one_line(
    small_space: AutoFormerSpace, shared: Path, tmp_path: Path
) -> None:
    source = SupernetSource.of(shared)
    arch = small_space.smallest()
    larger = dataclasses.replace(small_space.largest(), embed_dim=128)
    members = train_supernet(small_space, tmp_path / "members", members=(arch,))
    for network, weights, message in (
        (network_of(PIT, PIT.smallest()), source, "family is pit, the supernet has autoformer"),
        (network_of(small_space, arch, img_size=64), source, "64 pixels, .* 32; give --img-size"),
        (network_of(small_space, arch, in_chans=1), source, "1 channels, .* is trained on 3"),
        (network_of(small_space, larger), source, "embed_dim is 128, the supernet holds at most"),
        (
            network_of(small_space, small_space.largest()),
            SupernetSource.of(members),
            "what lies beyond is untrained",
        ),
        (Network("vit", "vit_tiny_patch16_224"), source, "vit is cut from no supernet"),
    ):
        with pytest.raises(TftasError, match=message) as error:
            check_fit([network], weights)
        assert "\n" not in str(error.value)


def test_a_supernet_that_changed_or_is_gone_is_told(
    small_space: AutoFormerSpace, shared: Path
) -> None:
    network = network_of(small_space, small_space.smallest())
    source = SupernetSource.of(shared)
    again = SupernetSource(0, source.path, source.digest)
    train_supernet(small_space, shared, num_classes=3)
    with pytest.raises(UnavailableError, match="holds other weights than before"):
        open_for(network, again, 10)
    (shared / "supernet.safetensors").unlink()
    with pytest.raises(UnavailableError, match="holds no supernet.safetensors"):
        open_for(fitted(network, source), SupernetSource(0, source.path, source.digest), 10)
