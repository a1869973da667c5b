"""Which weights of a Vision Transformer count, and as what: the one place of that rule.

DSS names two kinds of matrices, those of attention and those of MLPs. Applied to networks of any
make, by their structure alone:

1. **Dense layers** are ``nn.Linear`` and, inside a block with attention, convolutions that are
   linear layers over channels (1x1, one group). A network scores the same written either way.
2. **Attention** is a module with layers that make queries and keys, or values and the attention
   itself (outlook attention). They are told by their names, alone or fused: ``qkv``, ``q`` and
   ``kv``, ``q_proj``, ``wq``, ``to_query``, ``in_proj_weight``, ... Their matrices count as
   **attention** (synaptic diversity), and so does the output projection (``proj``,
   ``out_proj``, ``o_proj``, ...). Projections with equally many inputs are stacked into one
   matrix, as in the fused form: a network scores the same written either way.
3. The classifier counts as **head**, every other dense layer as **mlp** (synaptic saliency):
   MLPs, gates, mixing of heads, linear layers between stages. Layers that hold rows of
   attention and of an MLP in one matrix (parallel blocks) are split.
4. **Left out** are patch embeddings and stems, all other convolutions, layers that never see the
   image (they make position biases) or are not run, and everything that is no matrix of a dense
   layer: normalisation, biases, tokens, position tables, scales.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

    from tftas_optuna.supernet.trace import Role

_MAKES = re.compile(
    r"(?:to_|in_|w)?(qkv|qk|kv|q|k|v|query|key|value|v_gate|attn)s?(?:_proj)?(?:_weight)?"
)
_LETTERS = {"query": "q", "key": "k", "value": "v", "v_gate": "v", "attn": "a"}
_OUTPUTS = {"proj", "out_proj", "o_proj", "proj_out", "to_out", "output", "wo"}
_OUTPUTS |= {"attn_out_proj", "final"}
_STEM = re.compile(r"(?:^|\.)(?:patch_embed\w*|embeds?|stem)(?:\.|$)")


class Piece(NamedTuple):
    """A rectangle of one weight; convolutions count as (out, in) matrices.

    Attributes:
        parameter: Name of the weight.
        rows: Outputs that belong to it.
        columns: Inputs that belong to it.
    """

    parameter: str
    rows: slice = slice(None)
    columns: slice = slice(None)

    def of(self, weight: Tensor) -> Tensor:
        """Cut it out of its weight or its gradient, shape (out, in)."""
        return weight.flatten(1)[self.rows, self.columns]


class Matrix(NamedTuple):
    """One matrix that counts.

    Attributes:
        name: Name of its layer; of several stacked ones, joined by ``+``.
        role: What it does.
        pieces: What it is stacked from, first outputs first.
    """

    name: str
    role: Role
    pieces: tuple[Piece, ...]

    def of(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Put it together from weights or gradients by parameter name, shape (out, in)."""
        return torch.cat([piece.of(weights[piece.parameter]) for piece in self.pieces])


class Structure(NamedTuple):
    """What of a network counts.

    Attributes:
        counted: The matrices that count, in the order of the modules.
        left_out: Why a weight does not count, by the names of all others but vectors.
        blocks: Names of the modules around each attention and its MLP, in their order.
    """

    counted: list[Matrix]
    left_out: dict[str, str]
    blocks: list[str]


def read_structure(model: nn.Module) -> Structure:
    """Tell which weights of a network count, and as what; see this module's text.

    Raises:
        TftasError: It has no attention that is recognised.
    """
    modules = dict(model.named_modules())
    dense = {name for name, module in modules.items() if _is_dense(module)}
    attention: list[Matrix] = []
    blocks: list[str] = []
    for name, module in modules.items():
        found = list(_attention_of(name, module, dense))
        if found:
            attention += found
            blocks.append(_block_of(name, modules, dense))
    if not attention:
        raise TftasError(
            f"{type(model).__name__} has no attention: no module makes queries and keys (qkv; q"
            " and kv; q_proj, k_proj and v_proj; ...) with linear layers. DSS scores Vision"
            " Transformers"
        )
    in_blocks = {module for block in blocks for module in modules[block].modules()}
    heads = set(_classifier_layers(model))
    taken = {piece.parameter for matrix in attention for piece in matrix.pieces}
    counted = {matrix.pieces[0].parameter: [matrix] for matrix in attention}
    left_out: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        layer, _, kind = name.rpartition(".")
        if parameter.ndim < 2 or (name in taken and layer not in dense):
            continue
        module = modules[layer]
        if layer not in dense or kind != "weight":
            is_layer = isinstance(module, nn.modules.conv._ConvNd) and kind == "weight"
            left_out[name] = "convolution" if is_layer else "token, position or scale"
        elif name in taken:
            counted.setdefault(name, []).extend(_rest_of(name, layer, modules))
        elif _STEM.search(layer):
            left_out[name] = "patch embedding"
        elif not isinstance(module, nn.Linear) and module not in in_blocks:
            left_out[name] = "convolution"
        else:
            role: Role = "head" if module in heads else "mlp"
            counted[name] = [Matrix(layer, role, (Piece(name),))]
    order = [name for name, _ in model.named_parameters() if name in counted]
    matrices = [matrix for name in order for matrix in counted[name]]
    return Structure(matrices, left_out, list(dict.fromkeys(blocks)))


