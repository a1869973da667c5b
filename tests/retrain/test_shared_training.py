"""Members of one supernet that are trained together."""

from __future__ import annotations

import csv
import dataclasses
import multiprocessing
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
import trainings
from safetensors import SafetensorError
from torch.utils.data import DataLoader

from tftas_optuna import (
    Architecture,
    AutoFormerSpace,
    PiTSpace,
    Scorer,
    SearchSpace,
    pareto_front,
    retrain,
    retrain_shared,
    search,
)
from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.members import Draws, SharedNetwork
from tftas_optuna.retrain.shared import SharedTraining
from tftas_optuna.scoring.basis import open_supernet
from tftas_optuna.scoring.conditions import Conditions
from tftas_optuna.supernet.files import read_supernet

PLAIN = {**trainings.PLAIN, "epochs": 2}


@pytest.fixture(scope="session")
def space() -> AutoFormerSpace:
    """A space whose members train in milliseconds, on images of 8x8 pixels."""
    return AutoFormerSpace(
        name="tiny",
        embed_dim=(8, 16),
        depth=(1, 2, 3),
        num_heads=(1, 2),
        mlp_ratio=(1.0, 2.0),
        supernet=AutoFormerArchitecture(
            16, (2,) * 3, (2.0,) * 3, head_dim=8, patch_size=4, max_relative_position=1
        ),
        img_size=8,
        num_classes=3,
    )


@pytest.fixture(scope="session")
def pit_space() -> PiTSpace:
    return PiTSpace(
        name="tinypit",
        base_dim=(8, 16),
        depth=((1, 2), (1, 2), (1,)),
        num_heads=(1, 2),
        mlp_ratio=(1, 2),
        patch_size=4,
        stride=4,
        img_size=16,
        num_classes=3,
    )


def sampled(space: SearchSpace, count: int) -> list[Architecture]:
    rng = np.random.default_rng(3)
    members = {space.smallest(): None, space.largest(): None}
    while len(members) < count:
        members[space.sample(rng)] = None
    return list(members)


def together(
    members: Any, out: Path, data: Path, recipe: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    torch.set_num_threads(1)
    overrides = {**PLAIN, **(recipe or {})}
    return retrain_shared(
        members,
        data_dir=data,
        recipe="quick",
        overrides=overrides,
        out=out,
        device="cpu",
        **options,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def network_of(space: SearchSpace, dtype: torch.dtype = torch.float64) -> SharedNetwork:
    conditions = Conditions.of(space, dtype=str(dtype).removeprefix("torch."))
    supernet = open_supernet(conditions, dtype=dtype)
    return SharedNetwork(supernet, space.largest()).to(dtype)


def training_of(
    space: SearchSpace, members: Sequence[Architecture], **values: Any
) -> SharedTraining:
    recipe = load_recipe("quick", {**PLAIN, "opt": "adamw", **values})
    batch = torch.zeros(4, 3, space.img_size, space.img_size), torch.zeros(4, dtype=torch.long)
    loader = DataLoader([batch], batch_size=None)
    draws = Draws(space, members, recipe)
    world = World(torch.device("cpu"))
    model = network_of(space)
    return SharedTraining(model, recipe, loader, 3, world, draws=draws, shown=members)


@pytest.mark.parametrize("family", ["space", "pit_space"])
def test_the_gradient_of_a_step_is_the_sum_over_its_members(
    family: str, request: pytest.FixtureRequest
) -> None:
    space: SearchSpace = request.getfixturevalue(family)
    members = sampled(space, 3)
    training = training_of(space, members, shared_members=3)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, space.img_size, space.img_size, generator=generator).double()
    targets = torch.tensor([0, 1, 2, 1])
    for losses in training.passes(images, targets, 0):
        losses().backward()
    model = training.network
    assert isinstance(model, SharedNetwork)
    shared = model.tensors()
    # A stand-alone network for each member, whose gradients are put where its slices lie: numbers
    # in place of weights say where that is.
    positions = {
        name: torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape)
        for name, tensor in shared.items()
    }
    weights = {name: tensor.detach() for name, tensor in shared.items()}
    offsets, total = {}, 0
    for name, tensor in positions.items():
        offsets[name] = total
        positions[name] = tensor + total
        total += tensor.numel()
    ones = {name: torch.ones_like(tensor) for name, tensor in positions.items()}
    expected = torch.zeros(total, dtype=torch.float64)
    touched = torch.zeros(total, dtype=torch.bool)
    for member in members:
        alone = model.supernet.blank(member).double().train()
        alone.load_state_dict(model.supernet.slices(member, weights))
        torch.nn.functional.cross_entropy(alone(images), targets).backward()
        where = model.supernet.slices(member, positions)
        # Some slices of a PiT are scaled, and their gradients with them.
        scales = model.supernet.slices(member, ones)
        for name, parameter in alone.named_parameters():
            assert parameter.grad is not None
            scale = scales[name]
            index = (where[name] / scale).round().flatten().long()
            expected.index_add_(0, index, (parameter.grad * scale).flatten())
            touched[index] = True
    for name, tensor in shared.items():
        part = slice(offsets[name], offsets[name] + tensor.numel())
        if not touched[part].any():
            assert tensor.grad is None, f"no member of the step uses {name}"
            continue
        assert tensor.grad is not None
        torch.testing.assert_close(
            tensor.grad.flatten(), expected[part], rtol=1e-10, atol=1e-12, msg=name
        )


