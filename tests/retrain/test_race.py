"""Races: who is dropped when, what fits into the time, and which differences mean something."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from programs import Begin, end_together
from trainings import PLAIN

from tftas_optuna import TftasError, UnavailableError
from tftas_optuna.retrain import load_recipe, race
from tftas_optuna.retrain.compared import pooled_sd
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.folder import RunFolder
from tftas_optuna.retrain.learning_rate import STEPS
from tftas_optuna.retrain.network import Network
from tftas_optuna.retrain.race import Entrant, Race
from tftas_optuna.retrain.training import DivergedError

Pretend = Callable[..., Race]
# Top-1 of a network after an epoch, for a seed.
Accuracies = Callable[[str, int, int], float]


@pytest.fixture
def pretend(tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Begin a race of networks that learn as fast as a table says; epochs are counted."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(race.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(race, "seconds_per_epoch", lambda *args, **kwargs: 1.0)
    images = SimpleNamespace(about={"digest": "d1", "n_train": 400})
    monkeypatch.setattr(race, "open_data", lambda *args, **kwargs: (images, 3))

    def begin(
        names: str,
        top1: Accuracies = lambda name, epoch, seed: float(ord(name)),
        *,
        baselines: str = "",
        epochs: int = 8,
        timeout: float | None = None,
        recipe: dict[str, Any] | None = None,
        sizes: dict[str, int | None] | None = None,
        **options: Any,
    ) -> Race:
        def train(trainee: Any, recipe: Any, source: Any, out: Path, **how: Any) -> dict[str, Any]:
            folder = RunFolder(out)
            out.mkdir(parents=True, exist_ok=True)
            rows = folder.rows(before_epoch=recipe.epochs)
            while len(rows) < recipe.epochs and not (rows and how["pause"](len(rows))):
                clock.now += 1
                label = trainee.network.label
                value = top1(label, len(rows) + 1, recipe.seed)
                if math.isnan(value):
                    raise DivergedError("the training loss is nan")
                rows.append({"epoch": len(rows), "top1": value, "loss": float(ord(label))})
                begun.epochs += 1
            folder.write_rows(rows)
            return {"top1": rows[-1]["top1"], "epochs": len(rows)}

        monkeypatch.setattr(race, "train", train)
        entrants = [
            Entrant(
                dataclasses.replace(tiny, label=name, img_size=(sizes or {}).get(name, 8)),
                baseline=name in baselines,
            )
            for name in names + baselines
        ]
        begun: Any = Race(
            entrants,
            load_recipe("quick", {**PLAIN, "epochs": epochs, **(recipe or {})}),
            DataSource(tmp_path),
            tmp_path / "race",
            world=World(torch.device("cpu")),
            timeout=timeout,
            **options,
        )
        begun.epochs = 0
        return begun  # type: ignore[no-any-return]

    return begin


@pytest.mark.parametrize(
    ("names", "rounds"),
    [
        ("abcdefghijkl", {"l": 8, "k": 8, "j": 8, "ihg": 4, "fedcba": 2}),
        ("gbcedfa", {"gf": 8, "ed": 4, "cba": 2}),
        ("dabc", {"d": 8, "c": 8, "ba": 4}),
        ("abc", {"cba": 8}),
    ],
)
def test_the_worse_half_is_dropped_in_every_round(
    names: str, rounds: dict[str, int], pretend: Pretend
) -> None:
    rows = pretend(names).run()
    reached = {row["name"]: row["epochs"] for row in rows}
    assert reached == {name: epochs for group, epochs in rounds.items() for name in group}
    assert [row["name"] for row in rows] == sorted(names, reverse=True)
    assert all(row["seeds"] == (3 if row["epochs"] == 8 else 0) for row in rows)


def test_a_round_is_judged_by_its_own_epoch_also_when_it_is_read_again(pretend: Pretend) -> None:
    # a leads at first and is the worst at the end.
    def top1(name: str, epoch: int, seed: int) -> float:
        return {"a": 50 - 6 * epoch, "b": 45 + epoch}.get(name, 4 * epoch + ord(name) / 100)

    told: list[str] = []
    running = pretend("dcab", top1, told=told.append)
    rows = running.run()
    assert {row["name"] for row in rows if row["seeds"]} == {"a", "b"}
    assert "after 4 of 8 epochs dropped: d, c" in told
    again: Any = pretend("dcab", top1)
    assert again.run() == rows and again.epochs == 0


def test_the_loss_tells_equal_accuracies_apart(pretend: Pretend) -> None:
    rows = pretend("abcdef", lambda name, epoch, seed: 100.0).run()
    assert {row["name"] for row in rows if row["seeds"]} == set("abc")


def test_baselines_are_never_dropped(pretend: Pretend) -> None:
    rows = pretend("bcde", baselines="a").run()
    last = {row["name"]: row for row in rows}["a"]
    assert last["baseline"] and last["seeds"] == 3 and last["epochs"] == 8
    assert last["behind"] == ord("e") - ord("a")


@pytest.mark.parametrize("names, baselines", [("abcdefghijkl", "z"), ("abcde", ""), ("abc", "yz")])
def test_a_race_takes_as_many_epochs_as_it_says(
    names: str, baselines: str, pretend: Pretend
) -> None:
    running: Any = pretend(names, baselines=baselines)
    expected = running._rounds.epochs(8)
    running.run()
    assert running.epochs == expected


def test_the_time_decides_on_the_epochs(pretend: Pretend) -> None:
    told: list[str] = []
    running: Any = pretend("abcdef", epochs=30, timeout=200.0, told=told.append)
    rows = running.run()
    epochs = max(row["epochs"] for row in rows)
    assert running._rounds.epochs(epochs) <= 0.85 * 200 < running._rounds.epochs(epochs + 1)
    assert running.epochs == running._rounds.epochs(epochs)
    assert f"{epochs} epochs (of 30) fit into 3 min, with 1.0 s for one" in told


def test_a_time_too_short_is_refused_before_anything_is_trained(
    pretend: Pretend, tmp_path: Path
) -> None:
    with pytest.raises(TftasError, match=r"10 s are too short for a race of 6 networks: over 2 e"):
        pretend("abcdef", timeout=10.0).run()
    with pytest.raises(TftasError, match="a race of 2 networks: over 1 epoch it takes up to"):
        pretend("ab", timeout=1.0).run()
    # 21 epochs of a second fill 85 % of the time that they need, rounded up.
    with pytest.raises(TftasError, match=r"20 s are too short .* takes up to 60 s; give more"):
        pretend("abcdef", timeout=20.0).run()
    assert not (tmp_path / "race").exists()
    with pytest.raises(TftasError, match=r"12 networks race over 4 epochs or more, not 3; give"):
        pretend("abcdefghijkl", epochs=3).run()


def test_what_the_time_cut_off_is_done_by_the_same_command(
    pretend: Pretend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every epoch takes twice as long as a few steps said.
    monkeypatch.setattr(race, "seconds_per_epoch", lambda *args, **kwargs: 0.5)
    told: list[str] = []
    first: Any = pretend("abcdef", timeout=60.0, told=told.append)
    cut = first.run()
    assert first.epochs == 60 and told[-1].startswith("the time is over; the same command goes on")
    assert any(row["seeds"] < 3 for row in cut[:3])
    second: Any = pretend("abcdef", timeout=600.0)
    rows = second.run()
    assert [row["seeds"] for row in rows] == [3, 3, 3, 0, 0, 0]
    assert first.epochs + second.epochs == second._rounds.epochs(rows[0]["epochs"])
    with pytest.raises(
        UnavailableError, match=r"race holds a race of other networks; give the sa"
    ):
        pretend("abcdeg").run()


def test_a_difference_counts_if_it_is_larger_than_seeds_make(pretend: Pretend) -> None:
    finals = {"a": (80.0, 82.0, 84.0), "b": (80.0, 81.0, 82.0), "c": (70.0, 72.0, 71.0)}
    rows = {row["name"]: row for row in pretend("abc", lambda n, e, s: finals[n][s]).run()}
    spread = ((2 * 4 + 2 * 1 + 2 * 1) / 6) ** 0.5
    assert pooled_sd(list(finals.values())) == pytest.approx(spread)
    for name in "bc":
        row = rows[name]
        assert row["behind"] == pytest.approx(82 - statistics.fmean(finals[name]))
        assert row["margin"] == pytest.approx(2 * spread * (2 / 3) ** 0.5)
    assert (rows["b"]["differs"], rows["c"]["differs"]) == (False, True)
    assert rows["a"]["behind"] is None and rows["a"]["sd"] == pytest.approx(2.0)
    assert pooled_sd([[1.0], [2.0]]) is None


def test_networks_that_make_no_race(pretend: Pretend) -> None:
    with pytest.raises(
        TftasError, match="two networks or more that are no baseline, 1 given; nam"
    ):
        pretend("a", baselines="b")
    with pytest.raises(TftasError, match="a is in the race twice; leave one out"):
        pretend("aba")
    with pytest.raises(TftasError, match="images of 8 and 16 pixels, so their accuracies do not"):
        pretend("ab", sizes={"b": 16})
    pretend("ab", sizes={"b": None})


def test_a_network_that_diverges_is_left_out_and_the_others_go_on(pretend: Pretend) -> None:
    told: list[str] = []

    def top1(name: str, epoch: int, seed: int) -> float:
        return math.nan if name == "f" or (name, epoch, seed) == ("e", 5, 1) else float(ord(name))

    rows = {row["name"]: row for row in pretend("abcdef", top1, told=told.append).run()}
    assert "left out: the training loss is nan" in told
    assert [(row["name"], row["seeds"]) for row in rows.values()] == [
        *(("e", 2), ("d", 3), ("c", 3)),
        *(("b", 0), ("a", 0), ("f", 0)),
    ]
    assert rows["f"]["epochs"] == 0 and rows["f"]["top1"] is None
    assert not any("the time is over" in line for line in told)


@pytest.mark.parametrize("names", ["abcd", "ab"])
def test_where_all_diverge_there_is_no_race(names: str, pretend: Pretend) -> None:
    with pytest.raises(UnavailableError, match="all networks diverged; begin again with a lower"):
        pretend(names, lambda name, epoch, seed: math.nan).run()


def test_networks_that_are_all_equal_go_on_together(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("builtins.ord", lambda _: 50)
    rows = pretend("abcd", told=told.append).run()
    assert [row["seeds"] for row in rows] == [3] * 4
    assert not any("dropped" in line for line in told)


@pytest.mark.parametrize(
    ("names", "changes", "told"),
    [
        ("abce", {}, "a race of other networks; give the same to go on with it, or another --out"),
        ("abc", {"baselines": "d"}, "race of other networks"),
        ("abcd", {"epochs": 9}, "race holds a race with epochs 8, not 9; use the same to go on"),
        ("abcd", {"recipe": {"lr": 0.5}}, "race with lr 0.[0-9]+, not 0.5; use the same"),
    ],
)
def test_another_race_is_refused_before_anything_is_trained(
    names: str, changes: dict[str, Any], told: str, pretend: Pretend
) -> None:
    pretend("abcd").run()
    other: Any = pretend(names, **changes)
    with pytest.raises(UnavailableError, match=told):
        other.run()
    assert other.epochs == 0


def test_a_race_on_other_images_is_refused(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend("abcd").run()
    images = SimpleNamespace(about={"digest": "d2", "n_train": 400})
    monkeypatch.setattr(race, "open_data", lambda *args, **kwargs: (images, 3))
    with pytest.raises(UnavailableError, match="holds a race on other images; give the same to"):
        pretend("abcd").run()


def test_range_tests_count_in_the_time(pretend: Pretend) -> None:
    plain: Any = pretend("abcdef", epochs=30, timeout=400.0)
    plain.run()
    # Of 400 images in batches of 8 an epoch has 50 steps; there are 6 + 2 * 3 trainings.
    tests = 12 * STEPS / 50
    auto: Any = pretend("abcdef", epochs=30, timeout=400.0, recipe={"lr": "auto"})
    auto._out = auto._out.with_name("auto")
    rows = auto.run()
    reached = max(row["epochs"] for row in rows)
    assert (
        auto._rounds.epochs(reached) + tests
        <= 0.85 * 400
        < auto._rounds.epochs(reached + 1) + tests
    )
    assert reached < max(row["epochs"] for row in plain.run())


@pytest.mark.slow
def test_two_processes_race_together(
    tiny: Network, images: Path, begin: Begin, tmp_path: Path
) -> None:
    assert tiny.architecture is not None
    for name, ratio in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)):
        arch = {**tiny.architecture.to_dict(), "mlp_ratio": [ratio] * 2}
        text = yaml.safe_dump({"architecture": arch, "model": {"img_size": 8}})
        (tmp_path / f"{name}.yaml").write_text(text)
    done = end_together(
        *(begin, tmp_path, "retrain", "a.yaml", "b.yaml", "c.yaml", "d.yaml", "--race"),
        *("--data-dir", str(images), "--recipe", "quick", "--epochs", "2", "--batch-size", "8"),
        *("--set", "no_aug=true", "--device", "cpu", "--workers", "0"),
    )
    assert [each.returncode for each in done] == [0, 0], done
    assert ["Raced on" in each.stdout for each in done] == [True, False]
