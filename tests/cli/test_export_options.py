"""What ``tftas-optuna export`` picks, whose weights it writes, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from conftest_cli import SEARCH
from safetensors.torch import load_file

from tftas_optuna import Scorer, pareto_front, register_cost
from tftas_optuna.cli import main
from tftas_optuna.metrics import registry
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study
from tftas_optuna.study.front import Candidate
from tftas_optuna.study.record import read_settings
from tftas_optuna.study.selection import knee


def call(*args: str) -> Result:
    return CliRunner().invoke(main, ["export", *args], catch_exceptions=False)


@pytest.fixture
def front(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """The front of the searched study, which the command line finds from an empty directory."""
    storage = f"sqlite:///{searched}/tftas.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTUNA_STORAGE", storage)
    return pareto_front(load_study(storage))


def exported(*args: str) -> list[str]:
    done = call("--force", *args)
    assert done.exit_code == 0, done.stderr
    return [Path(line).name for line in done.stdout.splitlines()]


def slices(space: AutoFormerSpace, candidate: Candidate) -> dict[str, torch.Tensor]:
    scorer = Scorer(space, img_size=32, num_classes=10, device="cpu")
    return scorer.subnet(candidate.architecture).state_dict()


def test_every_budget_picks(front: list[Candidate]) -> None:
    some = sorted(front, key=lambda one: one.macs)[: len(front) // 2]
    names = {f"small-trial{one.trial:05d}.yaml" for one in some}
    most = str(max(one.macs for one in some))
    assert names < {f"small-trial{one.trial:05d}.yaml" for one in front}
    assert set(exported("-f", "yaml", "--macs-max", most)) == names
    assert set(exported("-f", "yaml", "--bound", f"macs<={most}")) == names


def test_the_knee_is_that_of_the_front(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(registry.METRICS, "registered", {})
    # It grows ever more slowly, so that the knee is no end of the front.
    register_cost(
        "worth", lambda arch, **sizes: arch.costs(**sizes).n_params ** 0.1, direction="maximize"
    )
    search = (*SEARCH, "--n-trials", "16", "--objectives", "worth,n_params", "-q")
    assert CliRunner().invoke(main, search).exit_code == 0
    study = load_study("sqlite:///tftas.db")
    members = pareto_front(study)
    best = knee(members, read_settings(study))
    assert best not in (members[0], members[-1])
    assert exported("-f", "yaml", "--knee") == [f"small-trial{best.trial:05d}.yaml"]


def test_what_holds_something_else_is_replaced_only_by_force(
    front: list[Candidate], tmp_path: Path
) -> None:
    path = Path("front") / f"small-trial{front[-1].trial:05d}.yaml"
    path.parent.mkdir()
    path.write_text("mine")
    done = call("--best", "-f", "yaml")
    assert done.exit_code == 1 and done.stdout == "" and path.read_text() == "mine"
    assert str(path) in done.stderr and done.stderr.count("\n") == 1
    assert call("--best", "-f", "yaml", "--force").stdout == f"{path}\n"
    assert "architecture" in path.read_text()
    assert call("--best", "-f", "yaml").exit_code == 0  # the same once more


def test_a_network_has_the_weights_that_were_scored_or_its_own(
    front: list[Candidate], small_space: AutoFormerSpace
) -> None:
    best = front[-1]
    wanted = slices(small_space, best)
    folder = Path("front") / f"mine-trial{best.trial:05d}-untrained"
    options = ("--best", "-f", "timm", "--prefix", "mine", "--weights")
    done = call(*options, "supernet")
    # Nothing but what was written goes to stdout.
    assert done.stdout == f"{folder}\n" and "computes as PyTorch does" in done.stderr
    written = load_file(folder / "model.safetensors")
    assert written["head.weight"].shape[0] == 10
    assert all(torch.equal(written[name], tensor) for name, tensor in wanted.items())
    refused = call(*options, "supernet")
    assert refused.exit_code == 1 and "use --force" in refused.stderr
    assert call(*options, "scratch", "--force").exit_code == 0
    fresh = load_file(folder / "model.safetensors")
    name = "blocks.0.attn.qkv.weight"
    assert fresh[name].shape == wanted[name].shape and not torch.equal(fresh[name], wanted[name])
    assert sorted(path.name for path in Path("front").iterdir()) == [folder.name]


def test_an_exported_file_becomes_the_network_that_was_scored(
    front: list[Candidate], small_space: AutoFormerSpace
) -> None:
    best = front[-1]
    (name,) = exported("--best", "-f", "yaml")
    slice_it = ("--out", "networks", "--weights", "supernet")
    done = call(f"front/{name}", *slice_it, "--prefix", "mine")
    assert done.stdout == "networks/mine-untrained\n", done.stderr
    written = load_file("networks/mine-untrained/model.safetensors")
    wanted = slices(small_space, best)
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in wanted.items())
    done = call(f"front/{name}", *slice_it)
    assert done.stdout == f"networks/{Path(name).stem}-untrained\n"
    scratch = ("--weights", "scratch", "--force")
    assert call(f"front/{name}", "--out", "networks", "--prefix", "mine", *scratch).exit_code == 0
    fresh = load_file("networks/mine-untrained/model.safetensors")["head.weight"]
    assert fresh.shape == wanted["head.weight"].shape
    assert not torch.equal(fresh, wanted["head.weight"])


def test_a_network_that_names_no_classes_gets_a_thousand(tmp_path: Path) -> None:
    done = call("test_vit", "--out", str(tmp_path), "--weights", "scratch")
    assert done.stdout == f"{tmp_path}/test_vit-untrained\n", done.stderr
    written = load_file(tmp_path / "test_vit-untrained" / "model.safetensors")
    assert written["head.weight"].shape[0] == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bound", "n_params>=5k"), "a budget is an upper limit; write --bound 'COST<=AMOUNT'"),
        (("--trial", "1", "--bound", "macs<=1G"), "budgets do not apply"),
        (("--trial", "1", "--best"), "exclude each other"),
        (("folder", "--weights", "scratch"), "folder has weights; --weights does not apply"),
        (("folder", "--knee"), "folder is exported by itself; leave out the options of a study"),
        (
            ("folder", "--macs-max", "1G"),
            "folder is exported by itself; leave out the options of a study",
        ),
        (("test_vit",), "test_vit has no weights; give --weights: a directory of `retrain`"),
        (("--weights", "scratch", "--trained", "t", "-f", "onnx"), "exclude each other"),
        (("--trained", "t", "-f", "yaml"), "--trained needs a format that holds them: onnx"),
        (("--weights", "scratch", "-f", "yaml"), "--weights needs a format that holds them: onnx"),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    done = call(*options)
    assert done.exit_code == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