def test_blocks_that_no_member_of_a_step_has_stay_as_they_are(space: AutoFormerSpace) -> None:
    training = training_of(space, [space.smallest()], opt="adamw", weight_decay=0.1)
    model = training.network
    assert isinstance(model, SharedNetwork)
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    for losses in training.passes(images, torch.tensor([0, 1, 2, 0]), 0):
        losses().backward()
    training.optimizer.step()
    after = model.tensors()
    for name, tensor in after.items():
        beyond = name.startswith(("blocks.1.", "blocks.2."))
        assert (tensor.grad is None) is beyond
        assert bool((tensor == before[name]).all()) is beyond
    # The unused part of a used tensor has no gradient, but is decayed with it.
    weight, width = after["blocks.0.fc1.weight"], space.smallest().embed_dim
    assert weight.grad is not None and not weight.grad[:, width:].any()
    assert (weight[:, width:].abs() < before["blocks.0.fc1.weight"][:, width:].abs()).all()


def test_tokens_positions_and_vectors_are_not_decayed(space: AutoFormerSpace) -> None:
    training = training_of(space, sampled(space, 2), weight_decay=0.1)
    model = training.network
    decayed = {
        id(parameter)
        for group in training.optimizer.param_groups
        if group["weight_decay"]
        for parameter in group["params"]
    }
    names = {name for name, tensor in model.tensors().items() if id(tensor) in decayed}
    alone = training_of_single(space)
    assert names and all(name.endswith((".weight", "_v", "_h")) for name in names)
    assert not any("norm" in name for name in names)
    assert {"pos_embed", "cls_token"}.isdisjoint(names)
    # As many weights of each kind as timm decays in a network alone.
    assert len(names) == alone


def training_of_single(space: AutoFormerSpace) -> int:
    from timm.optim import create_optimizer_v2

    network = space.build(space.supernet)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-3, weight_decay=0.1)
    return sum(len(g["params"]) for g in optimizer.param_groups if g["weight_decay"])