def _is_dense(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return set(module.kernel_size) == {1} and module.groups == 1
    return isinstance(module, nn.Linear)


class _Maker(NamedTuple):
    """A weight that makes queries, keys, values or all of them.

    Heads that are given as a list of layers, each with channels of its own, are told by their
    place in it.
    """

    parameter: str
    weight: Tensor
    makes: str
    place: str = ""


def _attention_of(name: str, module: nn.Module, dense: set[str]) -> Iterator[Matrix]:
    """List the matrices of one attention module; nothing where it is none."""
    prefix = f"{name}." if name else ""
    weights = dict(module.named_parameters())
    makers: list[_Maker] = []
    outputs: list[str] = []
    for child, part in module.named_children():
        layers = [
            layer
            for layer in sorted(dense)
            if layer == prefix + child or layer.startswith(f"{prefix}{child}.")
        ]
        made = _MAKES.fullmatch(child)
        # Blocks call their attention "attn": only a layer of that name makes attention.
        if made and (prefix + child in dense or made[1] != "attn"):
            for layer in layers:
                below = layer.removeprefix(f"{prefix}{child}.")
                place = below.split(".")[0] if isinstance(part, nn.ModuleList) else ""
                weight = weights[f"{layer}.weight".removeprefix(prefix)]
                makers.append(_Maker(f"{layer}.weight", weight, made[1], place))
        elif child in _OUTPUTS:
            outputs += layers
    for child, weight in module.named_parameters(recurse=False):
        made = _MAKES.fullmatch(child)
        if weight.ndim == 2 and (made or child == "in_proj_weight"):
            makers.append(_Maker(prefix + child, weight, made[1] if made else "qkv"))
    split = _parallel_split(module)
    if split is not None:
        makers.append(_Maker(f"{prefix}in_proj.weight", weights["in_proj.weight"], "qkv"))
    letters = {letter for maker in makers for letter in _LETTERS.get(maker.makes, maker.makes)}
    if not ({"q", "k"} <= letters or {"a", "v"} <= letters):
        return
    yield from _stacked(makers, slice(split[0], None) if split is not None else slice(None))
    for layer in outputs:
        columns = slice(None)
        if split is not None and layer == f"{prefix}out_proj":
            columns = slice(split[-1])
        yield Matrix(layer, "attention", (Piece(f"{layer}.weight", columns=columns),))


def _stacked(makers: list[_Maker], rows: slice) -> Iterator[Matrix]:
    """Stack what has equally many inputs."""
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for maker in makers:
        groups[maker.weight.flatten(1).shape[1], maker.place].append(maker.parameter)
    for parameters in groups.values():
        names = [parameter.removesuffix(".weight") for parameter in parameters]
        label = names[0] + "".join(f"+{name.rpartition('.')[2]}" for name in names[1:])
        yield Matrix(label, "attention", tuple(Piece(name, rows) for name in parameters))


def _parallel_split(module: nn.Module) -> list[int] | None:
    """Return output sizes of a layer that makes hidden units, queries, keys and values at once."""
    split = getattr(module, "in_split", None)
    return split if isinstance(getattr(module, "in_proj", None), nn.Linear) and split else None


def _rest_of(name: str, layer: str, modules: Mapping[str, nn.Module]) -> list[Matrix]:
    """Return the MLP's part of a layer that attention takes the other part of."""
    split = _parallel_split(modules[layer.rpartition(".")[0]])
    if split is None:
        return []
    if layer.endswith("in_proj"):
        return [Matrix(layer, "mlp", (Piece(name, rows=slice(split[0])),))]
    if layer.endswith(".out_proj"):
        return [Matrix(layer, "mlp", (Piece(name, columns=slice(split[-1], None)),))]
    return []


def _block_of(name: str, modules: Mapping[str, nn.Module], dense: set[str]) -> str:
    """Find the innermost module around an attention that holds other dense layers too."""
    own = f"{name}."
    containers = nn.Sequential | nn.ModuleList
    first = True
    while parent := name.rpartition(".")[0]:
        is_stage = any(isinstance(child, containers) for child in modules[parent].children())
        if isinstance(modules[parent], containers) or (is_stage and not first):
            break
        name, first = parent, False
        if any(
            layer.startswith(f"{name}.") and not f"{layer}.".startswith(own) for layer in dense
        ):
            break
    return name


def _classifier_layers(model: nn.Module) -> Iterable[nn.Module]:
    get_classifier = getattr(model, "get_classifier", None)
    head = get_classifier() if callable(get_classifier) else getattr(model, "head", None)
    for part in head if isinstance(head, tuple | list) else (head,):
        if isinstance(part, nn.Module):
            yield from part.modules()
