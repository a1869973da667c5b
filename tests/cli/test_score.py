"""``tftas-optuna score`` on timm models, and what ``--explain`` prints."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tftas_optuna.cli import main


def score(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["score", *args], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def test_explain_says_what_was_counted_as_what() -> None:
    code, out, _ = score("test_vit3", "--img-size", "64", "--explain")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert any("blocks.0.attn.qkv" in line and "attention" in line for line in lines)
    assert any("attn_pool.q+kv" in line and "attention" in line for line in lines)
    assert any("head" in line and "100.0%" not in line for line in lines)
    assert "left out, convolution: patch_embed.proj.weight" in out
    (line,) = [line for line in out.splitlines() if "token, position or scale" in line]
    assert line.startswith("left out, ") and "pos_embed" in line and "latent" in line


def test_explained_rows_add_up() -> None:
    _, out, _ = score("test_vit3", "--img-size", "64", "-f", "json")
    (row,) = json.loads(out)
    _, out, _ = score("test_vit3", "--img-size", "64", "--explain", "-f", "json")
    layers = json.loads(out)
    assert sum(layer["value"] or 0 for layer in layers) == pytest.approx(row["dss"])
    left_out = {layer["layer"]: layer["role"] for layer in layers if layer["value"] is None}
    assert left_out["patch_embed.proj.weight"] == "left out: convolution"
    assert row["img_size"] == 64 and row["num_classes"] == 1000


def test_a_network_without_a_classifier_gets_one() -> None:
    from tftas_optuna.scoring.model import timm_model

    assert timm_model("vit_small_patch14_dinov2", img_size=28).num_classes == 1000
    _, out, _ = score("test_vit", "--num-classes", "7", "--img-size", "32", "-f", "json")
    assert json.loads(out)[0]["num_classes"] == 7


def test_every_name_is_checked_before_any_work() -> None:
    code, out, err = score("test_vit", "no_such_model")
    assert code == 2 and not out
    assert err.startswith(
        "Error: 'no_such_model' is neither a file, a directory, a timm model, nor one of"
    )


def test_a_network_without_attention_is_refused_in_one_line() -> None:
    code, _, err = score("resnet18")
    assert code == 2 and err.count("\n") == 1
    assert "ResNet has no attention" in err
