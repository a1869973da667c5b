"""Costs that architectures count in closed form.

``n_params`` are trainable parameters. MACs come in two conventions, each with its name:
``macs``, the multiply-accumulates of every matrix product and convolution of one image, those of
attention among them (what torch's FLOP counter gives, halved); and ``reference_macs``, the
formula of the family's published training code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.architecture.published import reference_macs
from tftas_optuna.costs._registry import counted

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.costs._registry import Target


def _n_params(arch: Architecture, target: Target) -> int:
    return arch.costs(**target.input).n_params


def _macs(arch: Architecture, target: Target) -> int:
    return arch.costs(**target.input).macs


def _reference_macs(arch: Architecture, target: Target) -> float:
    return reference_macs(arch, img_size=target.img_size, num_classes=target.num_classes)


COSTS = (
    counted("n_params", _n_params, grows=True),
    counted("macs", _macs, grows=True),
    counted("reference_macs", _reference_macs, grows=True),
)
