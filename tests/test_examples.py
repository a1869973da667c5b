from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import yaml
from PIL import Image
from programs import Begin

import tftas_optuna.models  # noqa: F401  (registers the networks)
from tftas_optuna import export_front, get_space, search

EXAMPLES = Path(__file__).parents[1] / "examples"

Run = Callable[..., str]


@pytest.fixture
def run(begin: Begin, tmp_path: Path) -> Run:
    """Run an example in an empty directory, with other settings than those at its top."""

    def run(name: str, **settings: object) -> str:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        for setting, value in settings.items():
            text, n_found = re.subn(
                rf"^{setting} = .*", f"{setting} = {value!r}", text, flags=re.M
            )
            assert n_found == 1, setting
        (tmp_path / name).write_text(text, encoding="utf-8")
        done = begin(tmp_path / name, tmp_path).end()
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_a_notebook_of_cells(path: Path) -> None:
    first, *cells = re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.M)
    assert not first
    for cell in cells:
        kind, text = cell.split("\n", 1)
        assert kind in ("", " [markdown]")
        if kind:
            assert all(line.startswith("#") or not line for line in text.split("\n"))
        compile(text, path.name, "exec")


@pytest.mark.slow
def test_from_a_space_to_a_trained_model(run: Run, tmp_path: Path) -> None:
    out = run("walkthrough.py", N_TRIALS=60, N_IMAGES=800).splitlines()
    written = tmp_path / "walkthrough"
    assert "</html>" in (written / "report.html").read_text(encoding="utf-8")
    picked = next(line for line in out if line.startswith("picked: trial "))
    number = int(picked.removeprefix("picked: trial ").partition(",")[0])
    assert (written / f"stripes-trial{number:05}.yaml").exists()
    top1 = float(next(line for line in out if line.startswith("top-1")).split()[1])
    assert top1 > 90
    chances = ast.literal_eval(out[-1])
    assert chances["lying"] > 0.5 > chances["standing"]


@pytest.mark.slow
def test_from_an_untrained_front_to_a_deployed_network(run: Run) -> None:
    out = run("front_to_network.py", N_TRIALS=20, EPOCHS_TOGETHER=15, EPOCHS_ALONE=3)
    shares = re.findall(r"^(together|trial|.*onnx)\b.* ([\d.]+) %", out, flags=re.M)
    together, fine_tuned, deployed = (float(percent) for _, percent in shares)
    # A chance would be 10 %.
    assert 25 < together < fine_tuned
    # timm prepares the images of the file as those of the training.
    assert deployed == fine_tuned


@pytest.mark.slow
def test_search_from_python(run: Run) -> None:
    out = run("search_from_python.py", N_TRIALS=6, BUDGET=8e6)
    assert "6/6 trials" in out and "built trial" in out


@pytest.mark.slow
def test_existing_study(run: Run) -> None:
    out = run("existing_study.py", N_TRIALS=4)
    assert "on the front" in out and "own objective" in out


def test_a_study_of_something_else(run: Run) -> None:
    out = run("screened_study.py", N_TRIALS=60).splitlines()
    assert [line.partition(":")[0] for line in out] == ["NSGA-II", "screened NSGA-II"]
    plain, screened = (int(line.split(": ")[1].split()[0]) for line in out)
    assert screened > plain


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "arch.yaml"
    arch = get_space("autoformer-tiny").smallest().to_dict()
    path.write_text(yaml.safe_dump({"architecture": arch, "model": {"img_size": 64}}))
    return path


def losses(out: str) -> list[float]:
    return [float(line.split()[-1]) for line in out.splitlines() if line.startswith("step")]


@pytest.mark.slow
def test_fine_tune_learns(run: Run, tmp_path: Path, config: Path) -> None:
    fallen = losses(run("fine_tune.py", ARCH=str(config), STEPS=25))
    assert sum(fallen[-5:]) < 0.7 * sum(fallen[:5])
    assert (tmp_path / "fine_tuned.pt").exists()


@pytest.mark.slow
def test_fine_tune_on_a_folder(run: Run, tmp_path: Path, config: Path) -> None:
    for colour in ("red", "green", "blue"):
        folder = tmp_path / "images" / colour
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (80, 80), colour).save(folder / f"{i}.png")
    out = run("fine_tune.py", ARCH=str(config), DATA_DIR="images", STEPS=2, BATCH_SIZE=4)
    assert len(losses(out)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "input_size", "num_classes"),
    [
        ("cifar", (3, 32, 32), 10),
        ("high-resolution", (3, 384, 384), 1000),
        ("deit", (3, 224, 224), 1000),
        ("pit-64", (3, 64, 64), 200),
    ],
)
def test_a_space_of_the_examples_ends_in_networks_that_train(
    tmp_path: Path, name: str, input_size: tuple[int, int, int], num_classes: int
) -> None:
    space = get_space(EXAMPLES / "spaces" / f"{name}.yaml")
    assert space.name == name
    study = search(space, n_trials=2, population_size=2, fidelity="collapsed")
    path = export_front(study, tmp_path)[0]
    document = yaml.safe_load(path.read_text())
    model = timm.create_model(document["model"]["name"], arch=path)
    assert model.pretrained_cfg["input_size"] == input_size
    assert document["scores"]["n_params"] == sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    images, labels = torch.randn(1, *input_size), torch.tensor([num_classes - 1])
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_own_objectives(run: Run) -> None:
    out = run("own_objectives.py", N_TRIALS=4, IMG_SIZE=64)
    assert "spread" in out and "mJ" in out
