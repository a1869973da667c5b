"""``spaces --for`` a folder of images, and what ``spaces --check`` says of training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from images import draw_images
from PIL import Image

from tftas_optuna.cli import main
from tftas_optuna.retrain import timing
from tftas_optuna.retrain.survey import survey
from tftas_optuna.spaces import get_space


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_space_for_a_folder_is_searched_and_trained(place: Path) -> None:
    draw_images(place / "my flowers", train=6, val=2, side=20)
    done = call("spaces", "--for", "my flowers", "--params-max", "60k")
    assert done.exit_code == 0, done.stderr
    space = get_space(_written(done.stdout))
    assert (space.name, space.img_size, space.in_chans, space.num_classes) == (
        "my-flowers", 20, 3, 3,
    )  # fmt: skip
    assert space.costs(space.largest()).n_params <= 60_000
    # What is printed next writes that file, and searches it.
    first, second = (shlex.split(line, comments=True) for line in done.stderr.splitlines()[1:])
    assert first == [
        *("tftas-optuna", "spaces", "--for", "my flowers", "--params-max", "60000"),
        *(">", "my-flowers.yaml"),
    ]
    again = call(*first[1:-2])
    assert again.stdout == done.stdout
    Path(first[-1]).write_text(again.stdout)
    assert call(*second[1:], "--n-trials", "4", "--population-size", "2").exit_code == 0
    step = timing.time_step(space, space.largest(), "quick")
    assert step.seconds > 0 and step.batch_size <= 32 and 1 <= step.steps <= 3


def _written(text: str) -> Path:
    path = Path("written.yaml")
    path.write_text(text)
    return path


def test_a_folder_of_grey_images_without_splits(place: Path) -> None:
    for name, side in (("a", 30), ("b", 30), ("c", 70)):
        Path("grey", name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (side, side + i)).save(Path("grey", name, f"{i}.png"))
    Path("grey", "c", "3.png").write_bytes(b"")
    found = survey(Path("grey"))
    assert (found.n_images, found.num_classes, found.side, found.in_chans) == (10, 3, 30, 1)
    assert found.n_opened == 9 and not found.alike
    Image.new("RGB", (30, 30)).save(Path("grey", "a", "9.png"))
    assert survey(Path("grey")).in_chans == 3


def test_what_holds_no_images_to_train_on_is_refused(place: Path) -> None:
    draw_images(place / "data", train=2, val=1)
    Path("empty").mkdir()
    Path("bad", "a").mkdir(parents=True)
    Path("bad", "b").mkdir()
    for name in ("a", "b"):
        Path("bad", name, "0.png").write_bytes(b"broken")
    Path("held").mkdir()
    Path("data", "val").rename(Path("held", "val"))
    Path("one").mkdir()
    Path("data", "train", "red").rename(Path("one", "red"))
    for directory, message in {
        "nowhere": "nowhere is no directory; give one with",
        "empty": "empty holds no images",
        "bad": "cannot be read: it is empty, damaged or no image",
        "held": "held has no folder train",
        "one": "are of one class, 'red'",
    }.items():
        done = call("spaces", "--for", directory)
        assert done.exit_code == 1 and done.stdout == ""
        assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [("--for", ".", "pit-tiny"), ("--for", ".", "--check"), ("--for", ".", "-f", "csv"),
     ("--params-max", "1M"), ("--data-dir", ".")],
)  # fmt: skip
def test_options_that_have_no_meaning_are_refused(arguments: tuple[str, ...], place: Path) -> None:
    done = call("spaces", *arguments)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1


def test_an_epoch_is_told_for_a_thousand_images_or_for_those_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    draw_images(folder / "data", train=5, val=1)
    steps = iter([timing.StepTime(0.002, 32, 3), timing.StepTime(0.5, 4, 2)] * 3)
    monkeypatch.setattr(timing, "time_step", lambda *_: next(steps))
    monkeypatch.setattr(timing, "usual_recipe", lambda: "quick")
    monkeypatch.setattr(timing, "where", lambda: "this CPU")
    monkeypatch.setattr("tftas_optuna.scoring.timing.seconds_per_score", lambda _: {})
    told = " ".join(call("spaces", "--check", "small.yaml").stdout.split())
    assert "an epoch of training 2 s - 500 s for 1,000 images measured here by 3 x 32 and" in told
    assert "and 2 x 4 images, recipe quick, this CPU; images not read" in told
    told = call("spaces", "--check", "small.yaml", "--data-dir", "data").stdout
    assert "0.03 s - 7.5 s for 15 images" in told
    (row,) = json.loads(call("spaces", "--check", "small.yaml", "-f", "json").stdout)
    assert row["seconds_per_epoch"] == [2.0, 500.0]
