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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default=str(DIGITS))
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    space = get_space(options.space)
    world = World(resolve_device(options.device))
    cuda = world.device.type == "cuda"
    recipe = load_recipe("autoformer", {"batch_size": options.batch_size, "mixup": 0, "cutmix": 0})
    archs = draw(space, options.members)
    members = tuple(Member(str(i), arch) for i, arch in enumerate(archs))
    images = torch.randn(options.batch_size, space.in_chans, space.img_size, space.img_size)
    targets = torch.randint(space.num_classes, (options.batch_size,))
    loader = [(images.to(world.device), targets.to(world.device))]
    together = SharedMembers(space.name, space, space.img_size, members)
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

    times: list[tuple[float, float]] = []
    # The first step of a member builds its network and the optimizer's state.
    for member in archs:
        model.member = member
        seconds(alone[member], 0)
    for update in range(options.steps):
        (member,) = draws.of_step(update)
        pair = seconds(shared, update), seconds(alone[member], update)
        times.append(pair)
    device = torch.cuda.get_device_name(world.device) if cuda else "cpu, one thread"
    ours, theirs = (statistics.fmean(column) for column in zip(*times, strict=True))
    print(
        f"{space.name}, {options.members} members, batch {options.batch_size}, {device}: shared"
        f" {1e3 * ours:.1f} ms, alone {1e3 * theirs:.1f} ms, ratio {ours / theirs:.3f}"
    )


if __name__ == "__main__":
    main()
