"""Architectures drawn as text."""

from __future__ import annotations

from tftas_optuna.architecture import AutoFormerArchitecture, PiTArchitecture
from tftas_optuna.architecture.drawing import draw


def test_blocks_are_lines_and_what_is_larger_is_longer() -> None:
    drawn = draw(AutoFormerArchitecture(64, (1, 2, 4), (4.0, 2.0, 3.5), patch_size=8))
    first, second, heading, *blocks = drawn.splitlines()
    assert first.startswith("embed_dim 64, head_dim 64, patch_size 8, ")
    assert second.endswith("global_pool avg") and len(first) <= 72
    assert heading.split() == ["block", "num_heads", "mlp_ratio"]
    assert [line.split() for line in blocks] == [
        ["1", "1", "█" * 3, "4", "█" * 12],
        ["2", "2", "█" * 6, "2", "█" * 6],
        ["3", "4", "█" * 12, "3.5", "█" * 10],
    ]


def test_an_epsilon_of_timm_is_told_on_one_line_with_its_name() -> None:
    arch = AutoFormerArchitecture(64, (1,), (4.0,), relative_position=False, layer_norm_eps=1e-6)
    assert any(line.endswith("layer_norm_eps 1e-06") for line in draw(arch).splitlines())


def test_a_family_of_stages_has_a_line_for_each() -> None:
    drawn = draw(PiTArchitecture(40, (1, 4, 2), (2, 4, 8), 4.0))
    first, heading, *stages = drawn.splitlines()
    assert first == "base_dim 40, mlp_ratio 4.0, patch_size 16, stride 8"
    assert heading.split() == ["stage", "depth", "num_heads"]
    assert [line.split()[::2] for line in stages] == [
        ["1", "███", "███"],
        ["2", "█" * 12, "█" * 6],
        ["3", "█" * 6, "█" * 12],
    ]
