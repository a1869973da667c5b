"""Trained supernets: what is written is read back, and nothing that is not trusted is read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import oracle_cases
import pytest
import torch
import yaml

from tftas_optuna import AutoFormerSpace, Scorer, get_space
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.scoring.basis import space_of
from tftas_optuna.supernet import Slicing
from tftas_optuna.supernet.files import (
    ABOUT,
    WEIGHTS,
    Preprocessing,
    TrainedSupernet,
    read_supernet,
    write_supernet,
)

CASES = pytest.mark.parametrize("case", oracle_cases.CASES.values(), ids=oracle_cases.CASES)


def oracle_space(case: dict[str, Any]) -> AutoFormerSpace:
    """Return a space whose supernet is the reference's, and whose choices are the candidate's."""
    largest, arch = oracle_cases.architectures(case)
    return AutoFormerSpace(
        name="oracle",
        embed_dim=(arch.embed_dim,),
        depth=(arch.depth,),
        num_heads=tuple(sorted(set(arch.num_heads))),
        mlp_ratio=tuple(sorted(set(arch.mlp_ratio))),
        supernet=largest,
        img_size=case["model_kwargs"]["img_size"],
        num_classes=case["model_kwargs"]["num_classes"],
    )


@pytest.fixture
def trained(small_space: AutoFormerSpace, tmp_path: Path) -> TrainedSupernet:
    drawn = Scorer(small_space, device="cpu", seed=3).supernet
    members = (small_space.smallest(), small_space.largest())
    folder = tmp_path / "S-shared"
    folder.mkdir()
    return TrainedSupernet(
        path=folder,
        tensors=drawn.state_dict,
        preprocessing=Preprocessing((0.5,), (0.25,), 1.0, "bilinear"),
        space=small_space.to_dict(),
        img_size=small_space.img_size,
        num_classes=small_space.num_classes,
        class_names=tuple("class" + str(number) for number in range(small_space.num_classes)),
        members=members,
        slicing=Slicing(blocks="even"),
        trained_on="pictures",
    )


def test_a_directory_comes_back_as_it_was(trained: TrainedSupernet) -> None:
    write_supernet(trained)
    again = read_supernet(trained.path)
    for field in ("preprocessing", "img_size", "num_classes", "class_names", "members", "slicing"):
        assert getattr(again, field) == getattr(trained, field)
    assert again.digest == trained.digest
    assert space_of(trained.path) == get_space_of(trained)
    assert read_supernet(trained.path / WEIGHTS).digest == trained.digest
    modes = {(trained.path / name).stat().st_mode for name in (WEIGHTS, ABOUT)}
    assert len(modes) == 1


def get_space_of(trained: TrainedSupernet) -> AutoFormerSpace:
    assert trained.space is not None
    return AutoFormerSpace.from_dict(dict(trained.space))


def test_the_digest_is_that_of_the_tensors_alone(trained: TrainedSupernet) -> None:
    write_supernet(trained)
    moved = trained.path.rename(trained.path.with_name("elsewhere"))
    assert read_supernet(moved).digest == trained.digest
    name, tensor = next(iter(trained.tensors.items()))
    nudged = tensor.clone()
    nudged.view(-1)[0] += 1e-3
    other = TrainedSupernet(path=moved, tensors={**trained.tensors, name: nudged})
    assert other.digest != trained.digest


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "holds no supernet.safetensors"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"short"), "cannot be read"),
        (
            lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]),
            "cannot be read",
        ),
        (lambda folder: (folder / ABOUT).write_text("format: 7\n"), "no supernet of this release"),
        (lambda folder: (folder / ABOUT).write_text("format: 1\n"), "is damaged"),
        (lambda folder: edit(folder, digest="0"), "holds other weights"),
        (lambda folder: edit(folder, members=[{"family": "none"}]), "is damaged"),
    ],
)
def test_a_damaged_directory_is_one_line(trained: TrainedSupernet, damage: Any, fact: str) -> None:
    write_supernet(trained)
    damage(trained.path)
    with pytest.raises(UnavailableError, match=fact) as error:
        read_supernet(trained.path)
    assert "\n" not in str(error.value)


def edit(folder: Path, **entries: Any) -> None:
    about = yaml.safe_load((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(yaml.safe_dump({**about, **entries}))


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("key", ["model", "args"])
def test_a_malicious_checkpoint_runs_nothing(tmp_path: Path, key: str) -> None:
    file = tmp_path / "supernet-tiny.pth"
    torch.save({"model": {"w": torch.ones(1)}, key: Payload(tmp_path / "harm")}, file)
    with pytest.raises(UnavailableError, match="nothing in it was run"):
        read_supernet(file)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {"state_dict": {}},
        {"model": [1]},
        {"model": {"w": 1}},
        {"model": {1: torch.ones(1)}},
        {"model": {"w": torch.eye(2).to_sparse()}},
    ],
)
def test_a_foreign_checkpoint_is_one_line(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "supernet-tiny.pth"
    torch.save(content, file)
    with pytest.raises(UnavailableError, match='no tensors under "model"'):
        read_supernet(file)


def test_a_digest_knows_scalars_and_every_type() -> None:
    path = Path()
    tensors = {"n": torch.tensor(3), "h": torch.ones(2, dtype=torch.bfloat16), "e": torch.ones(0)}
    one = TrainedSupernet(path=path, tensors=tensors).digest
    assert one == TrainedSupernet(path=path, tensors=dict(reversed(tensors.items()))).digest
    assert one != TrainedSupernet(path=path, tensors={**tensors, "n": torch.tensor(4)}).digest


def test_a_truncated_checkpoint_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "supernet-tiny.pth"
    torch.save({"model": {"w": torch.ones(100)}}, file)
    for content in (file.read_bytes()[:300], b"hello\n", b""):
        file.write_bytes(content)
        with pytest.raises(UnavailableError, match="damaged or something else") as error:
            read_supernet(file)
        assert "\n" not in str(error.value)
    with pytest.raises(UnavailableError, match="does not exist"):
        read_supernet(tmp_path / "none.pth")
    with pytest.raises(UnavailableError, match="is no trained supernet"):
        read_supernet(tmp_path)


def checkpoint(
    case: dict[str, Any],
    folder: Path,
    more: Mapping[str, torch.Tensor] | None = None,
    **arguments_more: Any,
) -> Path:
    """Write a checkpoint as AutoFormer's training does, its arguments beside the weights."""
    kwargs = case["model_kwargs"]
    given = {"batch_size": 64, "gp": kwargs["gp"], "change_qkv": True, "data_path": "imagenet"}
    arguments = argparse.Namespace(**{**given, **arguments_more})
    model = {**oracle_cases.weights(case), **(more or {})}
    content = {"model": model, "optimizer": {"state": {}}, "epoch": 499, "args": arguments}
    torch.save(content, folder / "supernet.pth")
    return folder / "supernet.pth"