def test_members_are_drawn_by_seed_and_rule(space: AutoFormerSpace) -> None:
    members = sampled(space, 6)

    def draws(of: Sequence[Architecture] = members, **values: Any) -> Draws:
        return Draws(space, of, load_recipe("quick", {**PLAIN, **values}))

    one = [draws(seed=1).of_step(step) for step in range(200)]
    assert one == [draws(seed=1).of_step(step) for step in range(200)]
    assert one != [draws(seed=2).of_step(step) for step in range(200)]
    counts = [sum(member in step for step in one) for member in members]
    assert all(len(step) == 1 for step in one) and min(counts) > 15
    for step in range(20):
        three = draws(shared_members=3).of_step(step)
        assert len(set(three)) == 3 and set(three) <= set(members)
        sandwich = draws(shared_members=4, shared_rule="sandwich").of_step(step)
        assert sandwich[:2] == [space.largest(), space.smallest()] and len(set(sandwich)) == 4
        whole = draws([], shared_members=2).of_step(step)
        assert all(member in space for member in whole)
    assert len(draws(shared_members=100).of_step(0)) == 6
    with pytest.raises(TftasError, match="shared_members is 1; shared_rule sandwich"):
        draws(shared_rule="sandwich")
    with pytest.raises(TftasError, match="give --set shared_rule=sandwich"):
        draws(shared_distillation=True)


def test_others_learn_what_the_largest_says(space: AutoFormerSpace) -> None:
    members = sampled(space, 3)
    values = {"shared_members": 2, "shared_rule": "sandwich", "shared_distillation": True}
    training = training_of(space, members, **values)
    images, targets = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    taught, learnt = (losses() for losses in training.passes(images, targets, 0))
    model = training.network
    assert isinstance(model, SharedNetwork)
    model.train()
    logits = {}
    for member in (space.largest(), space.smallest()):
        model.member = member
        logits[member] = model(images).detach()
    cross_entropy = torch.nn.functional.cross_entropy
    large, small = logits[space.largest()], logits[space.smallest()]
    torch.testing.assert_close(taught, cross_entropy(large, targets))
    torch.testing.assert_close(
        learnt, cross_entropy(small, large.softmax(-1)), rtol=1e-6, atol=1e-6
    )


