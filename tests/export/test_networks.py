from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from programs import Begin

from tftas_optuna import TftasError, build_model
from tftas_optuna.architecture import Architecture, AutoFormerArchitecture, PiTArchitecture
from tftas_optuna.export import networks
from tftas_optuna.export.metadata import describe, parse
from tftas_optuna.export.networks import export_network, loads_where

ARCH = AutoFormerArchitecture(
    24, (1, 2, 1), (2.0, 3.0, 1.5), head_dim=8, patch_size=4, max_relative_position=2
)
VIT = AutoFormerArchitecture(
    24,
    (3, 3, 3),
    (2.5, 2.5, 2.5),
    head_dim=8,
    patch_size=4,
    relative_position=False,
    global_pool="token",
    layer_norm_eps=1e-6,
)
PIT = PiTArchitecture(8, (1, 2), (1, 2), 1.5, patch_size=8, stride=4)
NAMES = ("ant", "bee", "cat", "dog", "élan")


ALONE = """
    import sys
    from pathlib import Path

    class NotInstalled:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "tftas_optuna":
                raise ImportError(name)

    sys.meta_path.insert(0, NotInstalled())
    try:
        import tftas_optuna
    except ImportError:
        pass
    else:
        sys.exit("tftas_optuna was imported")

    import onnxruntime
    import timm
    import torch

    torch.set_grad_enabled(False)
    for path in sorted(Path().glob("*.images")):
        name, images = path.stem, torch.load(path, weights_only=True)
        session = onnxruntime.InferenceSession(name + ".onnx", providers=["CPUExecutionProvider"])
        logits = {
            "onnx": torch.from_numpy(session.run(None, {"images": images.numpy()})[0]),
            "torchscript": torch.jit.load(name + ".torchscript.pt")(images),
        }
        if Path(name).is_dir():
            model = timm.create_model("local-dir:" + name, pretrained=True).eval()
            assert type(model).__module__.startswith("timm."), type(model)
            assert model.pretrained_cfg["crop_pct"] == 0.8 and model.num_classes == 5
            mean = timm.data.resolve_model_data_config(model)["mean"]
            assert list(mean) == [0.1, 0.2, 0.3], mean
            assert len(model.pretrained_cfg["label_names"]) == 5
            logits["timm"] = model(images)
        torch.save(logits, name + ".logits")
"""


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """A network whose every tensor differs from its first value, as after training."""
    return trained_network(ARCH)