@CASES
def test_slices_of_a_checkpoint_compute_what_the_reference_does(
    case: dict[str, Any], tmp_path: Path
) -> None:
    _, arch = oracle_cases.architectures(case)
    scorer = Scorer(
        oracle_space(case),
        supernet=checkpoint(case, tmp_path),
        device="cpu",
        dtype=torch.float64,
    )
    side = scorer.img_size
    image = torch.linspace(-1, 1, 3 * side * side, dtype=torch.float64)
    with torch.no_grad():
        logits = scorer.subnet(arch)(image.reshape(1, 3, side, side))[0, :8]
    expected = torch.tensor(case["signed_forward_linspace_first8"], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)
    trained = scorer.conditions.supernet.trained
    assert trained is not None and trained.preprocessing == Preprocessing(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875, "bicubic"
    )
    # Sizes that no choice has were never trained, although the tensors hold them.
    if scorer.space.supernet not in scorer.space:
        with pytest.raises(TftasError, match="what lies beyond is untrained"):
            scorer(scorer.space.supernet)


def test_a_checkpoint_with_further_tensors_is_refused(tmp_path: Path) -> None:
    case = next(iter(oracle_cases.CASES.values()))
    file = checkpoint(case, tmp_path, {"blocks.0.gamma": torch.ones(1)})
    with pytest.raises(TftasError, match=r"further tensors \(blocks\.0\.gamma\)"):
        Scorer(oracle_space(case), supernet=file, device="cpu")


def test_a_checkpoint_of_prenas_is_refused(tmp_path: Path) -> None:
    case = next(iter(oracle_cases.CASES.values()))
    file = checkpoint(case, tmp_path, candfile="interval_cands/tiny.json", switch_ln=False)
    with pytest.raises(UnavailableError, match="is a checkpoint of PreNAS"):
        read_supernet(file)


def test_a_checkpoint_that_does_not_say_how_it_was_trained_is_refused(tmp_path: Path) -> None:
    case = next(iter(oracle_cases.CASES.values()))
    torch.save({"model": oracle_cases.weights(case)}, tmp_path / "supernet.pth")
    with pytest.raises(UnavailableError, match="does not say how it was trained"):
        read_supernet(tmp_path / "supernet.pth")


@pytest.mark.parametrize("arguments", [{"gp": "other"}, {"change_qkv": False}])
def test_a_checkpoint_trained_otherwise_than_the_space_is_refused(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    case = next(iter(oracle_cases.CASES.values()))
    if "gp" in arguments:
        arguments = {"gp": not case["model_kwargs"]["gp"]}
    file = checkpoint(case, tmp_path, **arguments)
    with pytest.raises(TftasError, match="it was trained with"):
        Scorer(oracle_space(case), supernet=file, device="cpu")


def test_the_space_of_a_checkpoint_is_the_preset_that_it_fits(tmp_path: Path) -> None:
    space = get_space("autoformer-tiny")
    shapes = Scorer(space, device="cpu").supernet.shapes()
    zeros = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    file = tmp_path / "supernet-tiny.pth"
    torch.save({"model": zeros, "args": argparse.Namespace()}, file)
    assert space_of(file) == space
    torch.save({"model": {"head.weight": torch.ones(3, 4)}, "args": argparse.Namespace()}, file)
    with pytest.raises(TftasError, match="fits none of the spaces"):
        space_of(file)
