from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest

from tftas_optuna import TftasError, get_space
from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.spaces import PiTSpace, published_architectures, space_names

TINY = get_space("pit-tiny")


def test_a_thousand_trials_hold_no_invalid_candidate() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0)
    )
    seen = set()
    for _ in range(1000):
        trial = study.ask()
        arch = TINY.suggest(trial)
        assert trial.distributions == TINY.distributions()
        assert isinstance(arch, PiTArchitecture) and arch in TINY
        assert list(arch.num_heads) == sorted(arch.num_heads)
        # Prefers narrow late stages, so that crossover would break the order if it could.
        study.tell(trial, (arch.num_heads[0] - arch.num_heads[2], TINY.costs(arch).n_params))
        seen.add(arch.num_heads)
    assert len(study.trials) == 1000 and len(seen) > 5


def test_cardinality_counts_what_can_be_built_and_nothing_else() -> None:
    assert TINY.cardinality() == 4 * 3**3 * 10 * 4
    distributions = TINY.distributions()
    everything = {
        TINY.decode(dict(zip(distributions, values, strict=True)))
        for values in itertools.product(*(d.choices for d in distributions.values()))
    }
    assert len(everything) == TINY.cardinality()
    costs = [TINY.costs(arch) for arch in everything]
    least, most = TINY.costs(TINY.smallest()), TINY.costs(TINY.largest())
    n_params = [cost.n_params for cost in costs]
    assert (min(n_params), max(n_params)) == (least.n_params, most.n_params)
    macs = [cost.macs for cost in costs]
    assert (min(macs), max(macs)) == (least.macs, most.macs)


def test_the_published_ones_are_members() -> None:
    assert space_names()[-3:] == ("pit-tiny", "pit-xs", "pit-small")
    published = published_architectures()
    for size in ("tiny", "xs", "small"):
        space, arch = get_space(f"pit-{size}"), published[f"tf-tas-pit-{size}"]
        assert arch in space and space.decode(space.encode(arch)) == arch
        assert PiTSpace.from_dict(space.to_dict()) == space
        sampled = space.sample(np.random.default_rng(0))
        assert sampled in space


def test_what_is_outside_says_where() -> None:
    inside = TINY.smallest().to_dict()
    for change, message in (
        ({"base_dim": 17}, "parameter base_dim is 17, space pit-tiny has"),
        ({"depth": [1, 9, 2]}, "parameter depth_2 is 9"),
        ({"num_heads": [2, 2, 16]}, "parameter num_heads is '2-2-16'"),
        ({"depth": [1, 4], "num_heads": [2, 2]}, "depth lists 2 stages, space pit-tiny has 3"),
        ({"stride": 4}, "patch size or stride differ"),
    ):
        with pytest.raises(TftasError, match=message):
            TINY.encode(PiTArchitecture.from_dict({**inside, **change}))
    with pytest.raises(TftasError, match="is not a pit architecture"):
        TINY.encode(published_architectures()["tf-tas-tiny"])


def test_heads_that_are_no_multiple_are_never_offered() -> None:
    space = PiTSpace("odd", (8,), ((1,), (1,)), (2, 3, 4), (2.0,))
    assert space.distributions()["num_heads"].choices == ("2-2", "2-4", "3-3", "4-4")
    assert space.cardinality() == 4
