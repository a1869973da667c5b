"""Figures hold what they say: data is prepared without drawing, and then drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from random_studies import made_up_score, random_study

from tftas_optuna import Scorer, TftasError, UnavailableError, pareto_front, plots
from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.architecture.blocks import Block, blocks_of
from tftas_optuna.metrics import Meters
from tftas_optuna.plots import front as front_module
from tftas_optuna.plots.accuracy import trained_candidates
from tftas_optuna.plots.choices import effects
from tftas_optuna.plots.front import front_groups, planes
from tftas_optuna.plots.hypervolume import hypervolumes
from tftas_optuna.plots.importances import importances
from tftas_optuna.plots.layers import layer_scores
from tftas_optuna.spaces import AutoFormerSpace, get_space
from tftas_optuna.study.hypervolume import Hypervolume
from tftas_optuna.study.record import read_settings

BOUNDS = {"n_params": (None, 120_000.0), "macs": (None, 2e6)}


@pytest.fixture(scope="module")
def bounded(small_space: AutoFormerSpace) -> optuna.Study:
    """Three objectives, one of them bounded, and a bound on what is none."""
    objectives = ("dss", "n_params", "activations")
    return random_study(small_space, 60, objectives=objectives, bounds=BOUNDS)


def test_planes_are_pairs_of_objectives_and_what_is_bounded(bounded: optuna.Study) -> None:
    assert planes(read_settings(bounded)) == [
        ("n_params", "dss"),
        ("activations", "dss"),
        ("macs", "dss"),
        ("n_params", "activations"),
    ]


def test_a_single_objective_is_drawn_against_parameters(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 5, objectives=("dss",))
    assert planes(read_settings(study)) == [("n_params", "dss")]
    (others, front) = front_groups(study)
    assert len(others.columns["n_params"]) == 4 and front.total == 1
    assert not np.isnan(others.columns["n_params"]).any()
    assert plots.plot_front(study).data


def test_every_trial_is_in_one_group_of_the_front(bounded: optuna.Study) -> None:
    members = pareto_front(bounded)
    groups = {group.name: group for group in front_groups(bounded, members[:2])}
    outside = [t for t in bounded.trials if max(t.constraints.values()) > 0]
    assert 0 < len(outside) < 60
    assert groups["out of bounds"].total == len(outside)
    assert groups["front"].columns["dss"] == [c.values["dss"] for c in members]
    assert groups["picked"].labels == groups["front"].labels[:2]
    parts = [groups[name].total for name in ("out of bounds", "other trials", "front")]
    assert sum(parts) == 60


def test_of_many_trials_some_are_drawn_and_the_legend_says_so(
    bounded: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "_MOST_OTHERS", 3)
    groups = {group.name: group for group in front_groups(bounded)}
    total = groups["other trials"].total
    assert len(groups["other trials"].columns["dss"]) == 3 < total
    names = [trace.name for trace in plots.plot_front(bounded).data]
    assert f"other trials (3 of {total})" in names


def test_bounds_are_lines_in_every_panel_that_has_the_metric(bounded: optuna.Study) -> None:
    figure = plots.plot_front(bounded)
    vertical = [(shape.xref, shape.x0) for shape in figure.layout.shapes if shape.x0 == shape.x1]
    # n_params in the first and the last panel, macs in the third.
    assert sorted(vertical) == [("x", 120_000.0), ("x3", 2e6), ("x4", 120_000.0)]


def test_a_bound_far_from_all_trials_is_not_drawn(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 10, bounds={"n_params": (None, 1e9)})
    assert not plots.plot_front(study).layout.shapes


def test_the_hypervolume_only_grows_and_ends_where_the_front_does(
    small_space: AutoFormerSpace,
) -> None:
    # What is out of bounds scores higher than all others.
    bounded = random_study(
        small_space, 60, bounds=BOUNDS, score=lambda a: a.embed_dim * sum(a.num_heads)
    )
    steps = hypervolumes(bounded)
    values = [value for _, value in steps]
    assert [steps[0][0], steps[-1][0]] == [1, 60]
    assert values == sorted(values) and values[-1] > values[0]
    settings = read_settings(bounded)
    members = [[c.values[n] for n in settings.objectives] for c in pareto_front(bounded)]
    names = [name for name in settings.costs if name in settings.objectives]
    measure = Hypervolume(settings, Meters(names, settings.space, settings.target))
    assert values[-1] == pytest.approx(measure(members))


def test_effects_are_marginal_means_of_blocks_that_are_there(
    small_space: AutoFormerSpace,
) -> None:
    study = random_study(small_space, 80)
    archs = {small_space.decode(t.params) for t in study.trials}
    found = {(e.dimension, e.block, e.choice): e for e in effects(study, "dss")}
    deep = [arch for arch in archs if arch.depth == 4]
    chosen = [made_up_score(arch) for arch in deep if arch.num_heads[3] == 3]
    effect = found["num_heads", 3, 3]
    assert effect.n_trials == len(chosen)
    everybody = [made_up_score(arch) for arch in deep]
    assert effect.mean == pytest.approx(np.mean(chosen) - np.mean(everybody))
    assert effect.half == pytest.approx(1.96 * np.std(chosen, ddof=1) / len(chosen) ** 0.5)
    assert found["num_heads", 0, 1].mean < 0 < found["num_heads", 0, 3].mean
    assert found["depth", None, 2].mean < 0 < found["depth", None, 4].mean
    assert {name for name, _, _ in found} == {"embed_dim", "depth", "num_heads", "mlp_ratio"}


def test_the_figure_of_choices_has_a_line_for_each_choice_of_a_block(
    small_space: AutoFormerSpace,
) -> None:
    study = random_study(small_space, 80)
    figure = plots.plot_choices(study, "dss")
    names = [trace.name for trace in figure.data]
    blocks = [f"num_heads {n}" for n in (1, 2, 3)] + [f"mlp_ratio {r}" for r in (2, 3.5, 4)]
    assert sorted(names) == sorted(["embed_dim", "depth", *blocks])
    assert list(figure.data[names.index("num_heads 2")].x) == [1, 2, 3, 4]
    with pytest.raises(TftasError, match="'macs' is no objective of the study; give one of dss"):
        plots.plot_choices(study, "macs")


def test_choices_of_stages() -> None:
    figure = plots.plot_choices(random_study(get_space("pit-tiny"), 30), "dss")
    titles = [axis.title.text for axis in figure.select_xaxes()]
    assert titles.count("stage") == 2 and "choice" in titles
    depth = next(trace for trace in figure.data if trace.name.startswith("depth"))
    assert max(depth.x) <= 3


def test_importances_find_what_counts_once_there_are_enough_trials(
    small_space: AutoFormerSpace,
) -> None:
    found = importances(random_study(small_space, 120))
    assert list(found) == ["dss", "n_params"]
    # The score made up counts heads, whatever the width.
    assert min(found["dss"], key=found["dss"].__getitem__) == "embed_dim"
    # Two blocks are in every network; a third and a fourth tell how deep it is.
    assert list(found["dss"].keys() - {"embed_dim", "depth"}) and "block_03" not in found["dss"]
    assert found["n_params"]["embed_dim"] > found["n_params"]["block_01"]
    assert sum(found["dss"].values()) == pytest.approx(1)
    with pytest.raises(UnavailableError, match="nothing of 10 trials; they need 50"):
        importances(random_study(small_space, 10))


def test_importances_are_those_of_the_best_trials(small_space: AutoFormerSpace) -> None:
    def score(arch: Any) -> float:
        """Make width decide who is among the best tenth, and depth who is among the worst."""
        return 9 + arch.mlp_ratio[0] / 99 if arch.embed_dim == 64 else -9 * (arch.depth == 2)

    found = importances(random_study(small_space, 300, score=score))["dss"]
    assert found["embed_dim"] > 3 * found["depth"]


def test_blocks_of_both_families(small_space: AutoFormerSpace) -> None:
    small = small_space.smallest()
    assert blocks_of(small) == [Block(1, 16, 64)] * 2
    staged = PiTArchitecture(16, (1, 2), (2, 4), 3.0)
    assert blocks_of(staged) == [Block(2, 32, 96), Block(4, 64, 192), Block(4, 64, 192)]
    assert blocks_of(object()) == []
    # A family of somebody else's, whose blocks are all alike.
    assert blocks_of(SimpleNamespace(num_heads=2, inner_dim=32, hidden_dim=64, depth=3)) == []


def test_a_drawing_of_each_picked_architecture(bounded: optuna.Study) -> None:
    members = pareto_front(bounded)[:3]
    figure = plots.plot_architectures(members)
    assert len(figure.data) == 6
    for member, hidden, attention in zip(
        members, figure.data[::2], figure.data[1::2], strict=True
    ):
        assert list(hidden.y) == list(member.architecture.hidden_dim)
        assert list(attention.y) == [-16 * heads for heads in member.architecture.num_heads]
        assert [int(text) for text in attention.text] == list(member.architecture.num_heads)


def test_layers_add_up_to_the_score(bounded: optuna.Study) -> None:
    member = pareto_front(bounded)[-1]
    label, found = layer_scores(bounded, [member])
    scorer = Scorer(
        read_settings(bounded).space, fidelity="collapsed", img_size=32, num_classes=10
    )
    assert label == "dss_collapsed"
    total = sum(value for layers in found for value in layers.values)
    assert total == pytest.approx(scorer(member.architecture), rel=1e-4)
    depth = member.architecture.depth
    assert {len(layers.values) for layers in found} == {1, depth}


def test_a_study_without_a_sum_over_layers_has_no_layers(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 3, objectives=("n_params",))
    with pytest.raises(UnavailableError, match="no indicator of the study is a sum over layers"):
        layer_scores(study, pareto_front(study))


def test_accuracies_against_objectives(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 6)
    with pytest.raises(UnavailableError, match="nothing of study 'made up' was trained"):
        trained_candidates(study)
    for trial, top1 in ((4, 70.5), (1, 60.25)):
        study.set_user_attr(f"retrained:{trial}", {"top1": top1})
    dss, n_params = plots.plot_accuracy(study).data
    assert list(dss.y) == list(n_params.y) == [60.25, 70.5]
    assert list(dss.x) == [study.trials[i].values[0] for i in (1, 4)]
    assert list(dss.text) == ["1", "4"]


def test_figures_of_an_empty_study_are_empty(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 0)
    assert hypervolumes(study) == [] and effects(study, "dss") == []
    for draw in (plots.plot_front, plots.plot_choices):
        assert len(draw(study).data) == 0
    assert plots.plot_architectures([]).data == ()
