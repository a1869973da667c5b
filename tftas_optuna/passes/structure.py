"""The rule by which weights of a Vision Transformer count as attention, MLP or head.

DSS treats matrices of attention and of MLPs differently. The rule applies this to any network, by
its structure alone:

1. **Dense layers** are ``nn.Linear`` and, inside a block with attention, convolutions that are
   linear layers over channels (1x1, one group). Both forms of a network have the same score.
2. **Attention** is a module with layers that make queries and keys, or values and the attention
   itself (outlook attention). The layers are recognised by their names, fused or not: ``qkv``,
   ``q`` and ``kv``, ``q_proj``, ``wq``, ``to_query``, ``in_proj_weight``, ... Their matrices count
   as **attention** (synaptic diversity), and so does the output projection (``proj``,
   ``out_proj``, ``o_proj``, ...). Projections with the same number of inputs are stacked into one
   matrix, so that separate and fused projections have the same score.
3. The classifier counts as **head**, every other dense layer as **mlp** (synaptic saliency):
   MLPs, gates, mixing of heads, linear layers between stages. Layers that hold rows of
   attention and of an MLP in one matrix (parallel blocks) are split.
4. **Left out** are patch embeddings and stems, all other convolutions, layers that never see the
   image (they make position biases) or are not run, and all parameters other than matrices of
   dense layers: normalisation, biases, tokens, position tables, scales.
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
    """A rectangle of one weight, which is an (out, in) matrix even for convolutions.

    Attributes:
        parameter: Name of the weight.
        rows: The outputs in the rectangle.
        columns: The inputs in the rectangle.
    """

    parameter: str
    rows: slice = slice(None)
    columns: slice = slice(None)

    def of(self, weight: Tensor) -> Tensor:
        """Cut the piece out of its weight or its gradient; shape (out, in)."""
        return weight.flatten(1)[self.rows, self.columns]


class Matrix(NamedTuple):
    """One matrix that counts.

    Attributes:
        name: Name of its layer; names of stacked layers are joined by ``+``.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        pieces: The pieces that it is stacked from, first outputs first.
    """

    name: str
    role: Role
    pieces: tuple[Piece, ...]

    def of(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Stack the matrix from weights or gradients by parameter name; shape (out, in)."""
        return torch.cat([piece.of(weights[piece.parameter]) for piece in self.pieces])


class Structure(NamedTuple):
    """The weights of a network that count, and its blocks.

    Attributes:
        counted: The matrices that count, in the order of the modules.
        left_out: The reason why a weight does not count, by name; vectors are not listed.
        blocks: Names of the modules around each attention and its MLP, in their order.
    """

    counted: list[Matrix]
    left_out: dict[str, str]
    blocks: list[str]


def read_structure(model: nn.Module) -> Structure:
    """Find the weights of a network that count, by the rule in this module's docstring.

    Raises:
        TftasError: The network has no recognised attention.
    """
    modules = dict(model.named_modules())
    dense = {name for name, module in modules.items() if _is_dense(module)}
    attention: list[Matrix] = []
    blocks: list[str] = []
    for name, module in modules.items():
        matrices = list(_attention_of(name, module, dense))
        if matrices:
            attention += matrices
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
    ordered = [matrix for name in order for matrix in counted[name]]
    return Structure(ordered, left_out, list(dict.fromkeys(blocks)))


def _is_dense(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return set(module.kernel_size) == {1} and module.groups == 1
    return isinstance(module, nn.Linear)


class _Projection(NamedTuple):
    """A weight that makes queries, keys, values or several of them.

    Attributes:
        parameter: Name of the weight.
        weight: The weight.
        makes: What it makes, such as ``"qkv"`` or ``"query"``.
        head: Position of its head if the module has a list of layers, one for each head.
    """

    parameter: str
    weight: Tensor
    makes: str
    head: str = ""


def _attention_of(name: str, module: nn.Module, dense: set[str]) -> Iterator[Matrix]:
    """Yield the matrices of an attention module; nothing for other modules."""
    prefix = f"{name}." if name else ""
    weights = dict(module.named_parameters())
    projections: list[_Projection] = []
    outputs: list[str] = []
    for child, part in module.named_children():
        layers = [
            layer
            for layer in sorted(dense)
            if layer == prefix + child or layer.startswith(f"{prefix}{child}.")
        ]
        match = _MAKES.fullmatch(child)
        # "attn" is also the usual name of the whole module: only a layer of that name counts.
        if match and (prefix + child in dense or match[1] != "attn"):
            for layer in layers:
                below = layer.removeprefix(f"{prefix}{child}.")
                head = below.split(".")[0] if isinstance(part, nn.ModuleList) else ""
                weight = weights[f"{layer}.weight".removeprefix(prefix)]
                projections.append(_Projection(f"{layer}.weight", weight, match[1], head))
        elif child in _OUTPUTS:
            outputs += layers
    for child, weight in module.named_parameters(recurse=False):
        match = _MAKES.fullmatch(child)
        if weight.ndim == 2 and (match or child == "in_proj_weight"):
            makes = match[1] if match else "qkv"
            projections.append(_Projection(prefix + child, weight, makes))
    split = _parallel_split(module)
    if split is not None:
        weight = weights["in_proj.weight"]
        projections.append(_Projection(f"{prefix}in_proj.weight", weight, "qkv"))
    letters = {letter for p in projections for letter in _LETTERS.get(p.makes, p.makes)}
    if not ({"q", "k"} <= letters or {"a", "v"} <= letters):
        return
    yield from _stacked(projections, slice(split[0], None) if split is not None else slice(None))
    for layer in outputs:
        columns = slice(None)
        if split is not None and layer == f"{prefix}out_proj":
            columns = slice(split[-1])
        yield Matrix(layer, "attention", (Piece(f"{layer}.weight", columns=columns),))


def _stacked(projections: list[_Projection], rows: slice) -> Iterator[Matrix]:
    """Stack the projections with the same number of inputs and the same head."""
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for projection in projections:
        n_inputs = projection.weight.flatten(1).shape[1]
        groups[n_inputs, projection.head].append(projection.parameter)
    for parameters in groups.values():
        names = [parameter.removesuffix(".weight") for parameter in parameters]
        label = names[0] + "".join(f"+{name.rpartition('.')[2]}" for name in names[1:])
        yield Matrix(label, "attention", tuple(Piece(name, rows) for name in parameters))


def _parallel_split(module: nn.Module) -> list[int] | None:
    """Return the output sizes of a layer for hidden units, queries, keys and values together."""
    split = getattr(module, "in_split", None)
    return split if isinstance(getattr(module, "in_proj", None), nn.Linear) and split else None


def _rest_of(name: str, layer: str, modules: Mapping[str, nn.Module]) -> list[Matrix]:
    """Return the MLP's part of a layer that is shared with attention."""
    split = _parallel_split(modules[layer.rpartition(".")[0]])
    if split is None:
        return []
    if layer.endswith("in_proj"):
        return [Matrix(layer, "mlp", (Piece(name, rows=slice(split[0])),))]
    if layer.endswith(".out_proj"):
        return [Matrix(layer, "mlp", (Piece(name, columns=slice(split[-1], None)),))]
    return []


def _block_of(name: str, modules: Mapping[str, nn.Module], dense: set[str]) -> str:
    """Return the name of the innermost module with an attention and other dense layers."""
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
