from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml
from conftest_cli import SEARCH, Run
from processes import seen, stored
from programs import Begin

from tftas_optuna import Architecture, get_space, pareto_front


def test_run_ends_with_the_front_and_what_to_type_next(tftas: Run, folder: Path) -> None:
    done = tftas(folder, *SEARCH, "--n-trials", "16", "--out", "found")
    assert done.returncode == 0
    assert "Pareto front of small:" in done.stdout and "of 16 trials" in done.stdout
    assert "16/16 trials" in done.stderr and "scoring ms/trial" in done.stderr
    assert "hypervolume" in done.stderr and "Pareto" not in done.stderr
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/tftas.db")
    assert len(study.trials) == 16
    assert len(list((folder / "found").iterdir())) == 2 * len(pareto_front(study))
    for line in done.stderr.split("Next:")[1].strip().splitlines():
        command = line.split("#")[0].split()
        assert command[0] == "tftas-optuna"
        if command[1] == "retrain":
            assert "data directory DIR does not exist" in tftas(folder, *command[1:]).stderr
        elif command[1] != "dashboard":
            assert tftas(folder, *command[1:]).returncode == 0, line


def test_twice_the_same_and_then_more(tftas: Run, folder: Path) -> None:
    def trials(storage: str) -> list[object]:
        study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/{storage}")
        return [(t.params, t.values) for t in study.trials]

    for storage in ("a.db", "b.db"):
        done = tftas(
            folder,
            *SEARCH,
            "--n-trials",
            "20",
            "--seed",
            "5",
            "-q",
            OPTUNA_STORAGE=f"sqlite:///{storage}",
        )
        assert done.returncode == 0 and done.stderr == ""
    assert trials("a.db") == trials("b.db") and len(trials("a.db")) == 20
    more = tftas(folder, *SEARCH, "--n-trials", "5", "--seed", "5", "--storage", "sqlite:///a.db")
    assert more.returncode == 0 and "of 25 trials" in more.stdout
    assert trials("a.db")[:20] == trials("b.db")


