from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tftas_optuna import AutoFormerArchitecture, TftasError, get_space
from tftas_optuna.spaces import AutoFormerSpace, published_architectures, space_names

TINY = get_space("autoformer-tiny")


@pytest.mark.parametrize("name", space_names())
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_samples_are_members_and_round_trip(name: str, seed: int) -> None:
    space = get_space(name)
    arch = space.sample(np.random.default_rng(seed))
    assert arch in space
    params = space.encode(arch)
    assert space.decode(params) == arch
    distributions = space.distributions()
    assert params.keys() == distributions.keys()
    assert all(
        distributions[name]._contains(distributions[name].to_internal_repr(value))
        for name, value in params.items()
    )
    least, costs, most = map(space.costs, (space.smallest(), arch, space.largest()))
    assert least.n_params <= costs.n_params <= most.n_params
    assert least.macs <= costs.macs <= most.macs


@pytest.mark.parametrize("name", ["autoformer-tiny", "pit-tiny"])
def test_samples_reach_every_choice(name: str) -> None:
    space, rng = get_space(name), np.random.default_rng(0)
    drawn = [space.encode(space.sample(rng)) for _ in range(500)]
    for parameter, distribution in space.distributions().items():
        assert {params[parameter] for params in drawn} == set(distribution.choices)


def test_every_trial_suggests_the_same_parameters() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    depths = set()
    for _ in range(12):
        trial = study.ask()
        arch = TINY.suggest(trial)
        depths.add(arch.depth)
        assert trial.distributions == TINY.distributions()
        assert arch == TINY.decode(trial.params)
        study.tell(trial, 0)
    assert depths == {12, 13, 14}
    assert len(TINY.distributions()) == 2 + 14


def test_inactive_slots_do_not_matter() -> None:
    params = TINY.encode(TINY.smallest())
    assert TINY.decode({**params, "block_13": "h4 r4", "block_14": "h4 r3.5"}) == TINY.smallest()
    assert TINY.decode({**params, "block_12": "h4 r4"}) != TINY.smallest()


def test_cardinality_counts_every_architecture_once(small_space: AutoFormerSpace) -> None:
    space = dataclasses.replace(
        small_space, embed_dim=(32, 64), depth=(1, 2), num_heads=(1, 2), mlp_ratio=(2.0, 4.0)
    )
    distributions = space.distributions()
    everything = {
        space.decode(dict(zip(distributions, values, strict=True)))
        for values in itertools.product(*(d.choices for d in distributions.values()))
    }
    assert space.cardinality() == len(everything) == 2 * (4 + 16)
    costs = [space.costs(arch) for arch in everything]
    assert min(c.n_params for c in costs) == space.costs(space.smallest()).n_params
    assert max(c.macs for c in costs) == space.costs(space.largest()).macs


def test_presets_are_those_of_the_paper() -> None:
    assert space_names()[:3] == ("autoformer-tiny", "autoformer-small", "autoformer-base")
    tiny = [TINY.costs(arch).n_params for arch in (TINY.smallest(), TINY.largest())]
    assert tiny == [5_366_056, 10_517_272]
    published = published_architectures()
    for size in ("tiny", "small", "base"):
        assert published[f"tf-tas-{size}"] in get_space(f"autoformer-{size}")


@pytest.mark.parametrize(
    ("shared", "count"),
    [((), 2 * (4 + 16)), (("num_heads",), 2 * 2 * (2 + 4)), (("mlp_ratio", "num_heads"), 16)],
)
def test_what_blocks_share_is_one_parameter(
    small_space: AutoFormerSpace, shared: tuple[str, ...], count: int
) -> None:
    space = dataclasses.replace(
        small_space,
        embed_dim=(32, 64),
        depth=(1, 2),
        num_heads=(1, 2),
        mlp_ratio=(2.0, 4.0),
        shared=shared,
    )
    distributions = space.distributions()
    everything = {
        space.decode(dict(zip(distributions, values, strict=True)))
        for values in itertools.product(*(d.choices for d in distributions.values()))
    }
    assert space.cardinality() == len(everything) == count
    for arch in everything:
        assert space.decode(space.encode(arch)) == arch
        assert all(len(set(getattr(arch, name))) == 1 for name in shared)
    assert set(shared) <= distributions.keys()
    if len(shared) == 2:
        assert not any(name.startswith("block") for name in distributions)
    assert AutoFormerSpace.from_dict(space.to_dict()) == space


