"""Studies made by release 0.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_APPROXIMATION = "dss_collapsed"


def upgraded(attributes: Mapping[str, Any], metric_names: Sequence[str]) -> dict[str, Any]:
    """Convert the user attributes of a study made by release 0.1 to the current ones.

    Release 0.1 had one indicator, recorded its objectives as Optuna's metric names alone, and used
    the same seed for the sampler and the supernet.

    Args:
        attributes: User attributes of the study.
        metric_names: Metric names of the study.
    """
    head_weight = attributes.get("head_weight", 1.0)
    exact = attributes.get("exact_dss", {})
    return {
        "deployment": None,
        **attributes,
        "objectives": ["dss" if name == _APPROXIMATION else name for name in metric_names],
        "supernet_seed": attributes.get("seed"),
        "approximated": ["dss"] if attributes.get("fidelity") != "exact" else [],
        "options": {} if head_weight == 1.0 else {"dss": {"head_weight": head_weight}},
        "exact": {"dss": exact} if exact else {},
    }
