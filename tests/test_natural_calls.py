"""What a new user writes works, or ends in one line that says what to give."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import timm
import torch

import tftas_optuna
from tftas_optuna.plots import plot_architectures, plot_front, plot_layers
from tftas_optuna.report import write_report
from tftas_optuna.spaces import AutoFormerSpace

# Of any type, as type checkers would refuse most of what follows.
t: Any = tftas_optuna
SIZES: dict[str, Any] = {"img_size": 32, "num_classes": 10}
CHOICES: dict[str, Any] = {
    "embed_dim": (192, 216),
    "depth": (12, 13),
    "num_heads": (3, 4),
    "mlp_ratio": (3.5, 4),
}


@pytest.fixture(scope="module")
def ours(small_space: AutoFormerSpace) -> SimpleNamespace:
    study = t.search(small_space, n_trials=6, population_size=4, n_exact=0, **SIZES)
    front = t.pareto_front(study)
    return SimpleNamespace(
        space=small_space,
        study=study,
        front=front,
        candidate=front[0],
        arch=front[0].architecture,
        scorer=t.Scorer(small_space, **SIZES),
        plain=optuna.create_study(),
        search=lambda **given: t.search(small_space, **{"n_trials": 2, **SIZES, **given}),
        space_of=lambda **given: AutoFormerSpace(**{**CHOICES, **given}),
    )


Ours = Any
WRONG: list[tuple[str, Callable[[Ours], object], str]] = [
    ("search", lambda o: t.search(3, n_trials=2), "3 is no space; give the name of one"),
    ("search", lambda o: o.search(n_trials="10"), "n_trials is '10', allowed is a whole number"),
    ("search", lambda o: o.search(objectives=None), "objective None does not exist; known"),
    ("search", lambda o: o.search(start=3), "3 is no architecture; give an Architecture"),
    ("search", lambda o: o.search(start="tf-tas-tiny"), r"find_architecture\('tf-tas-tiny'\)"),
    ("search", lambda o: o.search(storage=3), "storage is 3, expected a URL, a path, or"),
    ("search", lambda o: o.search(study_name=3), "study_name is 3, expected text"),
    ("search", lambda o: o.search(sampler=optuna.samplers.RandomSampler), "expected a name, or"),
    ("search", lambda o: o.search(population_size=4.5), "population_size is 4.5, allowed"),
    ("search", lambda o: o.search(seed=None), "^seed is None, allowed is a whole number, 0 or"),
    ("search", lambda o: o.search(seed=-1), "^seed is -1, allowed is 0 or more"),
    ("search", lambda o: o.search(supernet=3), "supernet is 3, expected a path"),
    ("search", lambda o: o.search(n_seeds="2"), "n_seeds is '2', allowed is a whole number"),
    ("search", lambda o: o.search(n_exact="all"), "n_exact is 'all', allowed is a whole"),
    ("search", lambda o: o.search(img_size=(32, 32)), r"img_size is \(32, 32\), allowed is a"),
    ("search", lambda o: o.search(num_classes=-1), "num_classes is -1, allowed is 0 or more"),
    ("search", lambda o: o.search(data_dir=3), "data_dir is 3, expected a path"),
    ("search", lambda o: o.search(execution="cpu"), r"execution is 'cpu', expected Execution\("),
    (
        "search",
        lambda o: o.search(objectives="latency", deployment="cpu"),
        r"deployment is 'cpu', expected Deployment\(",
    ),
    ("search", lambda o: o.search(timeout="1h"), "timeout is '1h', expected seconds"),
    ("search", lambda o: o.search(callback=3), "callback is 3, expected a function"),
    ("get_space", lambda o: t.get_space(None), "None is no space; give the name"),
    ("get_space", lambda o: t.get_space({"family": "pit"}), "a space needs a name"),
    ("SearchSpace", lambda o: o.space.sample("a"), "rng is 'a', expected a seed"),
    ("SearchSpace", lambda o: o.space.costs(None), "None is no architecture"),
    ("SearchSpace", lambda o: o.space.build(o.front), "one architecture is expected, not several"),
    ("SearchSpace", lambda o: o.space.decode(o.study.trials[0]), "expected parameters by name"),
    ("SearchSpace", lambda o: o.space.suggest(3), "trial is 3, expected a trial of Optuna"),
    ("AutoFormerSpace", lambda o: AutoFormerSpace(), "needs embed_dim, depth, num_heads, mlp_r"),
    ("AutoFormerSpace", lambda o: o.space_of(name=3), "name is 3; expected text"),
    ("AutoFormerSpace", lambda o: o.space_of(supernet="x"), "'x' is no architecture"),
    ("PiTSpace", lambda o: t.PiTSpace(base_dim=(32,)), "a pit space needs depth, num_heads, mlp"),
    ("Architecture", lambda o: o.arch.costs(img_size="x", num_classes=1), "img_size is 'x'"),
    ("Architecture", lambda o: o.arch.costs(img_size=32, num_classes=None), "num_classes is None"),
    ("build_model", lambda o: t.build_model(o.arch), "give img_size=... and num_classes=..., or"),
    ("build_model", lambda o: t.build_model("x", **SIZES), "'x' is no architecture"),
    (
        "build_model",
        lambda o: t.build_model(o.arch, img_size=32, num_classes="10"),
        "num_classes is '10', allowed is a whole number, 0 or more",
    ),
    ("Candidate", lambda o: o.candidate.build(img_size="x"), "img_size is 'x', allowed"),
    ("Scorer", lambda o: t.Scorer(o.study), "is no space; give the name of one"),
    (
        "Scorer",
        lambda o: t.Scorer(o.space, indicator=len),
        "indicator <built-in .* does not exist",
    ),
    ("Scorer", lambda o: t.Scorer(o.space, seed="a"), "^seed is 'a', allowed"),
    ("Scorer", lambda o: t.Scorer(o.space, dtype=torch.int8), "dtype is torch.int8, allowed"),
    ("Scorer", lambda o: t.Scorer(o.space, dtype="float23"), "dtype is 'float23', allowed"),
    ("Scorer", lambda o: t.Scorer(o.space, head_weight="x"), "head_weight is 'x', expected a num"),
    ("Scorer", lambda o: o.scorer("x"), "'x' is no architecture"),
    ("Scorer", lambda o: o.scorer([o.arch, None]), "None is no architecture"),
    ("Scorer", lambda o: o.scorer.explain(o.front), "one architecture is expected, not several"),
    ("score_model", lambda o: t.score_model("vit_tny"), "timm has no model 'vit_tny'"),
    ("score_model", lambda o: t.score_model(o.candidate), "a Scorer scores architectures and"),
    ("score_model", lambda o: t.score_model(torch.nn.Sequential()), "Sequential has no weights"),
    (
        "score_model",
        lambda o: t.score_model("test_vit", img_size=(3, 8, 8)),
        "cannot be built",
    ),
    ("score_model", lambda o: t.score_model("test_vit", images=3), "images is 3, expected"),
    ("explain_model", lambda o: t.explain_model(None), "model is None, expected a network or"),
    ("ArchitectureObjective", lambda o: t.ArchitectureObjective(3), "3 is no space"),
    (
        "ArchitectureObjective",
        lambda o: t.ArchitectureObjective(o.space, scorer="dss"),
        r"scorer is 'dss', expected Scorer\(space, ...\)",
    ),
    (
        "ArchitectureObjective",
        lambda o: t.ArchitectureObjective(o.space, objectives="n_params").annotate("x"),
        "study is 'x', expected a study",
    ),
    (
        "DSSObjective",
        lambda o: t.DSSObjective(o.space, objectives="macs"),
        "are macs, without dss",
    ),
    (
        "pareto_front",
        lambda o: t.pareto_front("mine"),
        r"'mine', expected a study; optuna.load_st",
    ),
    ("export_front", lambda o: t.export_front(o.front, "x"), "expected a study"),
    ("export_front", lambda o: t.export_front(o.study, None), "directory is None, expected a p"),
    ("export_front", lambda o: t.export_front(o.study, "x", prefix=3), "name is 3, expected text"),
    ("score_exactly", lambda o: t.score_exactly(None), "study is None, expected a study"),
    ("score_exactly", lambda o: t.score_exactly(o.study, [o.arch]), "is no candidate of a study"),
    ("correlate", lambda o: t.correlate(None), "table is None, expected a path, or a study"),
    ("correlate", lambda o: t.correlate("x.csv", "tny"), "unknown space 'tny'"),
    ("correlate", lambda o: t.correlate("x.csv", bands="x"), "bands is 'x', allowed"),
    ("retrain", lambda o: t.retrain(None, data_dir="."), "None is no architecture"),
    ("retrain", lambda o: t.retrain("test_vit", data_dir=None), "data_dir is None, expected a p"),
    ("retrain", lambda o: t.retrain("test_vit", data_dir=".", recipe=3), "recipe is 3, expected"),
    (
        "retrain",
        lambda o: t.retrain("test_vit", data_dir=".", overrides=["epochs=3"]),
        "expected values by name, such as",
    ),
    ("retrain", lambda o: t.retrain("test_vit", data_dir=".", workers="x"), "workers is 'x'"),
    ("retrain", lambda o: t.retrain("test_vit", data_dir=".", out=3), "out is 3, expected a path"),
    (
        "retrain",
        lambda o: t.retrain("test_vit", data_dir=".", val_fraction="x"),
        "val-fraction is 'x', allowed",
    ),
    ("retrain_shared", lambda o: t.retrain_shared("tny", data_dir="."), "unknown space 'tny'"),
    ("retrain_shared", lambda o: t.retrain_shared(o.study, data_dir="."), "is no architecture"),
    (
        "retrain_shared",
        lambda o: t.retrain_shared(o.arch, data_dir=".", space=o.space),
        "is the only member",
    ),
    (
        "retrain_shared",
        lambda o: t.retrain_shared(o.space, data_dir=".", name=3),
        "name is 3, expected text",
    ),
    (
        "ScreenedNSGAIISampler",
        lambda o: t.ScreenedNSGAIISampler(population_size="x"),
        "population_size is 'x', expected a whole number",
    ),
    (
        "ScreenedNSGAIISampler",
        lambda o: t.ScreenedNSGAIISampler(knowledge=3),
        "knowledge is 3, expected a function",
    ),
    ("Execution", lambda o: t.Execution(workers=2.5), "workers is 2.5, allowed is a whole"),
    ("Execution", lambda o: t.Execution(cluster=3), "cluster is 3, expected an address"),
    ("Deployment", lambda o: t.Deployment(batch_size="x").on("cpu"), "batch_size is 'x', allowed"),
    ("register_cost", lambda o: t.register_cost(len), "cannot be a name"),
    (
        "register_cost",
        lambda o: t.register_cost("mine", lambda a, **k: 3, unit=3),
        "unit of 'mine' is 3, expected text",
    ),
    ("register_indicator", lambda o: t.register_indicator(len), "cannot be a name"),
    ("register_fusion", lambda o: t.register_fusion("mine", 3), "is made of 3, which does not ex"),
    ("register_family", lambda o: t.register_family(len), "cannot be called without arguments"),
    (
        "Family",
        lambda o: t.Family("mine", 3, "b:B", "c:C", "d:D").architecture,
        "architecture_class of family 'mine' is 3, expected a class",
    ),
    ("AutoFormerArchitecture", lambda o: t.AutoFormerArchitecture(192, 3, 4), "num_heads is 3"),
    ("PiTArchitecture", lambda o: t.PiTArchitecture(32, 3, 4, 4), "depth is 3, expected a list"),
    ("plots", lambda o: plot_front("x"), "study is 'x', expected a study"),
    ("plots", lambda o: plot_architectures([o.arch]), "is no candidate of a study"),
    ("plots", lambda o: plot_layers(o.study, [3]), "3 is no candidate of a study"),
    ("report", lambda o: write_report(o.study, None), "path is None, expected a path"),
]
# Errors themselves, values that calls return, and text.
NOT_CALLED = {"TftasError", "UnavailableError", "SearchProgress", "__version__"}


@pytest.mark.parametrize(("call", "message"), [(call, message) for _, call, message in WRONG])
def test_a_wrong_argument_is_refused_in_one_line(
    ours: Ours, call: Callable[[Ours], object], message: str
) -> None:
    with pytest.raises(t.TftasError) as caught:
        call(ours)
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text


def test_every_public_name_is_called_wrongly() -> None:
    assert set(t.__all__) - NOT_CALLED <= {name for name, _, _ in WRONG}


def test_a_space_is_given_in_any_form(ours: Ours) -> None:
    tiny = t.get_space("autoformer-tiny")
    assert t.get_space(tiny) is tiny and t.get_space(tiny.to_dict()) == tiny
    assert t.Scorer("autoformer-tiny").space == tiny
    assert t.Scorer(tiny.to_dict()).space == tiny
    objective = t.ArchitectureObjective("autoformer-tiny", objectives=("n_params", "macs"))
    assert objective.settings.space == tiny
    study = t.search("autoformer-tiny", n_trials=2, objectives=("n_params", "macs"))
    assert study.study_name == "autoformer-tiny"
    assert len(t.search(ours.space.to_dict(), n_trials=2, **SIZES).trials) == 2


def test_a_candidate_is_given_for_an_architecture(ours: Ours) -> None:
    space, arch, candidate = ours.space, ours.arch, ours.candidate
    assert candidate in space and space.costs(candidate) == space.costs(arch)
    assert space.encode(candidate) == space.encode(arch)
    assert space.features(candidate) == space.features(arch)
    assert ours.scorer.explain(candidate) == ours.scorer.explain(arch)
    first = t.search(space, n_trials=2, start=[candidate], objectives="n_params").trials[0]
    assert space.decode(first.params) == arch
    objective = t.ArchitectureObjective(space, scorer=ours.scorer)
    assert objective.evaluate(candidate) == objective.evaluate([arch])
    assert t.build_model(arch.to_dict(), **SIZES).num_classes == 10


def test_a_candidate_knows_the_sizes_of_its_network(ours: Ours) -> None:
    model: Any = t.build_model(ours.candidate)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    other: Any = t.build_model(ours.candidate, num_classes=4)
    assert other(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_several_are_scored_at_once(ours: Ours) -> None:
    archs = [candidate.architecture for candidate in ours.front]
    scores = ours.scorer(ours.front)
    assert scores == ours.scorer(archs) == ours.scorer.batch(archs)
    assert len(scores) == len(archs) > 1
    assert ours.scorer(ours.candidate) == ours.scorer([ours.arch])[0]
    assert ours.scorer([]) == []


def test_a_sample_takes_a_seed_a_generator_or_nothing(ours: Ours) -> None:
    space = ours.space
    assert space.sample(3) == space.sample(3) == space.sample(np.random.default_rng(3))
    assert len({space.sample() for _ in range(20)}) > 1


def test_spaces_need_neither_name_nor_supernet() -> None:
    space = AutoFormerSpace(**CHOICES)
    assert space == t.get_space({"name": "custom", "family": "autoformer", **space.choices()})
    assert space.supernet == space.largest()
    pit = t.PiTSpace(base_dim=(32,), depth=((1, 2), (4,)), num_heads=(2, 4), mlp_ratio=(2, 4))
    assert pit.name == "custom"


def test_a_timm_model_is_scored_by_its_name() -> None:
    state = torch.get_rng_state()
    score = t.score_model("test_vit", seed=3)
    assert torch.equal(torch.get_rng_state(), state), "other draws must not change"
    torch.manual_seed(3)
    assert score == t.score_model(timm.create_model("test_vit"))
    assert score != t.score_model("test_vit", seed=4)


def test_an_objective_stands_for_its_knowledge(ours: Ours) -> None:
    objective = t.ArchitectureObjective(ours.space, objectives=("n_params", "macs"))
    sampler = t.ScreenedNSGAIISampler(knowledge=objective, population_size=4, seed=0)
    study = optuna.create_study(directions=objective.directions, sampler=sampler)
    study.optimize(objective, n_trials=8)
    assert len(study.best_trials) > 0


def test_reprs_say_in_one_line_what_it_is(ours: Ours) -> None:
    space = t.get_space("autoformer-tiny")
    told = {
        space: "<AutoFormerSpace 'autoformer-tiny': 1,056,964,608 architectures for 3 x 224 x 224"
        " images and 1,000 classes>",
        space.smallest(): "<AutoFormerArchitecture 192 x 12, 3.0 heads, ratio 3.50>",
        ours.scorer: "<Scorer of dss (exact) in small: 32 pixels, 10 classes, supernet seed 0,"
        f" {ours.scorer.device}>",
        t.DSSObjective(ours.space): "<DSSObjective of dss_collapsed, n_params in small>",
    }
    assert {thing: repr(thing) for thing in told} == told
    score = f"{ours.candidate.values['dss']:,.5g}"
    assert repr(ours.candidate) == (
        f"<Candidate, trial {ours.candidate.trial}: {ours.arch.summary()}; dss_collapsed {score},"
        f" n_params {ours.candidate.n_params:,}, macs {ours.candidate.macs:,}>"
    )


def test_counts_are_whole_numbers(ours: Ours) -> None:
    assert [type(ours.candidate.values[name]) for name in ("n_params", "macs")] == [int, int]


def test_notebooks_show_a_front_as_a_table(ours: Ours) -> None:
    html = ours.front._repr_html_()
    assert html.count("<tr>") == len(ours.front) + 1
    assert "<th>dss_collapsed</th>" in html and f"<td>{ours.candidate.n_params:,}</td>" in html
