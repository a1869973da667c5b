"""What a study keeps may grow beyond what a column of its database has room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage

from tftas_optuna import TftasError, UnavailableError, register_fusion
from tftas_optuna.metrics import registry
from tftas_optuna.storage import load_study, open_storage
from tftas_optuna.study.accuracy import record_accuracy, training_sets
from tftas_optuna.study.attributes import attributes, write_attribute
from tftas_optuna.study.front import EXACT, exact_values
from tftas_optuna.study.record import keep_meter_records, meter_records, reference

Search = Callable[..., optuna.Study]
LONG = {"text": 'é "quoted" \\ 漢字\n' * 20_000, "numbers": [i / 7 for i in range(20_000)]}


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="s")


def test_every_storage_gives_a_long_attribute_back(storage: str | BaseStorage) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(storage, create=True))
    write_attribute(study, "long", LONG)
    study.set_user_attr("of somebody", 1)
    assert attributes(load_study(storage, "s")) == {"long": LONG, "of somebody": 1}


def test_every_server_keeps_the_most_that_a_study_holds(database: str) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(database, create=True))
    table = {"latency": {"blocks": [[i, 3, 4.0, i / 7] for i in range(5_000)]}}
    exact = {"dss": {str(trial): trial / 7 for trial in range(20_000)}}
    keep_meter_records(study, table)
    write_attribute(study, EXACT, exact)
    record_accuracy(study, 3, {"top1": 71.5, "epochs": LONG["numbers"]})
    again = load_study(database, "s")
    assert meter_records(again) == table and exact_values(again) == exact
    (trained,) = training_sets(again)
    assert trained.records == {3: ({"top1": 71.5, "epochs": LONG["numbers"]},)}


def test_a_fusion_over_many_supernets_is_searched_on_every_server(
    run: Search, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", dict(registry.METRICS.registered))
    register_fusion("mine", ["n_params", "macs"])
    study = run(n_trials=4, objectives=("mine", "n_params"), n_seeds=20, storage=database)
    kept = reference(study)
    assert kept is not None and len(kept["macs"]) == 20 and len(kept["macs"][0]) == 256
    assert len(study.user_attrs["reference"]["stored in parts"]) > 1
    more = run(n_trials=4, objectives=("mine", "n_params"), n_seeds=20, storage=database)
    assert len(more.trials) == 8 and reference(more) == kept


def test_readers_see_the_old_value_or_the_new_one(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [LONG, {"numbers": LONG["numbers"][::-1]}, {"short": 1}, LONG]
    write_attribute(study, "long", values[0])
    write = optuna.Study.set_user_attr
    for old, new in zip(values, values[1:], strict=False):
        read: list[Any] = []

        def look(study: optuna.Study, name: str, value: Any, read: list[Any] = read) -> None:
            write(study, name, value)
            read.append(attributes(study)["long"])

        with monkeypatch.context() as patch:
            patch.setattr(optuna.Study, "set_user_attr", look)
            write_attribute(study, "long", new)
        n_old = sum(value == old for value in read)
        assert read == [old] * n_old + [new] * (len(read) - n_old) and read[-1] == new


def test_parts_of_an_earlier_value_take_no_room(study: optuna.Study) -> None:
    for n in range(3):
        write_attribute(study, "long", [n, LONG])
    write_attribute(study, "long", 1)
    assert attributes(study) == {"long": 1}
    assert {value for name, value in study.user_attrs.items() if name != "long"} == {""}


def test_a_short_attribute_is_stored_as_it_always_was(study: optuna.Study) -> None:
    write_attribute(study, "exact", {"dss": {"0": 1.5}})
    assert study.user_attrs == {"exact": {"dss": {"0": 1.5}}}


def test_a_long_attribute_of_an_earlier_release_is_read(study: optuna.Study) -> None:
    study.set_user_attr("exact", {"dss": LONG})
    assert exact_values(study) == {"dss": LONG}


def test_an_attribute_that_lacks_a_part_is_refused(study: optuna.Study) -> None:
    write_attribute(study, "exact", {"dss": LONG})
    study.set_user_attr(study.user_attrs["exact"]["stored in parts"][1], "")
    with pytest.raises(UnavailableError, match="attribute 'exact' of study 's' is damaged"):
        exact_values(study)


def test_a_study_name_that_no_column_takes_is_refused(run: Search) -> None:
    with pytest.raises(TftasError, match="study_name has 513 characters, allowed are at most 512"):
        run(study_name="n" * 513)
