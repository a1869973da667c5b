from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tftas_optuna import Architecture, AutoFormerArchitecture, TftasError, build_model, get_space
from tftas_optuna.architecture import PiTArchitecture, read_architecture
from tftas_optuna.passes.networks import count_macs
from tftas_optuna.spaces import published_architectures, space_names

IMAGENET = {"img_size": 224, "num_classes": 1000}
PUBLISHED = {
    "autoformer-tiny": 5_867_944,
    "tf-tas-tiny": 6_200_776,
    "autoformer-small": 22_891_432,
    "tf-tas-small": 23_935_336,
    "autoformer-base": 53_691_688,
    "tf-tas-base": 56_470_792,
}

blocks = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.5, 3.7])), min_size=1, max_size=4
)
architectures = st.builds(
    lambda blocks, **fields: AutoFormerArchitecture(
        num_heads=tuple(heads for heads, _ in blocks),
        mlp_ratio=tuple(ratio for _, ratio in blocks),
        **fields,
    ),
    blocks=blocks,
    embed_dim=st.integers(4, 40),
    head_dim=st.sampled_from([3, 8]),
    patch_size=st.sampled_from([4, 8]),
    relative_position=st.booleans(),
    max_relative_position=st.integers(1, 6),
    abs_pos=st.booleans(),
    global_pool=st.sampled_from(["avg", "token"]),
)


@pytest.mark.parametrize(("name", "n_params"), PUBLISHED.items())
def test_published_counts_from_the_closed_form_and_the_network(name: str, n_params: int) -> None:
    arch = published_architectures()[name]
    assert arch.costs(**IMAGENET).n_params == n_params
    assert sum(p.numel() for p in build_model(arch, **IMAGENET).parameters()) == n_params


@settings(max_examples=25, deadline=None)
@given(arch=architectures, num_classes=st.sampled_from([0, 7]), in_chans=st.sampled_from([1, 3]))
def test_costs_are_those_of_the_network(
    arch: AutoFormerArchitecture, num_classes: int, in_chans: int
) -> None:
    sizes = dict(img_size=24, num_classes=num_classes, in_chans=in_chans)
    model = build_model(arch, **sizes)
    costs = arch.costs(**sizes)
    assert costs.n_params == sum(p.numel() for p in model.parameters())
    # The counter sees products alone; a product with one vector may count as a sum to it.
    assert count_macs(model, img_size=24) == pytest.approx(costs.macs, rel=0.02)


@pytest.mark.parametrize("name", space_names()[:3])
def test_macs_agree_with_the_flop_counter_at_full_size(name: str) -> None:
    space = get_space(name)
    arch = space.largest()
    assert count_macs(space.build(arch)) == pytest.approx(space.costs(arch).macs, rel=1e-3)


