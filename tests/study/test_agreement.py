"""How well approximate values agree with exact ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tftas_optuna import export_front, pareto_front, search
from tftas_optuna.spaces import PiTSpace
from tftas_optuna.study.agreement import agreement_texts, agreements


def narrow(*base_dim: int) -> PiTSpace:
    return PiTSpace(
        base_dim=base_dim,
        depth=((1,),),
        num_heads=(1,),
        mlp_ratio=(2.0,),
        patch_size=8,
        stride=4,
        img_size=32,
        num_classes=1,
    )


def test_a_score_of_zero_has_no_relative_offset(tmp_path: Path) -> None:
    # A network of width 1 scores 0: its last normalisation lets no gradient through.
    study = search(narrow(1, 4, 8), n_trials=3, fidelity="collapsed", n_exact=None)
    front = pareto_front(study)
    assert sorted(candidate.exact["dss"] > 0 for candidate in front) == [False, True, True]
    measured = agreements(front)["dss"]
    offsets = [c.values["dss"] / c.exact["dss"] - 1 for c in front if c.exact["dss"]]
    assert measured.n == 3
    assert measured.relative_offset == pytest.approx(sum(offsets) / 2)
    for path in export_front(study, tmp_path, formats=["json"]):
        assert "NaN" not in path.read_text() and json.loads(path.read_text())


def test_one_alone_has_an_offset_and_no_order() -> None:
    study = search(narrow(4), n_trials=1, fidelity="collapsed", n_exact=None)
    (candidate,) = pareto_front(study)
    offset = candidate.values["dss"] / candidate.exact["dss"] - 1
    (line,) = agreement_texts([candidate])
    assert line == f"dss of the front computed exactly: the approximation {offset:+.3%}."


def test_of_scores_of_zero_alone_no_offset_is_told() -> None:
    study = search(narrow(1), n_trials=1, fidelity="collapsed", n_exact=None)
    (line,) = agreement_texts(pareto_front(study))
    assert line == "dss of the front computed exactly."
