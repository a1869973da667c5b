"""Tables are read in every form that they come in, and what is left out is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
import tower
from tables import SIZES, accuracies, draw, table_rows, write_csv, write_json

from tftas_optuna import (
    Architecture,
    AutoFormerSpace,
    Execution,
    PiTSpace,
    UnavailableError,
    correlate,
    export_front,
    get_space,
    pareto_front,
    register_family,
    search,
)
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.architecture.shape import shape_columns
from tftas_optuna.correlate.table import TrainedTable, read_table
from tftas_optuna.correlate.trained import read_study
from tftas_optuna.study.accuracy import record_accuracy, record_shared

NEEDED = ("embed_dim", "num_heads", "mlp_ratio")


@pytest.fixture
def archs(small_space: AutoFormerSpace) -> list[Architecture]:
    return draw(small_space, 6)


def check(table: TrainedTable, archs: Sequence[Architecture], column: str = "top1") -> None:
    assert list(table.architectures) == list(archs)
    assert list(table.accuracies[column]) == accuracies(archs)


def test_columns_as_the_front_prints_them(
    small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    table = read_table(write_csv(tmp_path / "t.csv", table_rows(archs)), small_space, None)
    check(table, archs)
    assert list(table.accuracies) == ["top1"] and not table.notes and not table.sizes


def test_few_columns_lists_in_brackets_and_numbers_of_a_spreadsheet(
    small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    """What is not said is as in the space: heads 16 wide, patches of 8 pixels."""
    rows = [
        {
            "EMBED": "x",
            "embed_dim": f"{row['embed_dim']}.0",
            "num_heads": str(row["num_heads"]),
            "mlp_ratio": f"({', '.join(f'{r:g}' for r in row['mlp_ratio'])})",
            "val accuracy": f" {row['top1']} ",
        }
        for row in table_rows(archs)
    ]
    path = write_csv(tmp_path / "t.csv", rows)
    path.write_text("\ufeff" + path.read_text() + "\n,,,,\n")
    check(read_table(path, small_space, None), archs, "val accuracy")


@pytest.mark.parametrize("key", ["arch", "architecture", None])
def test_objects_of_json(
    key: str | None, small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    """Also in the words of AutoFormer's code, whose files say no more."""
    rows = []
    for row in table_rows(archs):
        fields = {name: row[name] for name in (*NEEDED, "depth")}
        fields["hidden_dim"] = fields.pop("embed_dim")
        accuracy = {"c10_acc": row["top1"], "loss": 1.0}
        rows.append({**accuracy, **(fields if key is None else {key: fields})})
    table = read_table(write_json(tmp_path / "t.json", rows), small_space, None)
    check(table, archs, "c10_acc")


def test_stages(tmp_path: Path) -> None:
    space = get_space("pit-tiny")
    assert isinstance(space, PiTSpace)
    archs = draw(space, 5)
    rows = [
        {name: row[name] for name in ("base_dim", "depth", "num_heads", "mlp_ratio", "top1")}
        for row in table_rows(archs)
    ]
    check(read_table(write_csv(tmp_path / "t.csv", rows), space, None), archs)
    rows = [{**row, "mlp_ratio": int(row["mlp_ratio"])} for row in rows]
    check(read_table(write_json(tmp_path / "t.json", rows), space, None), archs)