def test_heads_that_share_the_width() -> None:
    space = AutoFormerSpace.from_dict(
        {
            "name": "split",
            "family": "autoformer",
            "embed_dim": [24, 48],
            "depth": [1, 2],
            "num_heads": [2, 4],
            "mlp_ratio": [2],
            "head_dim": None,
        }
    )
    rng = np.random.default_rng(0)
    for arch in (space.sample(rng) for _ in range(20)):
        assert arch.inner_dim == (arch.embed_dim,) * arch.depth
        least, costs, most = map(space.costs, (space.smallest(), arch, space.largest()))
        assert least.n_params <= costs.n_params <= most.n_params
    with pytest.raises(TftasError, match="embed_dim 24 cannot be split into 5 heads"):
        dataclasses.replace(space.smallest(), num_heads=(5,))


def test_no_block_is_larger_than_the_supernets_smallest() -> None:
    supernet = AutoFormerArchitecture(64, (4, 2), (4.0, 3.0), head_dim=16, patch_size=8)
    sizes: dict[str, Any] = {"embed_dim": (64,), "depth": (1, 2)}
    assert AutoFormerSpace("fits", **sizes, num_heads=(2,), mlp_ratio=(3.0,), supernet=supernet)
    with pytest.raises(TftasError, match="num_heads goes up to 4, the supernet only to 2"):
        AutoFormerSpace("heads", **sizes, num_heads=(2, 4), mlp_ratio=(3.0,), supernet=supernet)
    with pytest.raises(TftasError, match="mlp_ratio goes up to 4, the supernet only to 3"):
        AutoFormerSpace("ratio", **sizes, num_heads=(2,), mlp_ratio=(3.0, 4.0), supernet=supernet)


def test_what_is_outside_says_where() -> None:
    with pytest.raises(TftasError, match="a block with 3 heads and ratio 3 is not in space"):
        TINY.encode(published_architectures()["autoformer-tiny"])
    with pytest.raises(TftasError, match="embed_dim is 384"):
        TINY.encode(dataclasses.replace(TINY.smallest(), embed_dim=384))
    with pytest.raises(TftasError, match="head width, patch size"):
        TINY.encode(dataclasses.replace(TINY.smallest(), patch_size=8))
    with pytest.raises(TftasError, match="parameter block_01 is None"):
        TINY.decode({"embed_dim": 192, "depth": 12})
    with pytest.raises(TftasError, match="parameter depth is 99"):
        TINY.decode({"embed_dim": 192, "depth": 99})
    assert "a text" not in TINY


def write(path: Path, **change: Any) -> Path:
    data = {**TINY.to_dict(), "name": "mine", **change}
    path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value != ""}))
    return path


def test_a_file_describes_a_space(tmp_path: Path) -> None:
    space = get_space(write(tmp_path / "mine.yaml", embed_dim=[128, 64]))
    assert space.name == "mine"
    assert space.choices()["embed_dim"] == (64, 128)
    assert space == get_space(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "cnn"}, "unknown family 'cnn'"),
        ({"family": ["x"]}, "unknown family \\['x'\\]"),
        ({"name": ""}, "a space needs a name"),
        ({"embed_dim": ""}, "an autoformer space needs embed_dim"),
        ({"embed_dim": []}, "embed_dim is \\[\\], expected a list"),
        ({"embed_dim": [64, 64]}, "embed_dim repeats a choice"),
        ({"embed_dim": [64.5]}, "embed_dim holds 64.5"),
        ({"embed_dim": [512]}, "embed_dim goes up to 512, the supernet only to 256"),
        ({"depth": [15]}, "depth goes up to 15, the supernet only to 14"),
        ({"num_heads": [0]}, "num_heads holds 0"),
        ({"mlp_ratio": ["4"]}, "mlp_ratio holds '4'"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"supernet": 4}, "supernet is 4"),
        ({"supernet": {"embed_dim": 256}}, "needs supernet.depth"),
    ],
)
def test_bad_files_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "mine.yaml", **change)
    with pytest.raises(TftasError, match=message) as caught:
        get_space(path)
    assert str(path) in str(caught.value)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(TftasError, match="unknown space 'nope'; known: autoformer-tiny, "):
        get_space("nope")