def test_what_it_leaves_is_a_supernet_with_its_members(
    space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    members = sampled(space, 4)
    result = together(members, tmp_path, images, space=space)
    folder = Path(result["out"])
    assert folder.name == "tiny-shared" == result["name"]
    trained = read_supernet(folder)
    assert trained.members == tuple(members) and trained.digest == result["supernet"]
    assert trained.class_names == ("blue", "green", "red") and trained.img_size == 8
    table = rows_of(folder / "members.csv")
    assert [float(row["top1"]) for row in table] == [m["top1"] for m in result["members"]]
    assert result["top1"] == pytest.approx(np.mean([m["top1"] for m in result["members"]]))
    assert len(rows_of(folder / "metrics.csv")) == 2
    assert together(members, tmp_path, images, space=space) == result, "it is done already"
    # The accuracies are those of the slices that the directory holds.
    scorer = Scorer(space, supernet=folder, device="cpu")
    for member, row in zip(members, result["members"], strict=True):
        assert row["n_params"] == space.costs(member).n_params
        assert accuracy(scorer.subnet(member), folder, images) == pytest.approx(row["top1"])
    # Fine-tuning begins with these slices.
    fine = retrain(
        members[0],
        data_dir=images,
        recipe="quick",
        overrides={**PLAIN, "epochs": 1, "lr": 0.0, "min_lr": 0.0, "warmup_lr": 0.0},
        weights=folder,
        img_size=8,
        out=tmp_path,
        device="cpu",
    )
    assert fine["top1"] == pytest.approx(result["members"][0]["top1"])


def accuracy(network: torch.nn.Module, folder: Path, images: Path) -> float:
    from timm.data import create_dataset, create_transform

    about = read_supernet(folder).preprocessing.to_dict()
    dataset = create_dataset("", root=images, split="val")
    dataset.transform = create_transform((3, 8, 8), is_training=False, **about)
    batch = [dataset[i] for i in range(len(dataset))]
    with torch.no_grad():
        logits = network(torch.stack([image for image, _ in batch]))
    right = logits.argmax(1) == torch.tensor([label for _, label in batch])
    return 100 * float(right.float().mean())


@pytest.mark.parametrize(
    "recipe",
    [
        {"model_ema": True, "model_ema_decay": 0.5},
        {"grad_accum_steps": 2, "shared_members": 2},
        {"amp": "bfloat16", "clip_grad": 1.0, "drop_path": 0.3, "drop": 0.1},
        {
            "mixup": 0.5,
            "shared_members": 2,
            "shared_rule": "sandwich",
            "shared_distillation": True,
        },
    ],
    ids=["ema", "accumulated", "mixed precision", "distilled"],
)
def test_it_takes_the_settings_of_a_recipe(
    space: AutoFormerSpace, images: Path, tmp_path: Path, recipe: dict[str, Any]
) -> None:
    members = sampled(space, 3)
    result = together(members, tmp_path / "one", images, recipe, space=space)
    again = together(members, tmp_path / "two", images, recipe, space=space)
    assert result["supernet"] == again["supernet"]
    plain = together(members, tmp_path / "plain", images, space=space)
    assert plain["supernet"] != result["supernet"]


def test_a_whole_space_is_trained_by_samples(
    space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    result = together(space, tmp_path, images)
    names = [member["name"] for member in result["members"]]
    assert names[:2] == ["smallest", "largest"] and len(names) == 10
    assert read_supernet(result["out"]).members is None
    # It starts from a trained one, for the same classes, too.
    more = together(space, tmp_path / "more", images, supernet=result["out"])
    assert more["supernet"] != result["supernet"]
    frozen = {"lr": 0.0, "min_lr": 0.0, "warmup_lr": 0.0}
    same = together(space, tmp_path / "same", images, frozen, supernet=result["out"])
    assert same["supernet"] == result["supernet"]


def kill_at(step: int, seconds: float, out: str, data: str, members: list[Architecture]) -> None:
    import itertools
    import os
    import threading

    seen = itertools.count(1)

    def callback(event: object) -> None:
        if next(seen) == step:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    space = AutoFormerSpace(
        name="tiny",
        embed_dim=(8, 16),
        depth=(1, 2, 3),
        num_heads=(1, 2),
        mlp_ratio=(1.0, 2.0),
        supernet=dataclasses.replace(
            members[0], embed_dim=16, num_heads=(2,) * 3, mlp_ratio=(2.0,) * 3
        ),
        img_size=8,
        num_classes=3,
    )
    together(members, Path(out), Path(data), {"epochs": 4}, space=space, callback=callback)


@pytest.mark.slow
def test_a_killed_training_ends_as_an_uninterrupted_one(
    space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    members = sampled(space, 4)
    whole = together(members, tmp_path / "whole", images, {"epochs": 4}, space=space)
    context = multiprocessing.get_context("spawn")
    for step, seconds in ((12, 0.0), (25, 0.01)):
        process = context.Process(
            target=kill_at,
            args=(step, seconds, str(tmp_path / "cut"), str(images), members),
        )
        process.start()
        process.join(100)
        assert process.exitcode == -signal.SIGKILL
    resumed = together(members, tmp_path / "cut", images, {"epochs": 4}, space=space)
    times = ("seconds", "out")
    assert {k: v for k, v in resumed.items() if k not in times} == {
        k: v for k, v in whole.items() if k not in times
    }


def test_a_study_records_the_accuracies_of_its_members(
    space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    study = search(space, n_trials=12, fidelity="collapsed", n_exact=0, storage=storage)
    front = pareto_front(study)
    result = together(front, tmp_path, images, study=study)
    assert result["name"] == "tiny-shared"
    shown = {c.trial: c.shared_top1 for c in pareto_front(study)}
    assert shown == {member["trial"]: member["top1"] for member in result["members"]}
    again = optuna.load_study(study_name="tiny", storage=storage).trials
    assert {n: again[n].user_attrs["shared_top1"] for n in shown} == shown
    other = optuna.create_study()
    with pytest.raises(UnavailableError, match="holds no architectures"):
        together(front, tmp_path, images, study=other)


def test_it_starts_from_the_seed_of_the_recipe_or_of_the_study(
    space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    study = search(space, n_trials=8, fidelity="collapsed", n_exact=0, supernet_seed=5)
    front = pareto_front(study)
    frozen = {"lr": 0.0, "min_lr": 0.0, "warmup_lr": 0.0, "epochs": 1}

    def first(seed: int, supernet: str | None) -> str:
        """Return the digest of a supernet that a training has left as it began."""
        out = tmp_path / f"{supernet}{seed}"
        recipe = {**frozen, "seed": seed}
        done = together(front, out, images, recipe, study=study, supernet=supernet, record=False)
        tensors = read_supernet(done["out"]).tensors
        names = [
            str(drawn)
            for drawn in range(7)
            if all(
                torch.equal(tensors[name], weight)
                for name, weight in Scorer(
                    space, seed=drawn, device="cpu"
                ).supernet.state_dict.items()
            )
        ]
        return ",".join(names)

    assert first(1, None) == "1" == first(1, "drawn")
    assert first(1, "study") == "5" == first(2, "study")


def test_bad_members_are_one_line(
    space: AutoFormerSpace, pit_space: PiTSpace, images: Path, tmp_path: Path
) -> None:
    one, two = sampled(space, 2)
    wide = dataclasses.replace(two, embed_dim=24)
    other_head = dataclasses.replace(two, head_dim=16)
    pit = pit_space.smallest()
    study = search(space, n_trials=3, fidelity="collapsed", n_exact=0)
    (first, *_) = pareto_front(study)
    for members, options, fact in (
        ([one], {"space": space}, "is the only member"),
        ([one, one], {"space": space}, "is the only member"),
        ([], {"space": space}, "no members are given"),
        ([one, wide], {"space": space}, "embed_dim is 24"),
        ([one, other_head], {"space": space}, "head_dim is 16"),
        ([one, pit], {"space": space}, "family is pit"),
        ([one, two], {}, "name the space"),
        ([first, first], {}, "without its study"),
        ([one, two], {"study": study}, "give candidates of its front"),
        (["vit_tiny_patch16_224", "vit_small_patch16_224"], {}, "is a network of timm"),
        (space, {"study": study}, "leave out space and study"),
    ):
        with pytest.raises(TftasError, match=fact) as error:
            together(members, tmp_path, images, **options)
        assert "\n" not in str(error.value)
    for recipe, fact in (
        ({"teacher": "vit_tiny_patch16_224"}, "a teacher does not apply"),
        ({"layer_decay": 0.5}, "layer_decay does not apply"),
    ):
        with pytest.raises(TftasError, match=fact):
            together([one, two], tmp_path / "r", images, recipe, space=space)


def test_other_files_and_other_trainings_are_left_alone(
    space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    members = sampled(space, 3)
    folder = tmp_path / "tiny-shared"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UnavailableError, match="it holds other files"):
        together(members, tmp_path, images, space=space)
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    together(members, tmp_path, images, space=space)
    with pytest.raises(UnavailableError, match="holds a training with network.members"):
        together(members[:2], tmp_path, images, space=space)


def test_sources_of_other_classes_are_refused(
    space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    result = together(space, tmp_path, images, {"epochs": 1})
    renamed = tmp_path / "renamed"
    for split in ("train", "val"):
        for name in ("blue", "green", "red"):
            (renamed / split / f"other{name}").mkdir(parents=True)
            for file in (images / split / name).iterdir():
                (renamed / split / f"other{name}" / file.name).symlink_to(file)
    with pytest.raises(TftasError, match="class 0 of the data is 'otherblue'"):
        together(space, tmp_path / "b", renamed, {"epochs": 1}, supernet=result["out"])


def test_a_supernet_that_cannot_be_written_is_written_by_the_next_call(
    space: AutoFormerSpace, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = sampled(space, 3)

    def full(*args: object, **kwargs: object) -> None:
        raise SafetensorError("Error while serializing: No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UnavailableError, match="No space left"):
        patch.setattr("tftas_optuna.supernet.files.save_file", full)
        together(members, tmp_path, images, space=space)
    assert not (tmp_path / "tiny-shared" / "supernet.yaml").exists()
    again = together(members, tmp_path, images, space=space)
    whole = together(members, tmp_path / "whole", images, space=space)
    assert again["supernet"] == whole["supernet"] == read_supernet(again["out"]).digest
