"""With a head width and no choice of heads, the heads follow the width."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tftas_optuna import (
    AutoFormerArchitecture,
    AutoFormerSpace,
    Scorer,
    TftasError,
    build_model,
    score_model,
)
from tftas_optuna.architecture import Architecture
from tftas_optuna.architecture.blocks import sum_over_blocks
from tftas_optuna.architecture.published import retrain_document
from tftas_optuna.search.api import search
from tftas_optuna.spaces import get_space
from tftas_optuna.study.front import pareto_front

FIELDS: dict[str, Any] = {
    "name": "tied",
    "family": "autoformer",
    "embed_dim": [16, 24, 40],
    "depth": [1, 2],
    "mlp_ratio": [1, 2.5],
    "head_dim": 8,
    "patch_size": 8,
    "img_size": 32,
    "num_classes": 5,
}
SHARED = {**FIELDS, "shared": ["mlp_ratio"], "relative_position": False, "global_pool": "token"}


def everything(space: AutoFormerSpace) -> set[Architecture]:
    distributions = space.distributions()
    choices = itertools.product(*(d.choices for d in distributions.values()))
    return {space.decode(dict(zip(distributions, each, strict=True))) for each in choices}


@pytest.mark.parametrize(("fields", "count"), [(SHARED, 12), (FIELDS, 18)])
def test_the_space_is_what_its_parameters_describe(fields: dict[str, Any], count: int) -> None:
    space = get_space(fields)
    assert isinstance(space, AutoFormerSpace) and "num_heads" not in space.distributions()
    assert get_space(space.to_dict()) == space and "num_heads" not in space.to_dict()
    archs: Any = everything(space)
    assert len(archs) == space.cardinality() == count
    for arch in archs:
        assert arch.num_heads == (arch.embed_dim // 8,) * arch.depth and arch.head_dim == 8
        assert space.decode(space.encode(arch)) == arch
        model = build_model(arch, img_size=32, num_classes=5)
        assert sum(p.numel() for p in model.parameters()) == space.costs(arch).n_params
        assert sum_over_blocks(arch, lambda a: space.costs(a).macs) == space.costs(arch).macs
    costs = [space.costs(arch) for arch in archs]
    for end, pick in ((space.smallest(), min), (space.largest(), max)):
        assert space.costs(end) == (pick(c.n_params for c in costs), pick(c.macs for c in costs))
    assert len({space.features(arch) for arch in archs}) == count
    kinds = {kind for arch in archs for kind in arch.block_kinds()}
    assert kinds == set(space.block_kinds())
    assert space.choices()["num_heads"] == (2, 3, 5)


def test_its_supernet_may_be_larger() -> None:
    for sizes in ({"num_heads": 6}, {}):
        supernet = {"embed_dim": 48, "depth": 3, "mlp_ratio": 4, **sizes}
        space = get_space({**FIELDS, "supernet": supernet})
        assert space.supernet == AutoFormerArchitecture(
            48, (6,) * 3, (4.0,) * 3, head_dim=8, patch_size=8
        )
        assert get_space(space.to_dict()) == space
    by_hand = AutoFormerSpace(
        embed_dim=(16, 24),
        depth=(1,),
        mlp_ratio=(2,),
        supernet=AutoFormerArchitecture(24, (3,), (2,), head_dim=8),
    )
    assert [by_hand.smallest().num_heads, by_hand.largest().num_heads] == [(2,), (3,)]


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"embed_dim": [16, 20]}, "embed_dim", "holds 20, which is no multiple of head_dim 8"),
        ({"embed_dim": [4]}, "embed_dim", "embed_dim is 4, allowed is a whole number 8 to"),
        ({"shared": ["num_heads"]}, "shared", "shared holds num_heads, which follow the width"),
        ({"head_dim": "8"}, "head_dim", "head_dim is '8', which YAML 1.1 reads as text"),
        ({"head_dim": None}, None, "an autoformer space needs num_heads"),
        (
            {"supernet": {"embed_dim": 40, "depth": 2, "mlp_ratio": 4, "num_heads": 4}},
            "embed_dim",
            "goes up to 40, which takes 5 heads, the supernet has only 4",
        ),
    ],
)
def test_what_cannot_follow_is_refused(
    changes: dict[str, Any], key: str | None, message: str
) -> None:
    with pytest.raises(TftasError, match=message) as caught:
        get_space({**FIELDS, **changes})
    assert caught.value.key == ((key,) if key else ())


def test_other_heads_are_outside() -> None:
    arch = AutoFormerArchitecture(24, (2,), (1,), head_dim=8, patch_size=8)
    with pytest.raises(TftasError, match=r"num_heads is \[2\], space tied has 3 for embed_dim 24"):
        get_space(FIELDS).encode(arch)


def test_scores_are_those_of_the_networks() -> None:
    for fields in (FIELDS, SHARED):
        space = get_space(fields)
        scorer = Scorer(space, device="cpu")
        for arch in (space.smallest(), space.largest()):
            assert score_model(scorer.subnet(arch)) == pytest.approx(scorer(arch), rel=1e-4)


def test_training_scripts_get_the_heads_by_block() -> None:
    fields = {**FIELDS, "embed_dim": [128, 192], "head_dim": 64, "patch_size": 16}
    space = get_space(fields)
    document = retrain_document(space, space.largest())
    assert document["SEARCH_SPACE"]["NUM_HEADS"] == [2, 3]
    assert Architecture.from_dict(document) == space.largest()


def test_a_search_uses_it_up_within_bounds() -> None:
    space = get_space(SHARED)
    start = space.decode({"embed_dim": 24, "depth": 1, "mlp_ratio": 2.5})
    most = space.costs(space.largest()).n_params - 1
    study = search(
        space,
        n_trials=11,
        objectives=("n_params", "dss"),
        bounds={"n_params": (None, most)},
        start=[start],
        seed=0,
    )
    tried = {space.decode(trial.params) for trial in study.trials}
    assert tried == everything(space) - {space.largest()}
    assert space.decode(study.trials[0].params) == start
    assert all(candidate.architecture in space for candidate in pareto_front(study))
