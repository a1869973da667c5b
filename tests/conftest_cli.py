from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from processes import CONTEXT

from tftas_optuna.spaces import AutoFormerSpace

Run = Callable[..., subprocess.CompletedProcess[str]]

SMALL = ("--space", "small.yaml", "--img-size", "32", "--num-classes", "10")
SEARCH = ("run", *SMALL, "--population-size", "8", "--device", "cpu")


def _main(cwd: Path, args: Sequence[str], env: dict[str, str], streams: list[Path]) -> None:
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)
    torch.set_num_threads(1)
    sys.argv[1:] = args
    runpy.run_module("tftas_optuna", run_name="__main__", alter_sys=True)


@pytest.fixture(scope="session")
def tftas(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the real command line in a directory, in a process that has the imports behind it."""

    def run(cwd: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path_factory.mktemp("streams")
        streams = [folder / "stdout", folder / "stderr"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), **env}
        process = CONTEXT.Process(target=_main, args=(cwd, args, environment, streams))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{args} did not end")
        out, errors = (path.read_text(encoding="utf-8") for path in streams)
        return subprocess.CompletedProcess(args, process.exitcode, out, errors)

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