def test_the_reference_convention_is_near_the_papers_figure() -> None:
    arch = published_architectures()["tf-tas-tiny"]
    assert arch.reference_macs(**IMAGENET) == pytest.approx(1.43e9, rel=5e-3)
    assert arch.costs(**IMAGENET).macs == pytest.approx(1.394e9, rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(arch=architectures)
def test_dictionaries_and_text_round_trip(arch: AutoFormerArchitecture) -> None:
    assert Architecture.from_dict(arch.to_dict()) == arch
    assert Architecture.from_dict(json.loads(json.dumps(arch.to_dict()))) == arch
    assert Architecture.from_dict(yaml.safe_load(yaml.safe_dump(arch.to_dict()))) == arch
    assert hash(Architecture.from_dict(arch.to_dict())) == hash(arch)


def test_the_retrain_section_of_training_scripts_is_read() -> None:
    arch = published_architectures()["tf-tas-tiny"]
    section = {
        "DEPTH": arch.depth,
        "EMBED_DIM": arch.embed_dim,
        "NUM_HEADS": list(arch.num_heads),
        "MLP_RATIO": list(arch.mlp_ratio),
    }
    assert Architecture.from_dict({"RETRAIN": section}) == arch


def test_hidden_widths_are_cut_to_whole_numbers_as_autoformer_does() -> None:
    arch = AutoFormerArchitecture(38, (1, 2), (3.7, 2.5), head_dim=8, patch_size=4)
    assert arch.hidden_dim == (140, 95)
    assert build_model(arch, img_size=8, num_classes=5).blocks[0].mlp.fc1.out_features == 140
    assert PiTArchitecture(19, (1, 1), (1, 3), 3.7).hidden_dims == (70, 210)


def test_summaries_show_the_shape() -> None:
    arch = AutoFormerArchitecture(192, (3, 4, 4), (3.5, 4.0, 4.0))
    assert arch.summary() == "192 x 3, 3.7 heads, ratio 3.83"
    arch = PiTArchitecture(40, (2, 4, 4), (2, 4, 8), 2.0)
    assert arch.summary() == "80-160-320 x 2-4-4, 2-4-8 heads, ratio 2"


GOOD = {"family": "autoformer", "embed_dim": 64, "num_heads": [1, 2], "mlp_ratio": [4.0, 3.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "resnet"}, "unknown architecture family 'resnet'; known: autoformer"),
        ({"family": [["x"]]}, "unknown architecture family"),
        ({"embed_dim": 0}, "embed_dim is 0, allowed is a whole number 1 to 16384"),
        ({"embed_dim": 1e30}, "embed_dim is 1e\\+30"),
        ({"embed_dim": True}, "embed_dim is True"),
        ({"num_heads": 3}, "num_heads is 3, expected a list"),
        ({"num_heads": [1, "2"]}, "num_heads is '2'"),
        ({"num_heads": [1]}, "num_heads has 1 blocks and mlp_ratio 2"),
        ({"num_heads": [], "mlp_ratio": []}, "depth is 0, allowed is 1 to 256"),
        ({"num_heads": [1] * 300, "mlp_ratio": [1] * 300}, "depth is 300"),
        ({"mlp_ratio": [4.0, float("nan")]}, "mlp_ratio holds nan"),
        ({"mlp_ratio": [4.0, -1]}, "mlp_ratio holds -1"),
        ({"mlp_ratio": [4.0, None]}, "mlp_ratio holds None"),
        ({"depth": 5}, "depth is 5 but num_heads lists 2"),
        ({"global_pool": "max"}, "global_pool is 'max', allowed: avg, token"),
        ({"abs_pos": "yes"}, "abs_pos is 'yes', allowed: true, false"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        Architecture.from_dict({**GOOD, **change})


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(TftasError, match="img_size 8 is smaller than one patch of 16 pixels"):
        Architecture.from_dict(GOOD).costs(img_size=8, num_classes=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.getcwd []", "line 1: not plain YAML"),
        ("a: [1, 2", "not plain YAML"),
        ("[" * 50_000, "not plain YAML"),
        ("- 1", "an architecture is a mapping"),
        ("format: other\narchitecture: {}", "format is 'other'"),
        ("format_version: 99\narchitecture: {}", "format_version is 99; this release reads 1"),
        ("x" * 2_000_000, "larger than 1000000 bytes"),
        (json.dumps({"architecture": GOOD, "model": {"img_size": -1}}), "model.img_size is -1"),
        (json.dumps({"architecture": GOOD, "model": 3}), "model is 3, expected a mapping"),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "arch.yaml"
    path.write_text(text)
    with pytest.raises(TftasError, match=message) as caught:
        read_architecture(path)
    assert str(path) in str(caught.value)


def test_unreadable_files_are_refused_by_name(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    for path, message in (
        (binary, "not a text file"),
        (tmp_path, "cannot be read"),
        (tmp_path / "none.yaml", "No such file"),
    ):
        with pytest.raises(TftasError, match=message):
            read_architecture(path)
