"""Spaces around networks of timm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm

from tftas_optuna import PiTSpace, Scorer, TftasError, score_model
from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.export.networks import save_timm
from tftas_optuna.spaces import get_space


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Small networks of timm in directories: a ViT, a PiT, and one without classes."""
    networks: dict[str, dict[str, Any]] = {
        "vit": {"embed_dim": 40, "depth": 3, "num_heads": 5, "mlp_ratio": 2.25},
        "featureless": {"embed_dim": 16, "depth": 1, "num_heads": 1, "num_classes": 0},
        "pit": {"base_dims": [24] * 2, "depth": [1, 3], "heads": [1, 4], "mlp_ratio": 2},
    }
    folders = {}
    for name, arguments in networks.items():
        folder = tmp_path_factory.mktemp(name) / name
        folder.mkdir()
        model = "pit_ti_224" if name == "pit" else "vit_tiny_patch16_224"
        arguments = {"num_classes": 7, "img_size": 32, "in_chans": 1, **arguments}
        save_timm(timm.create_model(model, **arguments), folder, trained=True)
        folders[name] = f"timm:local-dir:{folder}"
    return folders


def test_around_a_vision_transformer(saved: dict[str, str]) -> None:
    space: Any = get_space(saved["vit"])
    assert space.name == "vit"
    assert (space.img_size, space.in_chans, space.num_classes) == (32, 1, 7)
    assert space.choices() == {
        "embed_dim": (24, 32, 40),
        "depth": (2, 3),
        "num_heads": (3, 4, 5),
        "mlp_ratio": (1.0, 1.5, 2.0, 2.25),
    }
    assert space.supernet == space.largest()
    assert (space.largest().depth, space.largest().num_heads[0]) == (3, 5)
    model = timm.create_model(saved["vit"].removeprefix("timm:"), pretrained=True)
    assert space.build(space.largest()).load_state_dict(model.state_dict()) is not None
    # What a study records needs no timm.
    assert get_space(space.to_dict()) == space


def test_around_a_network_without_classes(saved: dict[str, str]) -> None:
    space = get_space(saved["featureless"])
    assert space.num_classes == 1000 and space.choices()["embed_dim"] == (16,)


def test_around_a_pit(saved: dict[str, str]) -> None:
    space: Any = get_space(saved["pit"])
    assert space.choices() == {
        "base_dim": (24,),
        "depth_1": (1,),
        "depth_2": (2, 3),
        "num_heads": ("1-2", "1-4"),
        "mlp_ratio": (1.0, 1.5, 2.0),
    }
    assert space.largest() == space.supernet
    assert space.largest() == PiTArchitecture(24, (1, 3), (1, 4), 2.0)
    assert get_space(space.to_dict()) == space
    scorer = Scorer(space, device="cpu")
    collapsed = Scorer(space, device="cpu", fidelity="collapsed")
    for arch in (space.smallest(), space.sample(0), space.largest()):
        assert space.decode(space.encode(arch)) == arch
        assert score_model(scorer.subnet(arch)) == pytest.approx(scorer(arch), rel=1e-4)
        assert collapsed(arch) == pytest.approx(scorer(arch), rel=0.05)


def test_a_network_of_timm_by_its_name_leads_back_to_it() -> None:
    space: Any = get_space("timm:pit_s_224")
    theirs = sum(p.numel() for p in timm.create_model("pit_s_224").parameters())
    assert space.costs(space.largest()).n_params == theirs
    assert space.heads == ((3,), (3, 6), (6, 12))
    deit: Any = get_space("timm:deit_tiny_patch16_224")
    assert deit.choices()["embed_dim"] == (128, 192)
    assert deit.largest() in get_space("vit-tiny-small")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_tiny_patch16_225", "timm has no network 'vit_tiny_patch16_225'; did you mean"),
        ("timm:resnet18", "resnet18 is no plain Vision Transformer of timm: it is a ResNet"),
        ("timm:local-dir:nothing", "local-dir:nothing: Config file not found"),
        ("tim:vit_tiny_patch16_224", "unknown space 'tim:vit_tiny.*, or timm:NAME"),
    ],
)
def test_what_is_no_plain_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(TftasError, match=message):
        get_space(name)


@pytest.mark.parametrize(
    ("num_heads", "message"),
    [
        ([[1, 2], [2]], "num_heads lists 2 stages and depth 3"),
        ([[1], [2], 4], "num_heads of stage 3 is 4, expected a list of choices"),
        ([[2], [3], [6]], r"num_heads is \[2, 3, 6\]: each stage needs a multiple"),
    ],
)
def test_heads_of_stages_are_checked(num_heads: list[Any], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        PiTSpace(base_dim=(8,), depth=((1,),) * 3, num_heads=num_heads, mlp_ratio=(2,))  # type: ignore[arg-type]


def test_heads_of_stages_are_described_as_each_architecture_is() -> None:
    space = PiTSpace(
        base_dim=(8, 16),
        depth=((1,), (1, 2)),
        num_heads=((1, 2), (2, 4)),
        mlp_ratio=(2,),
    )
    with pytest.raises(TftasError, match="one list of num_heads for all stages"):
        space.to_retrain()
    rng = np.random.default_rng(0)
    archs = {space.sample(rng) for _ in range(300)}
    assert len(archs) == space.cardinality() == 2 * 2 * 4
    assert len({space.features(arch) for arch in archs}) == 16
