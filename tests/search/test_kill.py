"""Killed at any moment, a search goes on to the study it would have been."""

from __future__ import annotations

import random

import pytest
from optuna.storages import BaseStorage
from processes import KINDS, N_KILLS, seen, start, stored

from tftas_optuna.spaces import AutoFormerSpace


@pytest.mark.parametrize("storage", KINDS, indirect=True)
@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * N_KILLS)
def test_killed_at_random_it_goes_on_to_the_same_study(
    small_space: AutoFormerSpace, storage: str | BaseStorage, run: object
) -> None:
    moments = random.Random(0)
    description = small_space.to_dict()
    before: list[tuple[object, ...]] = []
    for kill in range(N_KILLS):
        process = start(description, 10_000, storage)
        # Every other time it has begun, however slow the machine is.
        while kill % 2 and len(stored(storage)) == len(before):
            process.join(0.05)
            assert process.is_alive()
        process.join(moments.uniform(0.0, 0.6))
        assert process.is_alive()
        process.kill()
        process.join()
        after = stored(storage)
        assert after[: len(before)] == before
        before = after
    process = start(description, 20, storage)
    process.join()
    assert process.exitcode == 0
    after = stored(storage)
    assert before and len(after) == len(before) + 20
    assert after == seen(run(n_trials=len(after)))
