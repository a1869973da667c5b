"""Networks of timm's own classes are trained, kept and found again as those of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer

from tftas_optuna import AutoFormerArchitecture, PiTArchitecture, Scorer, build_model, get_space
from tftas_optuna.architecture import Architecture
from tftas_optuna.errors import UnavailableError
from tftas_optuna.export.networks import export_network, save_timm
from tftas_optuna.retrain.deployed import open_network
from tftas_optuna.retrain.network import (
    Network,
    build_network,
    candidate_network,
    read_model,
    resolve_architecture,
    resolve_network,
)
from tftas_optuna.retrain.trained import weighted
from tftas_optuna.search.api import search
from tftas_optuna.study.front import pareto_front
from tftas_optuna.study.record import read_settings

VIT = AutoFormerArchitecture(
    16,
    (2, 2),
    (1.5, 1.5),
    head_dim=8,
    patch_size=4,
    relative_position=False,
    global_pool="token",
    layer_norm_eps=1e-6,
)
PIT = PiTArchitecture(8, (1, 1), (1, 2), 1.5, patch_size=4, stride=2)


@pytest.mark.parametrize(
    ("arch", "name", "kind"),
    [
        (VIT, "vit_small_patch16_224", VisionTransformer),
        (PIT, "pit_ti_224", PoolingVisionTransformer),
    ],
    ids=["vit", "pit"],
)
def test_what_a_training_leaves_is_timms_and_known_by_its_architecture(
    arch: Architecture, name: str, kind: type, train: Any, tmp_path: Path
) -> None:
    out, network = tmp_path / "out", Network("one", f"tftas_{arch.family}", arch, img_size=8)
    with pytest.raises(RuntimeError, match="stop"):
        train(out, network=network, epochs=2, drop_path=0.1, callback=_stop_in_second_epoch)
    result = train(out, network=network, epochs=2, drop_path=0.1)
    assert result["epochs"] == 2
    # As in release 0.2.0, which continues trainings of its own by this name.
    about = yaml.safe_load((out / "run.yaml").read_text())
    assert about["network"]["model"] == f"tftas_{arch.family}"
    config = json.loads((out / "config.json").read_text())
    assert config["architecture"] == name and Architecture.from_dict(config["arch"]) == arch
    model = timm.create_model(f"local-dir:{out}", pretrained=True)
    assert type(model) is kind

    assert resolve_architecture(str(out)) == arch
    again = resolve_network(out)
    assert (again.model, again.img_size, again.num_classes) == (network.model, 8, 3)
    start = build_network(again, num_classes=3, weights=str(out))
    for loaded in (weighted(network, str(out))[0], read_model(out), start):
        assert type(loaded) is kind and loaded.architecture == arch
        assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))
    deployed, images = open_network(out, "cpu"), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(deployed.logits(images), model.eval()(images).detach())
    path, _ = export_network(read_model(out), tmp_path / "copy", "timm", trained=True)
    assert json.loads((path / "config.json").read_text())["arch"] == arch.to_dict()


def _stop_in_second_epoch(event: Any) -> None:
    if getattr(event, "epoch", 0) == 1:
        raise RuntimeError("stop")


def test_a_directory_of_our_class_holds_the_same_network(tmp_path: Path) -> None:
    """As release 0.2.0 left them of every PiT."""
    model = build_model(PIT, img_size=8, num_classes=3, stock=False)
    save_timm(model, tmp_path, trained=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "tftas_pit" and "arch" not in config
    network = Network("one", "tftas_pit", PIT, img_size=8)
    loaded, trained = weighted(network, str(tmp_path))
    assert trained and loaded.architecture == PIT
    other = Network("other", "tftas_autoformer", VIT, img_size=8)
    with pytest.raises(UnavailableError, match="holds another network than other"):
        weighted(other, str(tmp_path))
    # The same weights in timm's class.
    stock = build_network(network, num_classes=3, weights=str(tmp_path))
    assert type(stock) is PoolingVisionTransformer
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(stock.eval()(images), model.eval()(images))


def test_slices_of_a_supernet_are_its_first_weights() -> None:
    space = get_space(
        {
            "name": "small",
            "family": "autoformer",
            "embed_dim": [16, 32],
            "depth": [1, 2],
            "mlp_ratio": [1, 2],
            "shared": ["mlp_ratio"],
            "head_dim": 8,
            "patch_size": 4,
            "relative_position": False,
            "global_pool": "token",
            "layer_norm_eps": 1e-6,
            "img_size": 8,
            "num_classes": 3,
        }
    )
    study = search(space, n_trials=8, objectives=("dss", "n_params"))
    assert study.trials[0].params.keys() == {"embed_dim", "depth", "mlp_ratio"}
    settings, scorer = read_settings(study), Scorer(space, device="cpu")
    assert settings.space == space
    for candidate in pareto_front(study):
        network = candidate_network(candidate, settings, study.study_name)
        model = build_network(network, num_classes=3, weights="supernet")
        assert type(model) is VisionTransformer
        sliced = scorer.subnet(candidate.architecture).state_dict()
        assert all(torch.equal(sliced[name], w) for name, w in model.state_dict().items())
        assert type(candidate.build()) is VisionTransformer
