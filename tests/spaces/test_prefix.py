"""Two spaces, and parameters of the user, in one trial."""

from __future__ import annotations

import optuna
import pytest

from tftas_optuna import TftasError, get_space


def test_spaces_and_a_users_parameters_share_a_trial() -> None:
    first, second = get_space("autoformer-tiny"), get_space("autoformer-small")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    depth = trial.suggest_int("depth", 1000, 2000)
    one = first.suggest(trial, prefix="one_")
    two = second.suggest(trial, prefix="two_")
    assert trial.params["depth"] == depth
    assert first.decode(trial.params, prefix="one_") == one in first
    assert second.decode(trial.params, prefix="two_") == two in second
    assert trial.params.keys() == {
        "depth",
        *first.distributions(prefix="one_"),
        *second.distributions(prefix="two_"),
    }


@pytest.mark.parametrize("name", ["autoformer-tiny", "pit-tiny"])
def test_a_prefix_is_part_of_every_name_and_of_nothing_else(name: str) -> None:
    space = get_space(name)
    plain, prefixed = space.distributions(), space.distributions(prefix="net.")
    assert prefixed == {f"net.{name}": found for name, found in plain.items()}
    params = space.encode(space.largest(), prefix="net.")
    assert params == {f"net.{name}": v for name, v in space.encode(space.largest()).items()}
    assert params.keys() == prefixed.keys()
    assert space.decode(params, prefix="net.") == space.largest()
    with pytest.raises(TftasError, match="behind the prefix 'other.': parameter .* is None"):
        space.decode(params, prefix="other.")
