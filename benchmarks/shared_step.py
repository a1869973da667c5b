"""A step of shared training beside a step of the drawn member alone, in one run.

    python benchmarks/shared_step.py
    python benchmarks/shared_step.py --space autoformer-tiny --batch-size 8 --steps 20

Both train the same members on the same batches, in turn. Times are processor seconds of one thread
on a CPU, and seconds on CUDA. The difference is slicing, the gradient of the slices, and an
optimizer that updates the parameters of the supernet in place of those of the member.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from tftas_optuna import Architecture, SearchSpace, get_space
from tftas_optuna.devices import resolve_device
from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.shared import Member, SharedMembers
from tftas_optuna.retrain.training import Training

DIGITS = Path(__file__).parent / "retrain" / "digits.yaml"


def draw(space: SearchSpace, count: int) -> list[Architecture]:
    """Draw different members of a space."""
    rng = np.random.default_rng(0)
    members: dict[Architecture, None] = {}
    while len(members) < count:
        members[space.sample(rng)] = None
    return list(members)


def measure(
    space: SearchSpace, *, members: int, batch_size: int, steps: int, device: torch.device
) -> tuple[float, float]:
    """Return the mean seconds of a step of shared training, and of the drawn member alone."""
    world = World(device)
    cuda = device.type == "cuda"
    recipe = load_recipe("autoformer", {"batch_size": batch_size, "mixup": 0, "cutmix": 0})
    archs = draw(space, members)
    images = torch.randn(batch_size, space.in_chans, space.img_size, space.img_size).to(device)
    targets = torch.randint(space.num_classes, (batch_size,)).to(device)
    loader = [(images, targets)]
    together = SharedMembers(
        space.name,
        space,
        space.img_size,
        tuple(Member(str(i), arch) for i, arch in enumerate(archs)),
    )
    model = together.build(space.num_classes, None, recipe)
    shared = together.training(model, recipe, loader, space.num_classes, world)
    alone = {
        arch: Training(
            space.build(arch, drop_path_rate=recipe.drop_path),
            recipe,
            loader,
            space.num_classes,
            world,
        )
        for arch in archs
    }
    draws = together.draws(recipe)
    clock = time.perf_counter if cuda else time.process_time

    def seconds(training: Training, update: int) -> float:
        training.task.train()
        start = clock()
        training.step(iter(loader), update)
        if cuda:
            torch.cuda.synchronize()
        return clock() - start

    # The first pass of a member builds its network, its first step the optimizer's state.
    for member in archs:
        model.member = member
        model(images)
        seconds(alone[member], 0)
    seconds(shared, 0)
    times = []
    for update in range(steps):
        (member,) = draws.of_step(update)
        times.append((seconds(shared, update), seconds(alone[member], update)))
    ours, theirs = (statistics.fmean(column) for column in zip(*times, strict=True))
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default=str(DIGITS))
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = resolve_device(options.device)
    space = get_space(options.space)
    ours, theirs = measure(
        space,
        members=options.members,
        batch_size=options.batch_size,
        steps=options.steps,
        device=device,
    )
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu, one thread"
    print(
        f"{space.name}, {options.members} members, batch {options.batch_size}, {where}: shared"
        f" {1e3 * ours:.1f} ms, alone {1e3 * theirs:.1f} ms, ratio {ours / theirs:.3f}"
    )


if __name__ == "__main__":
    main()
