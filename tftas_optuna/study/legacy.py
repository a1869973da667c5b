"""Studies as release 0.1 recorded them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_APPROXIMATION = "dss_collapsed"


def upgraded(attributes: Mapping[str, Any], metric_names: Sequence[str]) -> dict[str, Any]:
    """Turn the user attributes of such a study into those of today.

    Release 0.1 had one indicator, named its objectives by Optuna's metric names alone, and used
    one seed for the sampler and the supernet.

    Args:
        attributes: User attributes of the study.
        metric_names: Its metric names.
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
