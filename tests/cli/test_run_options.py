"""What the options of ``tftas-optuna run`` do, and what it says at the end."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from click.testing import CliRunner, Result
from conftest_cli import SEARCH, Run

from tftas_optuna import get_space, pareto_front, register_cost, search
from tftas_optuna.architecture import Architecture
from tftas_optuna.cli import main
from tftas_optuna.cli._options import Amount
from tftas_optuna.metrics import registry
from tftas_optuna.metrics.units import scores_alike
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study
from tftas_optuna.study import selection
from tftas_optuna.study.record import read_settings

STORAGE = "sqlite:///tftas.db"


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


def run(*args: str) -> Result:
    done = call(*SEARCH, *args)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(autouse=True)
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(registry.METRICS, "registered", {})
    return folder


def test_a_small_space_is_not_searched_more_often_than_it_has_architectures(
    small_space: AutoFormerSpace,
) -> None:
    document = small_space.to_dict() | {"embed_dim": small_space.embed_dim[:1], "num_heads": [1]}
    Path("few.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(document))))
    few = get_space("few.yaml").cardinality()
    assert few < 1000
    done = call("run", "--space", "few.yaml", "--objectives", "n_params", "-q")
    assert done.exit_code == 0, done.stderr
    assert f"of {few} trials" in done.stdout


def test_a_study_says_what_the_options_said() -> None:
    run(
        *("--n-trials", "4", "--population-size", "4", "--study-name", "mine"),
        *("--seed", "3", "--supernet-seed", "5", "--n-seeds", "2", "--fidelity", "collapsed"),
        *("--objectives", "dss, peak_memory", "--latency-batch-size", "2"),
        *("--latency-threads", "3", "--params-min", "40k", "--params-max", "0.2M"),
        *("--macs-max", "9_000k", "--bound", "activations >= 1k", "--bound", "macs>=10k"),
    )
    settings = read_settings(load_study(STORAGE, "mine"))
    assert (settings.seed, settings.conditions.supernet.seed, settings.conditions.n_seeds) == (
        3,
        5,
        2,
    )
    assert (settings.population_size, settings.fidelity) == (4, "collapsed")
    assert settings.objectives == ("dss", "peak_memory")
    assert settings.deployment is not None
    assert (settings.deployment["batch_size"], settings.deployment["threads"]) == (2, 3)
    assert settings.bounds == {
        "n_params": (40e3, 200e3),
        "macs": (10e3, 9e6),
        "activations": (1e3, None),
    }


def test_the_supernet_has_the_samplers_seed_unless_told() -> None:
    run("--n-trials", "1", "--seed", "3")
    assert read_settings(load_study(STORAGE, "small")).conditions.supernet.seed == 3


def test_a_search_begins_with_what_it_is_given(small_space: AutoFormerSpace) -> None:
    given = [small_space.largest(), small_space.smallest()]
    for number, arch in enumerate(given):
        document = {"architecture": arch.to_dict()}
        Path(f"{number}.yaml").write_text(yaml.safe_dump(document))
    run("--n-trials", "3", "--start", "0.yaml", "--start", "1.yaml")
    trials = load_study(STORAGE, "small").trials
    found: list[Architecture] = [small_space.decode(trial.params) for trial in trials]
    assert found[:2] == given and found[2] not in given


@pytest.mark.parametrize(
    ("options", "most"), [(("--timeout", "1e-9"), 1), (("--patience", "1"), 400)]
)
def test_a_search_may_end_early(options: tuple[str, ...], most: int) -> None:
    run("--n-trials", "1000", "--objectives", "n_params,macs", *options)
    assert len(load_study(STORAGE, "small").trials) <= most


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", "2", "--cluster", "tcp://x:1"), "workers is 2 and there is a cluster too"),
        (("--objectives", "dss,macs,n_params,activations"), "--objectives names 4; allowed are"),
        (("--bound", "n_params<5M"), "'n_params<5M' is no bound; write it like"),
        (("--bound", "n_params<=x"), "'x' is no positive amount"),
        (
            ("--params-max", "6M", "--bound", "n_params<=5M"),
            "n_params has two bounds of the kind <=; give one of them (see",
        ),
        (
            ("--bound", "macs>=1k", "--bound", "macs>=2k"),
            "macs has two bounds of the kind >=; give one of them (see",
        ),
        (("--n-seeds", "0"), "'--n-seeds': 0 is not in the range"),
    ],
)
def test_options_that_do_not_go_are_refused(
    options: tuple[str, ...], message: str, place: Path
) -> None:
    done = call(*SEARCH, *options)
    assert done.exit_code == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["small.yaml"]


def test_a_search_without_a_feasible_trial_says_so() -> None:
    done = run("--n-trials", "4", "--bound", "dss>=1e30")
    assert "Pareto front of small: 0 of 4 trials" in done.stdout
    assert done.stderr.endswith("No trial met the bounds yet; go on with more --n-trials.\n")
    assert "Next:" not in done.stderr
    for form, nothing in (("json", "[]"), ("yaml", "[]"), ("csv", "")):
        shown = call("front", "-f", form)
        assert shown.exit_code == 0 and shown.stdout.strip() == nothing
    assert "0 of 4 trials" in call("front").stdout


def test_what_to_type_next_names_the_study_and_its_storage() -> None:
    storage = "sqlite:///other one.db"
    name = "it's mine"
    done = run("--n-trials", "8", "--storage", storage, "--study-name", name)
    lines = done.stderr.split("Next:")[1].strip().splitlines()
    commands = [shlex.split(line, comments=True) for line in lines]
    assert [command[1] for command in commands] == ["front", "export", "retrain", "dashboard"]
    for program, _, *options in commands:
        assert program == "tftas-optuna"
        assert options[:4] == ["--storage", storage, "--study-name", name]
    assert call(*commands[0][1:]).exit_code == 0
    usual = run("--n-trials", "1")
    assert "--storage" not in usual.stderr and "front --study-name small" in usual.stderr


def test_the_budget_to_try_next_holds_the_middle_of_the_front() -> None:
    done = run("--n-trials", "24")
    line = next(line for line in done.stderr.splitlines() if "--params-max" in line)
    budget = Amount().convert(line.split("--params-max")[1].split()[0], None, None)
    members = pareto_front(load_study(STORAGE, "small"))
    middle = members[len(members) // 2].n_params
    assert middle <= budget <= 1.01 * middle


@pytest.mark.parametrize(
    ("cost", "option"),
    [
        ("macs", "--macs-max "),
        ("latency", "--latency-max "),
        ("activations", "--bound 'activations<="),
    ],
)
def test_the_budget_to_try_next_is_one_of_the_cost_that_was_searched(
    cost: str, option: str
) -> None:
    done = run("--n-trials", "8", "--objectives", f"dss,{cost}")
    (line,) = (line for line in done.stderr.splitlines() if " export " in line)
    assert f"--best {option}" in line
    assert call(*shlex.split(line.partition("#")[0])[1:]).exit_code == 0


def test_of_a_long_front_both_ends_are_shown() -> None:
    register_cost("rest", lambda arch, **sizes: 1e6 - arch.costs(**sizes).n_params)
    options = ("--objectives", "n_params,rest", "--n-trials", "40", "--population-size", "40")
    done = run(*options, "-q")
    members = pareto_front(load_study(STORAGE, "small"))
    assert len(members) > 25
    title = f"Pareto front of small: {len(members)} of 40 trials (20 shown)"
    shown = [line.split()[1] for line in done.stdout.splitlines() if "│" in line]
    numbers = [member.trial for member in members]
    places = [numbers.index(int(number)) for number in shown]
    assert title in done.stdout and len(shown) == 20 and done.stderr == ""
    assert places == sorted(places) and (places[0], places[-1]) == (0, len(members) - 1)
    whole = call("front").stdout
    assert sum("│" in line for line in whole.splitlines()) == len(members)


def test_a_collapsed_search_shows_both_scores_and_how_they_agree() -> None:
    done = run("--n-trials", "12", "--fidelity", "collapsed")
    study = load_study(STORAGE, "small")
    agreement = study.user_attrs["exact_agreement"]["dss"]
    assert f"dss of the front computed exactly: Kendall tau {agreement['kendall_tau']:.4f}" in (
        done.stderr
    )
    assert "collapsed DSS" in done.stdout and "exact DSS" in done.stdout
    rows = [line.split("│") for line in done.stdout.splitlines() if "│" in line]
    members = pareto_front(study)
    approximate = scores_alike(member.values["dss"] for member in members)
    exact = scores_alike(member.exact["dss"] for member in members)
    assert [[cell.strip() for cell in row[2:4]] for row in rows] == [
        list(pair) for pair in zip(approximate, exact, strict=True)
    ]
    assert (
        "computed exactly"
        not in run("--n-trials", "2", "--fidelity", "exact", "--study-name", "b").stderr
    )


def test_what_is_exported_is_exact_as_far_as_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "SHOWN", 3)
    options = ("--n-trials", "16", "--fidelity", "collapsed")
    done = run(*options, "--out", "front")
    members = pareto_front(load_study(STORAGE))
    exact = [candidate.trial for candidate in members if candidate.exact]
    assert len(exact) == 3 < len(members)
    assert f"dss of 3 of {len(members)} members computed exactly" in done.stderr
    assert f"dss is exact in 3 of {len(members)}, approximate in the others" in done.stderr
    assert [c.trial for c in selection.spread(members, 3, read_settings(load_study(STORAGE)))] == (
        exact
    )
    # The same search without files, and one of which all is exact.
    run(*options, "--study-name", "b")
    alike = pareto_front(load_study(STORAGE, "b"))
    assert [candidate.exact for candidate in alike] == [one.exact for one in members]
    run(*options, "--study-name", "c", "--exact")
    assert all(candidate.exact for candidate in pareto_front(load_study(STORAGE, "c")))


def test_a_search_that_goes_on_writes_over_what_it_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "SHOWN", 3)
    options = ("--fidelity", "collapsed", "--out", "front")
    run("--n-trials", "16", *options)
    first = {path.name: path.read_text() for path in Path("front").iterdir()}
    done = run("--n-trials", "16", *options)
    assert done.exit_code == 0, done.stderr
    second = {path.name: path.read_text() for path in Path("front").iterdir()}
    assert first.keys() < second.keys()
    assert any(second[name] != text for name, text in first.items())


def test_logs_are_shown_when_asked_for(tftas: Run, folder: Path) -> None:
    options = ("--n-trials", "1", "--objectives", "n_params", "--storage")
    assert "A new study created" in tftas(folder, *SEARCH, *options, "sqlite:///a.db", "-v").stderr
    assert "A new study created" not in tftas(folder, *SEARCH, *options, "sqlite:///b.db").stderr


def test_the_storage_may_come_from_the_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///named.db")
    done = run("--n-trials", "1")
    assert optuna.get_all_study_names("sqlite:///named.db") == ["small"]
    assert not (place / "tftas.db").exists()
    assert "front --storage sqlite:///named.db --study-name small" in done.stderr


def test_a_study_records_the_command_that_began_it() -> None:
    options = ("--n-trials", "2", "--objectives", "n_params")
    run(*options)
    run(*options, "--workers", "1")
    (command,) = {load_study(STORAGE).user_attrs["command"]}
    assert shlex.split(command) == ["tftas-optuna", *SEARCH, *options]


def test_a_study_that_something_else_began_records_no_command() -> None:
    space, costs = get_space("small.yaml"), ("n_params",)
    sizes: dict[str, Any] = {"img_size": 32, "num_classes": 10}
    search(space, n_trials=2, objectives=costs, population_size=8, storage=STORAGE, **sizes)
    run("--n-trials", "2", "--objectives", "n_params")
    study = load_study(STORAGE)
    assert len(study.trials) == 4 and "command" not in study.user_attrs