def test_a_search_goes_on_in_another_locale(tftas: Run, folder: Path) -> None:
    """From UTF-8 to plain ASCII, and to another time zone."""
    for storage, n_trials in (("whole.db", "20"), ("parts.db", "7")):
        tftas(folder, *SEARCH, "--n-trials", n_trials, "--storage", f"sqlite:///{storage}")
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tftas_optuna", *SEARCH, "--n-trials", "13", "--out", "größe"]
        + ["--storage", "sqlite:///parts.db"],
        cwd=folder,
        env={**os.environ, **ascii_only, "TZ": "Pacific/Auckland"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "of 20 trials" in done.stdout.decode("ascii")
    one, two = (
        optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/{name}.db")
        for name in ("whole", "parts")
    )
    assert seen(one) == seen(two)
    assert len(list((folder / "größe").iterdir())) == 2 * len(pareto_front(one))


def test_front_in_every_format(tftas: Run, searched: Path) -> None:
    rows = json.loads(tftas(searched, "front", "-f", "json").stdout)
    assert rows and all(row["n_params"] <= 150_000 for row in rows)
    assert [row["dss"] for row in rows] == sorted((row["dss"] for row in rows), reverse=True)
    assert all(Architecture.from_dict(row["architecture"]) for row in rows)
    assert yaml.safe_load(tftas(searched, "front", "-f", "yaml").stdout) == rows
    table = list(csv.DictReader(io.StringIO(tftas(searched, "front", "-f", "csv").stdout)))
    assert [float(row["dss"]) for row in table] == [row["dss"] for row in rows]
    assert table[0]["num_heads"] == " ".join(map(str, rows[0]["architecture"]["num_heads"]))
    shown = tftas(searched, "front").stdout
    assert f"{len(rows)} of 24 trials" in shown and str(rows[0]["trial"]) in shown
    assert shown.endswith("Best first, by dss_collapsed.\n")


def test_some_of_a_front_are_printed_best_first(tftas: Run, searched: Path) -> None:
    def trials(*args: str) -> list[int]:
        rows = json.loads(tftas(searched, "front", "-f", "json", *args).stdout)
        return [row["trial"] for row in rows]

    every = trials()
    assert trials("--top", "2") == every[:2]
    some = trials("--spread", "3")
    assert len(some) == 3 and (some[0], some[-1]) == (every[0], every[-1])
    assert trials("--spread", "1000") == every
    told = tftas(searched, "front", "--spread", "3").stdout
    assert f"{len(every)} of 24 trials (3 shown)" in told


def test_export_picks(tftas: Run, searched: Path, tmp_path: Path) -> None:
    rows = json.loads(tftas(searched, "front", "-f", "json").stdout)[::-1]
    middle = rows[len(rows) // 2]

    def exported(*args: str) -> list[str]:
        done = tftas(searched, "export", "--out", str(tmp_path / "out"), "-f", "yaml", *args)
        assert done.returncode == 0, done.stderr
        return [Path(line).name for line in done.stdout.splitlines()]

    def name(row: dict[str, object]) -> str:
        return f"small-trial{row['trial']:05d}.yaml"

    assert exported() == [name(row) for row in rows]
    assert exported("--best") == [name(rows[-1])]
    assert exported("--best", "--params-max", str(middle["n_params"])) == [name(middle)]
    assert exported("--params-max", str(middle["n_params"])) == [
        name(row) for row in rows[: rows.index(middle) + 1]
    ]
    assert exported("--trial", "3", "--trial", "0") == [f"small-trial0000{n}.yaml" for n in (3, 0)]
    assert exported("--knee")[0] in [name(row) for row in rows]
    assert exported("--top", "2") == [name(row) for row in rows[:-3:-1]]
    ends = exported("--spread", "3", "--macs-max", str(middle["macs"]))
    assert len(ends) == 3 and {name(rows[0]), name(middle)} < set(ends)
    assert exported("--knee", "--prefix", "pick") != exported("--knee")


def test_an_exported_file_scores_as_its_trial_did(
    tftas: Run, searched: Path, tmp_path: Path
) -> None:
    tftas(searched, "export", "--best", "--out", str(tmp_path))
    (best,) = tmp_path.glob("*[0-9].yaml")
    retrain = tmp_path / "theirs.yaml"
    section = {"EMBED_DIM": 64, "DEPTH": 1, "NUM_HEADS": [1], "MLP_RATIO": [2]}
    retrain.write_text(yaml.safe_dump({"RETRAIN": section}))
    done = tftas(
        searched,
        "score",
        str(best),
        str(retrain),
        "tf-tas-tiny",
        "vit_tiny_patch16_224",
        "-f",
        "json",
    )
    assert done.returncode == 0, done.stderr
    ours, config, published, vit = json.loads(done.stdout)
    scores = yaml.safe_load(best.read_text())["scores"]
    assert ours["dss"] == scores["dss"] and ours["n_params"] == scores["n_params"]
    assert config["dss"] > 0 and config["weights"] == "fresh, seed 0"
    assert published["n_params"] == 6_200_776
    assert vit["n_params"] == 5_717_416 and vit["macs"] == pytest.approx(1.26e9, rel=0.01)
    table = tftas(searched, "score", str(best)).stdout
    assert "small supernet, seed 0" in table


def test_spaces(tftas: Run, folder: Path) -> None:
    rows = json.loads(tftas(folder, "spaces", "-f", "json").stdout)
    assert [row["name"] for row in rows] == [
        "autoformer-tiny",
        "autoformer-small",
        "autoformer-base",
        "vit-tiny-small",
        "pit-tiny",
        "pit-xs",
        "pit-small",
    ]
    assert rows[0]["cardinality"] == 1_056_964_608
    assert rows[0]["n_params"] == [5_366_056, 10_517_272]
    assert rows[3]["cardinality"] == 364
    assert rows[4]["cardinality"] == 4320
    assert "small" in tftas(folder, "spaces", "small.yaml").stdout
    tables = tftas(folder, "spaces").stdout
    assert "family autoformer" in tables and "family pit" in tables


def test_check_explains_a_space_and_measures_a_score(tftas: Run, folder: Path) -> None:
    text = (folder / "small.yaml").read_text()
    (folder / "mine.yaml").write_text(f"{text}img_size: 32\nin_chans: 1\nnum_classes: 7\n")
    done = tftas(folder, "spaces", "--check", "mine.yaml")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["for"].strip() == "1x32x32 images and 7 classes"
    assert rows["embed_dim"].strip() == "32, 48, 64"
    assert rows["architectures"].strip() == "22,113"
    smallest = get_space(folder / "mine.yaml").smallest()
    n_params = smallest.costs(img_size=32, num_classes=7, in_chans=1).n_params
    assert rows["params"].startswith(f"{n_params / 1e3:.2f}k - ")
    assert "score, exact" in done.stdout and "score, collapsed" in done.stdout
    assert " ms on " in done.stdout and "1,000 trials take" in done.stdout
    (row,) = json.loads(tftas(folder, "spaces", "--check", "mine.yaml", "-f", "json").stdout)
    assert 0 < row["seconds_per_score"]["collapsed"] < row["seconds_per_score"]["exact"] < 5


def test_a_space_brings_its_images_along(tftas: Run, folder: Path) -> None:
    text = (folder / "small.yaml").read_text()
    (folder / "mine.yaml").write_text(f"{text}img_size: 32\nin_chans: 1\nnum_classes: 7\n")
    run = ("run", "--space", "mine.yaml", "--n-trials", "2", "--population-size", "2")
    assert tftas(folder, *run, "--out", "found").returncode == 0
    document = yaml.safe_load(next((folder / "found").glob("*.yaml")).read_text())
    sizes = {"img_size": 32, "num_classes": 7, "in_chans": 1}
    assert {name: document["model"][name] for name in sizes} == sizes
    costs = Architecture.from_dict(document).costs(**sizes)
    assert document["scores"]["n_params"] == costs.n_params
    explicit = tftas(folder, *run, "--num-classes", "9", "--study-name", "b", "--out", "nine")
    assert explicit.returncode == 0
    document = yaml.safe_load(next((folder / "nine").glob("*.yaml")).read_text())
    assert document["model"]["num_classes"] == 9


def test_a_broken_space_runs_nothing(tftas: Run, folder: Path) -> None:
    text = (folder / "small.yaml").read_text().replace("- 32", "- x", 1)
    (folder / "small.yaml").write_text(text)
    for command in (("run", "--space", "small.yaml"), ("spaces", "--check", "small.yaml")):
        done = tftas(folder, *command)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr == (
            "Error: small.yaml, line 6: embed_dim holds 'x', allowed are positive whole numbers\n"
        )
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


def test_what_needs_no_torch_does_not_load_it(searched: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from tftas_optuna.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'timm', 'plotly'} & sys.modules.keys()\n"
    )
    for command in (
        ["--help"],
        ["run", "--help"],
        ["spaces"],
        ["front"],
        ["export", "--out", str(tmp_path)],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=searched, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupting_keeps_what_is_scored(
    folder: Path, begin: Begin, number: signal.Signals, code: int
) -> None:
    program = begin("tftas_optuna", folder, *SEARCH, "--n-trials", "100000")
    while not stored(f"sqlite:///{folder}/tftas.db"):
        program.process.join(0.05)
        assert program.process.is_alive()
    assert program.process.pid
    os.kill(program.process.pid, number)
    done = program.end()
    assert done.returncode == code
    errors = done.stderr
    assert "Traceback" not in errors and "trials are kept. Go on with the same command" in errors
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder}/tftas.db")
    assert f"; {len(study.trials)} trials are kept" in errors and study.trials


BAD = {
    "unknown space": (2, "unknown space 'nope'", "run", "--space", "nope"),
    "missing space file": (2, "none.yaml: cannot be read", "run", "--space", "none.yaml"),
    "hostile space file": (2, "not plain YAML", "run", "--space", "evil.yaml"),
    "hostile score file": (2, "not plain YAML", "score", "evil.yaml"),
    "no such model": (2, "neither a file, a directory, a timm model", "score", "nope"),
    "no attention": (2, "ResNet has no attention", "score", "resnet18"),
    "no storage": (1, "does not exist; make it with", "front"),
    "no trials": (2, "'--n-trials': 0 is not in the range", *SEARCH, "--n-trials", "0"),
    "negative trials": (2, "-5 is not in the range", *SEARCH, "--n-trials", "-5"),
    "impossible bound": (2, "excludes every architecture", *SEARCH, "--params-max", "10"),
    "crossed bounds": (
        2,
        "lower bound is higher",
        *SEARCH,
        "--params-max",
        "90k",
        "--params-min",
        "100k",
    ),
    "no amount": (2, "'6X' is no positive amount", *SEARCH, "--params-max", "6X"),
    "no device": (2, "device 'cuda:99' is not there", *SEARCH, "--device", "cuda:99"),
    "no server": (
        1,
        "cannot be opened",
        *SEARCH,
        "--storage",
        "postgresql://postgres:secret@127.0.0.1:9/x",
    ),
    "no such start": (
        2,
        "'nope' is neither a file, a directory, nor one of auto",
        *SEARCH,
        "--start",
        "nope",
    ),
    "no storage at all": (1, "neither a database URL", *SEARCH, "--storage", "nonsense"),
    "out is a file": (1, "evil.yaml is in the way", *SEARCH, "--out", "evil.yaml"),
    "unknown option": (2, "No such option", "run", "--frobnicate"),
    "small image": (2, "smaller than one patch", "run", "--img-size", "8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_creates_nothing(tftas: Run, folder: Path, name: str) -> None:
    code, message, *args = BAD[name]
    (folder / "evil.yaml").write_text("a: !!python/object/apply:os.system ['touch hacked']\n")
    before = sorted(os.listdir(folder))
    # The fixed options of SEARCH come first, so the last one wins.
    done = tftas(folder, *args)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert "secret" not in done.stderr and done.stdout == ""
    assert sorted(os.listdir(folder)) == before


# The command line, with less patience for a scheduler.
IMPATIENT = """
import distributed
client = distributed.Client
distributed.Client = lambda address, **how: client(address, **{**how, "timeout": 0.5})
from tftas_optuna.cli import main
main()
"""


def test_a_cluster_that_does_not_answer_is_one_line(begin: Begin, folder: Path) -> None:
    pytest.importorskip("distributed")
    script = folder / "impatient.py"
    script.write_text(IMPATIENT)
    done = begin(script, folder, *SEARCH, "--cluster", "tcp://127.0.0.1:9").end()
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: no Dask scheduler answers at 'tcp://127.0.0.1:9'")
    assert not list(folder.glob("*.db"))


@pytest.mark.parametrize("name", ["none.yaml", "broken.yaml"])
@pytest.mark.parametrize(
    "words",
    [
        ("spaces", "{}"),
        ("run", "--space", "{}"),
        ("run", "--start", "{}"),
        ("score", "{}"),
        ("correlate", "{}"),
        ("retrain", "{}", "--data-dir", "x"),
        ("retrain", "tf-tas-tiny", "--data-dir", "x", "--recipe", "{}"),
    ],
)
def test_a_file_that_is_missing_or_wrong_is_a_usage_error(
    words: tuple[str, ...], name: str, tftas: Run, tmp_path: Path
) -> None:
    (tmp_path / "broken.yaml").write_text("[1, 2")
    done = tftas(tmp_path, *(word.format(name) for word in words))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert done.stderr.startswith(f"Error: {name}")


def test_bad_input_on_a_study(tftas: Run, searched: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = ("--out", str(tmp_path / "out"))
    for code, message, *args in (
        (1, "unknown study 'nope'", "front", "--study-name", "nope"),
        (1, "unknown trial 999", "export", "--trial", "999", *out),
        (1, "in the way: not a directory", "export", "--out", str(tmp_path / "file")),
        (1, "begins at n_params", "export", "--params-max", "1", *out),
        (2, "cannot start a file name", "export", "--prefix", "../up", *out),
        (2, "--best and --knee exclude each other", "export", "--best", "--knee", *out),
        (2, "--best and --top exclude", "export", "--best", "--top", "2", *out),
        (2, "--top and --spread exclude", "export", "--top", "2", "--spread", "2", *out),
        (2, "--top and --spread exclude", "front", "--top", "2", "--spread", "2"),
        (2, "'--spread': 1 is not in the range", "front", "--spread", "1"),
        (2, "do not apply", "export", "--trial", "1", "--macs-max", "1G", *out),
        (1, "made with bounds", *SEARCH, "--n-trials", "1"),
    ):
        done = tftas(searched, *args)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_traceback_only_when_asked_for(tftas: Run, folder: Path) -> None:
    assert "Traceback" not in tftas(folder, "front").stderr
    assert "Traceback" in tftas(folder, "front", "-v").stderr