def test_a_family_of_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose choices are columns too, also those that have a default."""
    monkeypatch.setattr(FAMILIES, "registered", {})
    register_family(tower.family)
    space = tower.TowerSpace("t", (8, 16), (1, 2))
    archs = draw(space, 6)
    rows = table_rows(archs)
    check(read_table(write_csv(tmp_path / "t.csv", rows), space, None), archs)
    assert shape_columns(archs)["width"] == tuple(arch.width for arch in archs)
    rows[2]["form"] = ""
    table = read_table(write_csv(tmp_path / "t.csv", rows), space, None)
    assert table.notes == ("row 3 left out: no form",)


def test_accuracies_by_their_names_or_as_told(
    small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    extra = {"kd_acc": 1, "Acc@1": 2, "accuracy_rank": 3, "top5": 4, "vacc": 5, "Top-1": 6}
    rows = [{**row, **extra} for row in table_rows(archs)]
    path = write_csv(tmp_path / "t.csv", rows)
    found = read_table(path, small_space, None).accuracies
    assert list(found) == ["top1", "kd_acc", "Acc@1", "Top-1"]
    assert list(read_table(path, small_space, ["vacc", "top5"]).accuracies) == ["vacc", "top5"]


def test_rows_that_are_left_out_are_named(
    small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    rows = table_rows(archs)
    rows[1]["num_heads"] = [4] * len(rows[1]["num_heads"])
    rows[2]["num_heads"] = rows[3]["num_heads"] = ""
    rows[4]["top1"] = "nan"
    rows += [dict(rows[0]), {**rows[5], "family": "pit"}]
    table = read_table(write_csv(tmp_path / "t.csv", rows), small_space, None)
    assert list(table.architectures) == [archs[0], archs[5]]
    outside, incomplete, untrained, twice = table.notes
    assert outside.startswith(
        "rows 2, 8 left out: not in space small (row 2: a block with 4 heads"
    )
    assert incomplete == "rows 3-4 left out: no num_heads"
    assert untrained == "row 5 left out: no top1"
    assert twice == "row 7 left out: repeated architecture (row 7: as in row 1)"


def test_of_several_accuracies_some_may_be_missing(
    small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    rows = [{**row, "acc": 50 + i} for i, row in enumerate(table_rows(archs))]
    rows[3]["acc"] = None
    table = read_table(write_json(tmp_path / "t.json", rows), small_space, None)
    assert table.accuracies["acc"] == (50, 51, 52, None, 54, 55)
    assert table.notes == ("row 4 left out of acc: no value",)


def searched(space: AutoFormerSpace) -> optuna.Study:
    return search(
        space,
        n_trials=16,
        population_size=8,
        execution=Execution("cpu"),
        n_exact=0,
        seed=3,
        **SIZES,
    )


@pytest.mark.parametrize("column", ["name", "file"])
def test_names_of_exported_files_in_their_directory(
    small_space: AutoFormerSpace, tmp_path: Path, column: str
) -> None:
    """The files know the space and the sizes; `retrain -f csv` prints their names."""
    study = searched(small_space)
    export_front(study, tmp_path, formats=["yaml"])
    archs = [candidate.architecture for candidate in pareto_front(study)]
    names = [f"small-trial{candidate.trial:05d}" for candidate in pareto_front(study)]
    ending = ".yaml" if column == "file" else ""
    rows = [
        {column: name + ending, "top1": accuracy, "top5": 99}
        for name, accuracy in zip(names, accuracies(archs), strict=True)
    ]
    path = write_csv(tmp_path / "trained.csv", rows)
    for source, space in ((tmp_path, None), (path, None), (path, small_space)):
        table = read_table(source, space, None)
        check(table, archs)
        assert table.space.to_dict() == small_space.to_dict() and table.sizes == SIZES


def test_what_was_retrained_of_a_study(small_space: AutoFormerSpace) -> None:
    study = searched(small_space)
    trials = [7, 2, 11]
    for number in trials:
        record_accuracy(study, number, {"top1": 50.0 + number})
    table = read_study(study)
    decode = small_space.decode
    assert list(table.architectures) == [decode(study.trials[n].params) for n in sorted(trials)]
    assert table.accuracies == {"top1": (52.0, 57.0, 61.0)}
    assert table.space.to_dict() == small_space.to_dict() and table.sizes == SIZES


def test_of_several_seeds_the_mean_counts_and_of_conditions_the_usual(
    small_space: AutoFormerSpace,
) -> None:
    study = searched(small_space)
    for seed, top1 in enumerate((50.0, 60.0)):
        record_accuracy(study, 2, {"top1": top1, "seed": seed})
    record_accuracy(study, 7, {"top1": 70.0})
    other = record_accuracy(study, 7, {"top1": 20.0, "epochs": 2})
    assert read_study(study).accuracies == {"top1": (55.0, 70.0)}
    assert read_study(study, other).accuracies == {"top1": (20.0,)}


def test_shared_accuracies_are_a_column_beside(small_space: AutoFormerSpace) -> None:
    study = searched(small_space)
    own = record_accuracy(study, 2, {"top1": 90.0})
    shared = record_shared(study, {2: {"top1": 50.0}, 7: {"top1": 60.0}}, {"epochs": 3})
    table = read_study(study)
    assert table.accuracies == {"top1": (90.0, None), "shared_top1": (50.0, 60.0)}
    assert {name: one.key for name, one in table.trainings.items()} == {
        "top1": own,
        "shared_top1": shared,
    }
    assert read_study(study, shared).accuracies == {"shared_top1": (50.0, 60.0)}
    assert read_study(study, own).accuracies == {"top1": (90.0,)}


def test_a_kind_of_accuracies_that_few_have_is_left_out(small_space: AutoFormerSpace) -> None:
    study = searched(small_space)
    tops = {n: {"top1": 50.0 + n} for n in range(0, 16, 2)}
    record_shared(study, tops, {"epochs": 3})
    key = record_accuracy(study, 2, {"top1": 90.0})
    correlations = correlate(study, indicators=["dss"], bands=1)
    assert set(correlations.accuracies) == {"shared_top1"}
    assert any(f"top1 of trainings {key} is known of 1" in note for note in correlations.notes)
    assert {row["trained"] for row in correlations.to_dicts()} == {
        correlations.trainings["shared_top1"].key
    }
    with pytest.raises(UnavailableError, match="is known of 1 architectures"):
        correlate(study, indicators=["dss"], trained=key)


def test_a_name_beside_the_fields_is_no_file(
    small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    rows = [{"name": "net", **row} for row in table_rows(archs)]
    check(read_table(write_csv(tmp_path / "t.csv", rows), small_space, None), archs)
    nested = [
        {"name": "net", "arch": json.loads(json.dumps(a.to_dict())), "acc": 1} for a in archs
    ]
    table = read_table(write_json(tmp_path / "t.json", nested), small_space, None)
    assert list(table.architectures) == archs


def test_scores_of_the_table_are_numbers_that_mean_nothing_else(
    small_space: AutoFormerSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    rows = table_rows(archs)
    for i, row in enumerate(rows):
        row |= {
            "mine": i * 3 % 5,
            "dss": "" if i == 2 else i / 7,
            "top5": i,
            "top1_sd": i,
            "b_acc": i,
            "seed": i,
        }
        row |= {"who": f"net {i}", "mixed": "x" if i == 4 else i, "same": 3.0, "n_params": i}
        row |= {"": i, "Unnamed: 0": i, "red\x1b[31m": i}
        row |= {"log": {0: "-inf", 3: " Infinity"}.get(i, i), "sky": "inf", "word": f"inf{i}"}
    table = read_table(write_csv(tmp_path / "t.csv", rows), small_space, ["top1"])
    assert dict(table.scores) == {
        "mine": (0, 3, 1, 4, 2, 0),
        "dss": (0, 1 / 7, None, 3 / 7, 4 / 7, 5 / 7),
        "log": (None, 1, 2, None, 4, 5),
    }
