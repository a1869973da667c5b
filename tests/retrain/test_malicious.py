"""Files that would run code if they were unpickled are refused, with advice that is safe."""

from __future__ import annotations

import os
import pickle
import random
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf

from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.checkpoints import read_last
from tftas_optuna.retrain.network import Network, build_network, read_model

Train = Callable[..., dict[str, Any]]


class Payload:
    """Makes a directory when it is unpickled, which no test may ever see."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.target,)


def save_pickled(payload: Payload, path: Path) -> None:
    path.write_bytes(pickle.dumps(payload))


def save_legacy(payload: Payload, path: Path) -> None:
    torch.save({"w": payload}, path, _use_new_zipfile_serialization=False)


def save_today(payload: Payload, path: Path) -> None:
    torch.save({"w": payload}, path)


SAVES = (save_today, save_legacy, save_pickled)


def check(error: pytest.ExceptionInfo[UnavailableError], *facts: str) -> None:
    told = str(error.value)
    assert "\n" not in told and "nothing in it was run" in told
    for fact in facts:
        assert fact in told
    # Not even a traceback may advise it: it shows the errors that this one came from.
    whole = "".join(traceback.format_exception(error.type, error.value, error.tb))
    assert "set to `False`" not in whole and "weights_only=False" not in whole


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("save", SAVES)
def test_weights_to_start_from(save: Any, tiny: Network, tmp_path: Path) -> None:
    save(Payload(tmp_path / "run"), tmp_path / "evil.pth")
    with pytest.raises(UnavailableError) as error:
        build_network(tiny, num_classes=3, weights=str(tmp_path / "evil.pth"))
    check(error, "evil.pth is no readable checkpoint", "or a .safetensors file")
    assert ("it holds posix.mkdir" in str(error.value)) == (save is save_today)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("save", SAVES)
def test_a_last_checkpoint(save: Any, tmp_path: Path) -> None:
    save(Payload(tmp_path / "run"), tmp_path / "last.pth.tar")
    with pytest.raises(UnavailableError) as error:
        read_last(tmp_path)
    check(error, "last.pth.tar cannot be used", "delete it to start again")
    assert not (tmp_path / "run").exists()


def test_a_directory_with_pickled_weights(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_for_hf(timm.create_model("test_vit", num_classes=3), folder, safe_serialization=False)
    torch.save({"w": Payload(tmp_path / "run")}, folder / "pytorch_model.bin")
    with pytest.raises(UnavailableError) as error:
        read_model(folder)
    check(error, f"{folder} cannot be loaded: only tensors are read, and it holds posix.mkdir")
    with pytest.raises(UnavailableError) as error:
        train(tmp_path / "out", teacher=f"local-dir:{folder}")
    check(error, f"teacher local-dir:{folder} cannot be loaded: ", "it holds posix.mkdir")
    assert not (tmp_path / "run").exists()


def test_a_name_that_is_no_line_is_shown_as_one(tiny: Network, tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "good.pth")
    hostile = b"\x80\x02cos\nmkdir\x1b[2J" + b"x" * 500 + b"\n."
    with (
        zipfile.ZipFile(tmp_path / "good.pth") as good,
        zipfile.ZipFile(tmp_path / "evil.pth", "w") as evil,
    ):
        for name in good.namelist():
            evil.writestr(name, hostile if name.endswith("data.pkl") else good.read(name))
    with pytest.raises(UnavailableError) as error:
        build_network(tiny, num_classes=3, weights=str(tmp_path / "evil.pth"))
    check(error, "it holds os.mkdir?[2Jxxx")
    assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_any_bytes_are_refused_in_one_line(train: Train, tiny: Network, tmp_path: Path) -> None:
    train(tmp_path / "out", epochs=1)
    whole = (tmp_path / "out" / "last.pth.tar").read_bytes()
    rng = random.Random(0)
    at = whole.index(b"data.pkl")
    for number in range(30):
        torn = bytearray(whole)
        for _ in range(4):
            torn[at + rng.randrange(2000)] = rng.randrange(256)
        path = tmp_path / f"{number}.pth"
        path.write_bytes(torn)
        try:
            build_network(tiny, num_classes=3, weights=str(path))
        except UnavailableError as error:
            assert "\n" not in str(error)
