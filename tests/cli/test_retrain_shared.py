"""``tftas-optuna retrain --shared``, and what the other commands do with what it leaves."""

from __future__ import annotations

import csv
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest_cli import write_tiny
from programs import Begin

from tftas_optuna.cli import main
from tftas_optuna.supernet.files import read_supernet

RECIPE = (
    *("--recipe", "quick", "--epochs", "2", "--batch-size", "8", "--set", "warmup_epochs=0"),
    *("--set", "no_aug=true", "--set", "smoothing=0", "--set", "log_interval=1"),
    *("--device", "cpu", "--workers", "0", "--data-dir", "images"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with images, a space and its study; tests may add to it."""
    return write_tiny(tmp_path_factory.mktemp("place"))


def call(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, args)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def study(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(place)
    if not Path("tftas.db").exists():
        code, _, err = call(
            "run", "--space", "tiny.yaml", "--n-trials", "12", "-q", "--device", "cpu"
        )
        assert code == 0, err
    return "tiny"


def test_a_front_is_trained_together_and_used(study: str) -> None:
    train = ("retrain", "--study", study, "--shared", *RECIPE)
    code, out, err = call(*train)
    assert code == 0, err
    assert "Trained together on images" in out and "tiny-trial00000" in out
    assert "trained/tiny-shared: one supernet" in err
    trained = read_supernet("trained/tiny-shared")
    code, out, _ = call("front", "-f", "json")
    rows = json.loads(out)
    assert len(rows) == len(trained.members or ())
    assert all(row["shared_top1"] is not None for row in rows)
    # The same command says what it has, and trains nothing.
    code, again, _ = call(*train, "-f", "json")
    assert code == 0 and len(json.loads(again)) == len(rows)
    # Members leave as networks without any further training.
    code, out, err = call(
        *("export", "-f", "timm", "--best", "--weights", "trained/tiny-shared"),
        *("--out", "deployed"),
    )
    assert code == 0, err
    (folder,) = Path("deployed").iterdir()
    assert json.loads((folder / "config.json").read_text())["weights"] == "trained"
    # A slice is fine-tuned.
    code, out, err = call(
        *("retrain", "--study", study, "--top", "1", "--weights", "trained/tiny-shared", *RECIPE),
        *("--out", "fine"),
    )
    assert code == 0, err
    # And the space is searched again, on the trained weights.
    code, _, err = call(
        *("run", "--supernet", "trained/tiny-shared", "--study-name", "again", "--n-trials", "4"),
        *("-q", "--device", "cpu"),
    )
    assert code == 0, err


def test_files_and_spaces_are_trained_together(study: str, place: Path) -> None:
    code, _, err = call("export", "--study-name", study, "--out", "front", "-f", "yaml")
    assert code == 0, err
    files = sorted(str(path) for path in Path("front").glob("*.yaml"))[:3]
    code, out, err = call("retrain", "--shared", *files, *RECIPE, "--out", "files", "-f", "csv")
    assert code == 0, err
    assert [row["name"] for row in csv.DictReader(out.splitlines())] == [
        Path(file).stem for file in files
    ]
    code, out, err = call(
        *("retrain", "--shared", "--space", "tiny.yaml", *RECIPE, "--out", "space", "-f", "csv")
    )
    assert code == 0, err
    assert len(out.splitlines()) == 11
    assert read_supernet("space/tiny-shared").members is None


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        (("--space", "tiny.yaml"), "--space is for --shared"),
        (("a.yaml", "b.yaml"), "2 networks are given; give one, or --shared"),
        (("--shared",), "give one of an exported file"),
        (("--shared", "--study", "tiny", "--space", "tiny.yaml"), "give one of an exported file"),
        (("--shared", "--study", "tiny", "--weights", "scratch"), "leave out --weights"),
        (("--shared", "--study", "tiny", "--trial", "0"), "is the only member"),
        (("--shared", "--study", "tiny", "--teacher", "vit_tiny_patch16_224"), "a teacher does"),
        (
            ("--shared", "--study", "tiny", "--supernet", "timm:resnet18"),
            "no plain Vision Transformer",
        ),
        (("--shared", "--space", "tiny.yaml", "--top", "3"), "choose from a --study"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    study: str, args: tuple[str, ...], fact: str
) -> None:
    code, _, err = call("retrain", *args, *RECIPE, "--out", "refused")
    assert code == 2 and fact in err, err
    assert not Path("refused").exists()


@pytest.mark.slow
def test_two_processes_train_the_same_members(study: str, place: Path, begin: Begin) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    # Members differ in depth, and a step without synchronisation comes before the last.
    more = ("--set", "shared_members=2", "--set", "shared_rule=sandwich")
    command = ("retrain", "--study", study, "--shared", *RECIPE, *more, "--no-record")
    programs = [
        begin("tftas_optuna", place, *command, "--out", "two", RANK=r, LOCAL_RANK=r, **world)
        for r in ("0", "1")
    ]
    done = [program.end() for program in programs]
    assert [each.returncode for each in done] == [0, 0], done
    code, _, err = call(*command, "--out", "one")
    assert code == 0, err
    one, two = (
        [float(row["loss"]) for row in csv.DictReader(Path(name).open())]
        for name in ("one/tiny-shared/steps.csv", "two/tiny-shared/steps.csv")
    )
    assert two == pytest.approx(one, rel=1e-4)
