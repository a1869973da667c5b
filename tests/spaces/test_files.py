"""Files of spaces: what is right is read, and what is wrong is named with its line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tftas_optuna import TftasError, get_space
from tftas_optuna.architecture import read_architecture
from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.recipe import load_recipe, parse_overrides
from tftas_optuna.spaces import space_from_dict

GOOD = """\
name: mine
family: autoformer
img_size: 32
in_chans: 1
num_classes: 10
patch_size: 4
head_dim: 16
relative_position: true
max_relative_position: 7
abs_pos: true
global_pool: token
embed_dim: [64, 96]
depth: [4, 6]
num_heads: [2, 4]
mlp_ratio:
  - 2
  - 4
shared: [mlp_ratio]
"""
PIT = """\
name: pools
family: pit
img_size: 64
patch_size: 8
stride: 4
base_dim: [8, 16]
depth: [[1, 2], [2], [1]]
num_heads: [2, 4]
mlp_ratio: [2]
"""


def test_every_key_means_something(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    space = get_space(path)
    assert (space.img_size, space.in_chans, space.num_classes) == (32, 1, 10)
    arch = space.largest()
    assert (arch.embed_dim, arch.depth, arch.num_heads[0], arch.mlp_ratio[0]) == (96, 6, 4, 4.0)
    assert (arch.patch_size, arch.head_dim, arch.max_relative_position) == (4, 16, 7)
    assert arch.relative_position and arch.abs_pos and arch.global_pool == "token"
    assert space.shared == ("mlp_ratio",)
    assert space.supernet == arch
    assert space.costs(arch) == arch.costs(img_size=32, in_chans=1, num_classes=10)
    assert space_from_dict(space.to_dict()) == space
    path.write_text(PIT)
    pit = get_space(path)
    assert space_from_dict(pit.to_dict()) == pit
    assert (pit.img_size, pit.num_classes, pit.supernet.patch_size) == (64, 1000, 8)
    assert pit.cardinality() == 2 * 2 * 4


BROKEN = [
    # Text in the file, what replaces it, and the message behind the file's name.
    (GOOD, "name: mine", "name: [", ": not plain YAML"),
    (GOOD, "depth: [4, 6]", "depth: [4]\ndepth: [6]", ", line 14: key 'depth' is given twice"),
    (GOOD, GOOD, "- mine\n- yours\n", ", line 1: a space is a mapping with family, name"),
    (GOOD, "family: autoformer", "family: convnet", ", line 2: unknown family 'convnet'"),
    (GOOD, "family: autoformer\n", "", ", line 1: a space needs a family"),
    (GOOD, "name: mine", "name: 7", ", line 1: name is 7; expected text"),
    (GOOD, "patch_size", "pathc_size", ", line 6: unknown key 'pathc_size' in an autoformer "
     "space; did you mean 'patch_size'?"),
    (GOOD, "embed_dim: [64, 96]\n", "", ", line 1: an autoformer space needs embed_dim"),
    (GOOD, "[4, 6]", "6", ", line 13: depth is 6, expected a list of choices such as"),
    (GOOD, "[64, 96]", "[]", ", line 12: embed_dim is [], expected a list of at least one"),
    (GOOD, "  - 4", "  - four", ", line 17: mlp_ratio holds 'four', allowed are positive numbers"),
    (GOOD, "[2, 4]", "[2, 2.5]", ", line 14: num_heads holds 2.5, allowed are positive whole"),
    (GOOD, "[64, 96]", "[64, 64]", ", line 12: embed_dim repeats a choice"),
    (GOOD, "[64, 96]", "[64, 50000]", ", line 12: embed_dim is 50000, allowed is a whole number"),
    (GOOD, "img_size: 32", "img_size: 30", ", line 3: img_size 30 is not a multiple of patch_s"),
    (GOOD, "patch_size: 4", "patch_size: 64", ", line 3: img_size 32 is smaller than one patch"),
    (GOOD, "in_chans: 1", "in_chans: 0", ", line 4: in_chans is 0, allowed is a whole number"),
    (GOOD, "classes: 10", "classes: ten", ", line 5: num_classes is 'ten', allowed is a whole"),
    (GOOD, "head_dim: 16", "head_dim: 1.5", ", line 7: head_dim is 1.5, allowed is a whole"),
    (GOOD, "head_dim: 16", "head_dim: null\nsupernet: {embed_dim: 64}", ", line 8: an autoformer "
     "space needs supernet.depth"),
    (GOOD, "relative_position: true", "relative_position: 1", ", line 8: relative_position is 1, "
     "allowed: true, false"),
    (GOOD, "relative_position: true", "relative_position: false", ", line 9: "
     "max_relative_position has no meaning"),
    (GOOD, "global_pool: token", "global_pool: max", ", line 11: global_pool is 'max', allowed:"),
    (GOOD, "[mlp_ratio]", "[embed_dim]", ", line 18: shared is ['embed_dim'], allowed is a list"),
    (PIT, "stride: 4", "stride: 9", ", line 5: stride is 9, allowed is a whole number 1 to 8"),
    (PIT, "[[1, 2], [2], [1]]", "[1, 2, 1]", ", line 7: depth of stage 1 is 1, expected a list"),
    (PIT, "[[1, 2], [2], [1]]", "3", ", line 7: depth is 3, expected a list of choices for each"),
    (PIT, "stride: 4", "global_pool: avg", ", line 5: unknown key 'global_pool' in a pit space"),
    (PIT, "[8, 16]", "[8, 5000]", ", line 6: base_dim is 5000, allowed is a whole number 1 to"),
    (PIT, "mlp_ratio: [2]", "mlp_ratio: [0.01]", ", line 9: mlp_ratio holds 0.01, allowed is"),
    (GOOD, "classes: 10", "classes: 1e1", "is '1e1', which YAML 1.1 reads as text (write 10), "),
    (PIT, "mlp_ratio: [2]", "mlp_ratio: [1e-9, 2]", ", line 9: mlp_ratio holds '1e-9', which "
     "YAML 1.1 reads as text (write 1.0e-9), allowed are positive numbers"),
    (PIT, "mlp_ratio: [2]", "mlp_ratio: [2.5E3]", " '2.5E3', which YAML 1.1 reads as text (w"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new", "message"), BROKEN)
def test_a_broken_file_is_told_by_line_and_key(
    tmp_path: Path, text: str, old: str, new: str, message: str
) -> None:
    path = tmp_path / "broken.yaml"
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UnavailableError) as caught:
        get_space(path)
    said = str(caught.value)
    assert said.startswith(str(path)) and message in said, said
    assert "\n" not in said and len(said) < 400


def test_the_messages_are_all_different() -> None:
    messages = [message for _, _, _, message in BROKEN]
    assert len(messages) == len(set(messages)) >= 20


def test_heads_must_divide_every_width_they_share(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    text = GOOD.replace("head_dim: 16", "head_dim: null")
    path.write_text(text.replace("[2, 4]", "[2, 3]"))
    with pytest.raises(TftasError, match="line 14: num_heads holds 3, .* divide embed_dim 64"):
        get_space(path)


def test_aliases_are_read_where_they_are_few(tmp_path: Path) -> None:
    path = tmp_path / "few.yaml"
    path.write_text(PIT.replace("[[1, 2], [2], [1]]", "[&some [1, 2], [2], *some]"))
    assert get_space(path).depth == ((1, 2), (2,), (1, 2))


def bomb(levels: int = 10) -> str:
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        bomb() + PIT.replace("[8, 16]", "*a9"),
        "&a\nname: mine\nfamily: pit\ndepth: *a\nbase_dim: [8]\n",
        "a: &a {x: 1}\nb: &b\n  <<: [" + ", ".join(["*a"] * 30_000) + "]\n",
    ],
    ids=["bomb", "loop", "merge"],
)
def test_aliases_that_expand_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    for read in (get_space, read_architecture, load_recipe):
        with pytest.raises(UnavailableError, match=f"^{path}, line 1: .*aliases stand") as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_aliases_that_expand_are_refused_on_the_command_line() -> None:
    flow = "{" + ", ".join(line for line in bomb().splitlines()) + "}"
    with pytest.raises(TftasError, match="the value cannot be read"):
        parse_overrides([f"mean={flow}"])
