"""Many candidates at once are described and costed as each of them is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tftas_optuna.architecture import Architecture
from tftas_optuna.spaces import SearchSpace, get_space

EXAMPLES = Path(__file__).parents[2] / "examples" / "spaces"
PRESETS = ["autoformer-tiny", "autoformer-base", "vit-tiny-small", "pit-tiny"]
SPACES = [*PRESETS, *sorted(map(str, EXAMPLES.iterdir()))]


def drawn(space: SearchSpace, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    distributions = space.distributions()
    return {n: rng.integers(len(d.choices), size=count) for n, d in distributions.items()}


@pytest.mark.parametrize("name", SPACES)
def test_features_of_many_are_those_of_each(name: str) -> None:
    space = get_space(name)
    choices = drawn(space, 300)
    archs = list(space.chosen(choices))
    found = space.features_of(choices)
    assert [tuple(row) for row in found.tolist()] == [space.features(arch) for arch in archs]
    # Features tell architectures apart, and nothing else.
    assert len({row.tobytes() for row in found + 0.0}) == len(set(archs))


@pytest.mark.parametrize("name", SPACES)
def test_costs_of_many_are_those_of_each(name: str) -> None:
    space = get_space(name)
    choices = drawn(space, 300)
    archs = list(space.chosen(choices))
    for cost in ("n_params", "macs"):

        def of(arch: Architecture, cost: str = cost) -> float:
            return float(getattr(space.costs(arch), cost))

        assert space.tabulate(of)(choices).tolist() == [of(arch) for arch in archs]


def test_a_cost_that_does_not_add_up_is_taken_one_by_one() -> None:
    space = get_space("autoformer-tiny")
    choices = drawn(space, 50)

    def widest(arch: Architecture) -> float:
        return float(max(arch.num_heads) * max(arch.mlp_ratio) + arch.num_heads[0])  # type: ignore[attr-defined]

    expected = [widest(arch) for arch in space.chosen(choices)]
    assert space.tabulate(widest)(choices).tolist() == expected


def test_what_has_a_single_choice_may_be_left_out() -> None:
    space = get_space(str(EXAMPLES / "cifar.yaml"))
    choices = drawn(space, 20)
    del choices["depth"]
    archs = list(space.chosen(choices))
    assert {arch.depth for arch in archs} == {space.smallest().depth}  # type: ignore[attr-defined]
    assert [tuple(r) for r in space.features_of(choices).tolist()] == [
        space.features(arch) for arch in archs
    ]