def trained_network(arch: Architecture) -> torch.nn.Module:
    torch.manual_seed(0)
    model: Any = build_model(arch, img_size=16, num_classes=5, drop_path_rate=0.1)
    model.pretrained_cfg.update(label_names=NAMES, mean=(0.1, 0.2, 0.3), crop_pct=0.8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.train()


@pytest.fixture(scope="module")
def onnx_file(model: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network, exported to ONNX; that takes seconds."""
    folder = tmp_path_factory.mktemp("onnx")
    origin = {"name": "my study", "trial": 7}
    path, worst = export_network(model, folder / "net", "onnx", trained=True, origin=origin)
    assert worst < 1e-4
    assert [entry.name for entry in folder.iterdir()] == ["net.onnx"]
    return path


@pytest.mark.slow
def test_onnx_runs_at_any_batch_size(model: torch.nn.Module, onnx_file: Path) -> None:
    import onnxruntime

    path = onnx_file
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3, 8):
        images = torch.randn(batch, 3, 16, 16)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            expected = model.eval()(images)
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)


def test_torchscript_runs_at_any_batch_size(model: torch.nn.Module, tmp_path: Path) -> None:
    path, _ = export_network(model, tmp_path / "net", "torchscript", trained=True)
    loaded = torch.jit.load(str(path))
    for batch in (1, 3, 8):
        images = torch.randn(batch, 3, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), model.eval()(images), atol=1e-4, rtol=0)


def test_a_fresh_process_loads_the_timm_directory(
    model: torch.nn.Module, begin: Begin, tmp_path: Path
) -> None:
    path, _ = export_network(model, tmp_path / "net", "timm", trained=True)
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, timm, torch, tftas_optuna.models\n"
        "model = timm.create_model(f'local-dir:{sys.argv[1]}', pretrained=True).eval()\n"
        "images = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)\n"
        "torch.save(model(images).detach(), sys.argv[2])\n"
        "print(timm.data.resolve_data_config(model=model)['input_size'])\n"
        "other = timm.create_model(f'local-dir:{sys.argv[1]}', pretrained=True, num_classes=9)\n"
        "print(tuple(other(images).shape))\n"
    )
    done = begin(script, tmp_path, str(path), str(tmp_path / "logits.pt")).end()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(3, 16, 16)", "(2, 9)"]
    images = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
    with torch.no_grad():
        expected = model.eval()(images)
    logits = torch.load(tmp_path / "logits.pt", weights_only=True)
    torch.testing.assert_close(logits, expected)


@pytest.mark.slow
def test_every_export_computes_the_same_in_a_process_without_this_package(
    model: torch.nn.Module, onnx_file: Path, tmp_path: Path
) -> None:
    shutil.copy(onnx_file, tmp_path / "autoformer.onnx")
    export_network(model, tmp_path / "autoformer", "torchscript", trained=True)
    networks = {"autoformer": model, "vit": trained_network(VIT), "pit": trained_network(PIT)}
    for name in ("vit", "pit"):
        for form in ("onnx", "torchscript", "timm"):
            export_network(networks[name], tmp_path / name, form, trained=True)
    images = torch.randn(3, 3, 16, 16)
    for name in networks:
        torch.save(images, tmp_path / f"{name}.images")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(ALONE)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name, network in networks.items():
        with torch.no_grad():
            expected = network.eval()(images)
        logits = torch.load(tmp_path / f"{name}.logits", weights_only=True)
        assert logits.keys() == {"onnx", "torchscript", "timm"} - (
            {"timm"} if network is model else set()
        )
        for theirs in logits.values():
            torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arch", "stock", "where"),
    [
        (VIT, None, "timm loads it, without tftas-optuna"),
        (PIT, None, "timm loads it, without tftas-optuna"),
        (PIT, False, "timm loads it where tftas-optuna is installed and imported"),
        (ARCH, None, "tftas-optuna is installed and imported: it has relative positions"),
    ],
)
def test_it_is_said_where_a_directory_loads(
    arch: Architecture, stock: bool | None, where: str
) -> None:
    assert loads_where(build_model(arch, img_size=16, num_classes=5, stock=stock)).endswith(where)


@pytest.mark.slow
def test_an_onnx_file_says_whether_it_is_trained(
    model: torch.nn.Module, onnx_file: Path, tmp_path: Path
) -> None:
    import onnx

    untrained, _ = export_network(model, tmp_path / "net", "onnx", trained=False)
    assert (onnx_file.name, untrained.name) == ("net.onnx", "net-untrained.onnx")
    for path, weights in ((onnx_file, "trained"), (untrained, "untrained")):
        told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert told["weights"] == weights


@pytest.mark.slow
def test_an_onnx_file_says_what_is_needed_to_use_it_and_nothing_of_this_machine(
    onnx_file: Path,
) -> None:
    import onnx

    about = parse({entry.key: entry.value for entry in onnx.load(onnx_file).metadata_props})
    assert about.pop("architecture") == ARCH.to_dict()
    assert about == {
        "weights": "trained",
        "input_size": [3, 16, 16],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop_pct": 0.8,
        "crop_mode": "center",
        "num_classes": 5,
        "class_names": list(NAMES),
        "study": "my study",
        "trial": 7,
        "tftas_optuna": metadata.version("tftas-optuna"),
    }
    written = onnx_file.read_bytes()
    assert (
        b"torch.onnx" not in written and b".py" not in written and b"site-packages" not in written
    )


@pytest.mark.slow
def test_an_onnx_file_is_as_large_as_the_weights(tmp_path: Path) -> None:
    """Relative positions stay tables of 30 rows; for all pairs they would double the network."""
    arch = AutoFormerArchitecture(64, (1, 1), (2.0, 2.0), head_dim=64, patch_size=16)
    network = build_model(arch, img_size=224, num_classes=10)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    path, _ = export_network(network, tmp_path / "net", "onnx", trained=True)
    weights = sum(4 * parameter.numel() for parameter in network.parameters())
    assert weights < path.stat().st_size < 1.1 * weights


def test_the_other_files_say_the_same(model: torch.nn.Module, tmp_path: Path) -> None:
    origin = {"name": "my study", "trial": 7}
    path, _ = export_network(model, tmp_path / "net", "torchscript", trained=True, origin=origin)
    told = dict.fromkeys(describe(model, trained=True, origin=origin), "")
    torch.jit.load(str(path), _extra_files=told)
    about = parse({name: text.decode() for name, text in told.items()})
    assert about["class_names"] == list(NAMES) and about["study"] == "my study"
    assert about["mean"] == [0.1, 0.2, 0.3] and about["input_size"] == [3, 16, 16]
    folder, _ = export_network(model, tmp_path / "net", "timm", trained=True, origin=origin)
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == list(NAMES) and config["study"] == origin
    assert config["tftas_optuna"] == about["tftas_optuna"]


def test_names_of_other_classes_than_a_network_has_are_not_written(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    other: Any = copy.deepcopy(model)
    other.reset_classifier(3)
    assert "class_names" not in describe(other, trained=True)
    path, _ = export_network(other, tmp_path / "net", "timm", trained=True)
    assert "label_names" not in json.loads((path / "config.json").read_text())


def test_a_timm_model_is_traced_at_the_size_that_it_was_built_for(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", img_size=64, in_chans=1, num_classes=3)
    assert json.loads(describe(network, trained=True)["input_size"]) == [1, 64, 64]
    path, _ = export_network(network, tmp_path / "net", "torchscript", trained=True)
    assert torch.jit.load(str(path))(torch.zeros(1, 1, 64, 64)).shape == (1, 3)


def test_a_torchscript_file_says_whether_it_is_trained(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    for trained, name in ((True, "net.torchscript.pt"), (False, "net-untrained.torchscript.pt")):
        path, _ = export_network(model, tmp_path / "net", "torchscript", trained=trained)
        told = {"weights": ""}
        torch.jit.load(str(path), _extra_files=told)
        assert path.name == name
        assert told["weights"] == (b"trained" if trained else b"untrained")


def test_a_timm_directory_says_whether_it_is_trained(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    for trained, name in ((True, "net"), (False, "net-untrained")):
        path, _ = export_network(model, tmp_path / "net", "timm", trained=trained)
        config = json.loads((path / "config.json").read_text())
        assert path.name == name
        assert config["weights"] == ("trained" if trained else "untrained")
        assert config["pretrained_cfg"].get("tag") == (None if trained else "untrained")


def test_a_model_of_timm(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=4)
    path, worst = export_network(model, tmp_path / "vit", "timm", trained=True)
    assert worst == 0.0 and path == tmp_path / "vit"


def test_what_computes_something_else_is_not_kept(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, write, load = networks._FORMS["torchscript"]

    def wrong(path: Path) -> Any:
        right = load(path)
        return lambda images: right(images) + (2e-4 if len(images) != 2 else 0)

    monkeypatch.setitem(networks._FORMS, "torchscript", (ending, write, wrong))
    with pytest.raises(TftasError, match="computes something else than PyTorch, by 0.0002; not"):
        export_network(model, tmp_path / "net", "torchscript", trained=True)
    assert list(tmp_path.iterdir()) == []


def test_what_computes_no_numbers_is_not_kept(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, write, load = networks._FORMS["torchscript"]

    def wrong(path: Path) -> Any:
        right = load(path)
        return lambda images: right(images) * (float("nan") if len(images) == 2 else 1)

    monkeypatch.setitem(networks._FORMS, "torchscript", (ending, write, wrong))
    with pytest.raises(TftasError, match="computes something else than PyTorch, by nan; not kept"):
        export_network(model, tmp_path / "net", "torchscript", trained=True)
    assert list(tmp_path.iterdir()) == []


def test_the_network_itself_stays_as_it_is(model: torch.nn.Module, tmp_path: Path) -> None:
    assert model.train().training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_network(model, tmp_path / "net", "timm", trained=True)
    assert model.training
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_whoever_may_read_the_configuration_may_read_the_weights(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        path, _ = export_network(model, tmp_path / "net", "timm", trained=True)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}


def test_nothing_is_overwritten(model: torch.nn.Module, tmp_path: Path) -> None:
    for form in ("torchscript", "timm"):
        path, _ = export_network(model, tmp_path / "net", form, trained=True)
        with pytest.raises(TftasError, match="in the way; use --force or another directory"):
            export_network(model, tmp_path / "net", form, trained=True)
        assert export_network(model, tmp_path / "net", form, trained=True, force=True)[0] == path
    with pytest.raises(TftasError, match="format 'tflite' does not exist; known: onnx, torch"):
        export_network(model, tmp_path / "net", "tflite", trained=True)
    with pytest.raises(TftasError, match="net.torchscript.pt is in the way: not a directory"):
        export_network(model, tmp_path / "net.torchscript.pt" / "below", "timm", trained=True)


def test_a_missing_package_is_named(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TftasError, match=r"ONNX needs onnxruntime; pip install .*\[onnx\]"):
        export_network(model, tmp_path / "net", "onnx", trained=True)
    assert list(tmp_path.iterdir()) == []
