from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from images import draw_images
from programs import Begin

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.spaces import AutoFormerSpace

Run = Callable[..., subprocess.CompletedProcess[str]]

SMALL = ("--space", "small.yaml", "--img-size", "32", "--num-classes", "10")
SEARCH = ("run", *SMALL, "--population-size", "8", "--device", "cpu")


def write_tiny(folder: Path, *, widths: tuple[int, ...] = (8, 16)) -> Path:
    """Write ``images`` of three classes, 8x8 pixels, and ``tiny.yaml``, a space for them."""
    draw_images(folder / "images", train=8, val=5)
    space = AutoFormerSpace(
        name="tiny",
        embed_dim=widths,
        depth=(1, 2),
        num_heads=(1, 2),
        mlp_ratio=(1.0, 2.0),
        supernet=AutoFormerArchitecture(
            max(widths), (2,) * 2, (2.0,) * 2, head_dim=8, patch_size=4, max_relative_position=1
        ),
        img_size=8,
        num_classes=3,
    )
    (folder / "tiny.yaml").write_text(yaml.safe_dump(space.to_dict()))
    return folder


@pytest.fixture(scope="session")
def tftas(begin: Begin) -> Run:
    """Run the real command line in a directory."""

    def run(cwd: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return begin("tftas_optuna", cwd, *args, **env).end()

    return run


@pytest.fixture
def folder(tmp_path: Path, small_space: AutoFormerSpace) -> Path:
    """An empty working directory with the description of a small space."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_space.to_dict()))
    return tmp_path


@pytest.fixture(scope="session")
def searched(
    tftas: Run, tmp_path_factory: pytest.TempPathFactory, small_space: AutoFormerSpace
) -> Path:
    """A working directory in which 24 trials were run; not to be changed."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.yaml").write_text(yaml.safe_dump(small_space.to_dict()))
    done = tftas(folder, *SEARCH, "--n-trials", "24", "--params-max", "150k")
    assert done.returncode == 0, done.stderr
    return folder
