"""Searches by indicators that see images, alone and fused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from images import draw_images
from PIL import Image

from tftas_optuna import (
    ArchitectureObjective,
    Execution,
    Scorer,
    SearchProgress,
    TftasError,
    UnavailableError,
    register_fusion,
    register_indicator,
    search,
)
from tftas_optuna.indicators import CompositeIndicator, fusion
from tftas_optuna.indicators.fusion import rank, reference_sample
from tftas_optuna.metrics import get_cost, registry
from tftas_optuna.scoring.conditions import Conditions, ImageSource
from tftas_optuna.search import api
from tftas_optuna.spaces import AutoFormerSpace

SIZES: dict[str, Any] = dict(img_size=32, num_classes=10, n_images=4)


@pytest.fixture(autouse=True)
def fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fuse two cheap parts and a cost, as a user would; ranks are those in a small sample."""
    monkeypatch.setattr(fusion, "N_REFERENCE", 12)
    monkeypatch.setattr(registry.METRICS, "registered", dict(registry.METRICS.registered))
    register_fusion("mine", ["naswot", "ntk_cond", "macs"])
    yield


def run(space: AutoFormerSpace, **kwargs: Any) -> optuna.Study:
    fixed: dict[str, Any] = dict(objectives=("mine", "n_params"), population_size=6, seed=3)
    arguments = {"n_trials": 18, "execution": Execution("cpu"), **SIZES, **fixed, **kwargs}
    return search(space, **arguments)


def scaled(reference: Any) -> Any:
    return {part: [[v * 1.1 for v in row] for row in rows] for part, rows in reference.items()}


def rows(study: optuna.Study) -> list[Any]:
    return [(t.params, t.values, t.user_attrs) for t in study.get_trials(deepcopy=False)]


def test_a_fusion_ranks_among_a_sample_that_the_study_keeps(small_space: AutoFormerSpace) -> None:
    study = run(small_space, n_trials=6)
    kept = study.user_attrs["reference"]
    sample = reference_sample(small_space, 3)
    assert len(sample) == 12
    naswot = Scorer(small_space, indicator="naswot", seed=3, **SIZES)
    macs = [float(arch.costs(img_size=32, num_classes=10, in_chans=3).macs) for arch in sample]
    assert kept["naswot"] == [sorted(naswot.batch(sample))] and kept["macs"] == [sorted(macs)]
    ntk = Scorer(small_space, indicator="ntk_cond", seed=3, **SIZES)
    for trial in study.trials:
        arch = small_space.decode(trial.params)
        shares = [
            rank(naswot(arch), kept["naswot"][0]),
            14 / 13 - rank(ntk(arch), kept["ntk_cond"][0]),
            rank(trial.user_attrs["macs"], kept["macs"][0]),
        ]
        assert trial.values[0] == pytest.approx(np.log(shares).sum(), rel=1e-6)
    # A scorer and an objective of the same seed mean the same, without the study.
    scorer = Scorer(small_space, indicator="mine", seed=3, **SIZES)
    assert [scorer(small_space.decode(t.params)) for t in study.trials[:2]] == pytest.approx(
        [t.values[0] for t in study.trials[:2]]
    )


def test_searches_that_begin_together_rank_in_the_sample_of_the_first(
    small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scores the sample, to other digits; one that comes second takes the other's."""
    storage = f"sqlite:///{tmp_path}/study.db"
    looked = api.score_reference
    first: list[Any] = []

    def other_digits(pool: Any, task: Any, stored: Any, target: Any) -> Any:
        values = looked(pool, task, stored, target)
        if stored is None and not first:
            first.append(None)
            first[0] = run(small_space, n_trials=6, storage=storage).user_attrs["reference"]
            values = {
                part: [[v * 1.1 for v in row] for row in rows] for part, rows in values.items()
            }
        return values

    monkeypatch.setattr(api, "score_reference", other_digits)
    study = run(small_space, n_trials=6, storage=storage)
    assert study.user_attrs["reference"] == first[0] and len(study.trials) == 12
    scorer = Scorer(small_space, indicator="mine", seed=3, **SIZES)
    archs = [small_space.decode(trial.params) for trial in study.trials]
    assert scorer.batch(archs) == pytest.approx([trial.values[0] for trial in study.trials])


def test_an_objective_ranks_in_the_sample_that_its_study_has(
    small_space: AutoFormerSpace,
) -> None:
    def objective() -> ArchitectureObjective:
        scorer = Scorer(small_space, indicator="mine", seed=3, **SIZES)
        return ArchitectureObjective(small_space, scorer=scorer)

    mine, theirs = objective(), optuna.create_study(directions=objective().directions)
    mine.annotate(theirs)
    kept = theirs.user_attrs["reference"]
    other = scaled(kept)
    theirs.set_user_attr("reference", other)
    again = objective()
    (before,) = again.evaluate([small_space.largest()])
    again.annotate(theirs)
    (after,) = again.evaluate([small_space.largest()])
    (travelled,) = pickle.loads(pickle.dumps(again)).evaluate([small_space.largest()])
    assert after.values != before.values and travelled.values == after.values


@pytest.mark.usefixtures("quick_workers")
def test_a_search_by_a_fusion_that_was_cut_off_goes_on_to_the_same_trials(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    whole = run(small_space, execution=Execution("cpu", workers=2), n_trials=18)
    storage = f"sqlite:///{tmp_path}/study.db"

    def stop(progress: SearchProgress) -> None:
        if progress.n_done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small_space, storage=storage, callback=stop)
    name = optuna.get_all_study_names(storage)[0]
    before = optuna.load_study(study_name=name, storage=storage)
    n_done = len(before.trials)
    assert 0 < n_done < 18
    again = run(small_space, storage=storage, n_trials=18 - n_done)
    assert rows(again) == rows(whole)


def test_the_reference_is_scored_once(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tftas_optuna.scoring import reference

    drawn: list[int] = []

    def counted(space: AutoFormerSpace, seed: int) -> Any:
        drawn.append(seed)
        return reference_sample(space, seed)

    monkeypatch.setattr(reference, "reference_sample", counted)
    storage = f"sqlite:///{tmp_path}/study.db"
    run(small_space, storage=storage, n_trials=6)
    run(small_space, storage=storage, n_trials=6)
    assert drawn == [3]


def test_a_study_goes_on_with_the_images_that_it_has_seen(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    kwargs: dict[str, Any] = dict(objectives=("naswot", "n_params"), storage=storage, n_trials=6)
    study = run(small_space, **kwargs)
    assert (study.user_attrs["n_images"], study.user_attrs["pictures"]) == (4, "noise")
    with pytest.raises(UnavailableError, match="was made with n images 4, not 5; use the same"):
        run(small_space, **{**kwargs, "n_images": 5})
    data = draw_images(tmp_path / "data", train=4, val=0, side=32)
    with pytest.raises(UnavailableError, match="was made with pictures noise, not [0-9a-f]{64};"):
        run(small_space, **kwargs, data_dir=str(data))


def test_pictures_are_told_by_what_they_show_and_not_by_where_they_lie(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    data = draw_images(tmp_path / "data", train=4, val=0, side=32)
    kwargs: dict[str, Any] = dict(objectives=("snip", "n_params"), storage=storage, n_trials=6)
    study = run(small_space, data_dir=str(data), **kwargs)
    scorer = Scorer(small_space, indicator="snip", seed=3, data_dir=str(data), **SIZES)
    assert scorer(small_space.decode(study.trials[0].params)) == pytest.approx(
        study.trials[0].values[0]
    )
    assert scorer.labels is not None and set(scorer.labels.tolist()) <= {0, 1, 2}
    moved = data.rename(tmp_path / "moved")
    assert len(run(small_space, data_dir=str(moved), **kwargs).trials) == 12


def test_pictures_that_have_changed_in_their_folder_are_read_again(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    """In one process, which keeps what a search before it has read."""
    data = draw_images(tmp_path / "data", train=4, val=0, side=32)
    kwargs: dict[str, Any] = dict(objectives=("snip", "n_params"), n_trials=2, data_dir=str(data))
    before = run(small_space, **kwargs).trials[0]
    for path in data.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
    after = run(small_space, **kwargs).trials[0]
    scorer = Scorer(small_space, indicator="snip", seed=3, data_dir=str(data), **SIZES)
    assert after.params == before.params and after.values[0] != before.values[0]
    assert scorer(small_space.decode(after.params)) == pytest.approx(after.values[0])


def test_a_process_with_other_pictures_does_not_score(
    small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_images(tmp_path / "data", train=4, val=0, side=32)
    from tftas_optuna.search import planning

    other = draw_images(tmp_path / "other", train=5, val=0, side=32)
    seen = planning.resolve_images

    def elsewhere(conditions: Conditions, names: Sequence[str]) -> Conditions:
        there = dataclasses.replace(conditions, images=ImageSource.of(4, str(other)))
        found = seen(there, names).images
        assert conditions.images is not None and found is not None
        images = dataclasses.replace(conditions.images, digest=found.digest)
        return dataclasses.replace(conditions, images=images)

    monkeypatch.setattr(planning, "resolve_images", elsewhere)
    with pytest.raises(UnavailableError, match="data' holds other pictures on .* than where this"):
        run(small_space, objectives=("snip", "n_params"), n_trials=2, data_dir=str(data))


def test_what_sees_no_image_takes_no_pictures(small_space: AutoFormerSpace) -> None:
    with pytest.raises(TftasError, match="data_dir does not apply: this study computes dss"):
        run(small_space, objectives=("dss", "n_params"), data_dir="/nowhere")
    study = run(small_space, objectives=("dss", "n_params"), n_trials=2, n_exact=0)
    assert study.user_attrs["n_images"] is None and "reference" not in study.user_attrs


def test_values_below_zero_have_a_volume(small_space: AutoFormerSpace) -> None:
    seen: list[float] = []
    run(small_space, callback=lambda progress: seen.append(progress.hypervolume))
    assert seen[-1] > 0


def test_an_objective_of_ones_own_pipeline_takes_a_fusion(small_space: AutoFormerSpace) -> None:
    scorer = Scorer(small_space, indicator="mine", seed=3, **SIZES)
    objective = ArchitectureObjective(small_space, scorer=scorer)
    study = optuna.create_study(directions=objective.directions)
    study.optimize(objective, n_trials=2)
    objective.annotate(study)
    scorer(small_space.smallest())
    assert study.user_attrs["reference"] == json.loads(json.dumps(scorer.known_reference))
    other = ArchitectureObjective(small_space, objectives=("naswot", "mine"), scorer=scorer)
    values = [other.evaluate([small_space.decode(t.params)])[0].values for t in study.trials]
    assert [value for _, value in values] == pytest.approx([t.values[0] for t in study.trials])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "fusion 'bad' has no parts"),
        (["snip", "nonsense"], "'bad' is made of 'nonsense', which does not exist; known: "),
        (["snip", "snip"], "'bad' is made of snip, snip: one is there twice"),
        (["snip", "mine"], "'bad' is made of 'mine', which is itself made of others; name them"),
    ],
)
def test_fusions_that_cannot_be_are_refused(parts: list[str], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        register_fusion("bad", parts)


def test_a_cost_that_is_measured_is_no_part(small_space: AutoFormerSpace) -> None:
    assert get_cost("latency").measured
    register_fusion("timed", ["naswot", "latency"])
    with pytest.raises(TftasError, match="cannot be made of cost 'latency', which has no closed"):
        run(small_space, objectives=("timed", "n_params"))


def test_indicators_of_three_kinds_are_scored_side_by_side(small_space: AutoFormerSpace) -> None:
    names = ("dss", "naswot", "snip")
    study = run(small_space, objectives=names, n_trials=4, fidelity="exact")
    for name, i in zip(names, itertools.count()):
        alone = Scorer(small_space, indicator=name, seed=3, **SIZES)
        for trial in study.trials:
            arch = small_space.decode(trial.params)
            assert trial.values[i] == pytest.approx(alone(arch), rel=1e-6)


def test_a_fusion_of_other_parts_does_not_continue_a_study(small_space: AutoFormerSpace) -> None:
    storage = optuna.storages.InMemoryStorage()
    run(small_space, storage=storage, n_trials=4)
    run(small_space, storage=storage, n_trials=2)
    register_fusion("mine", ["naswot", "macs"], replace=True)
    told = "made with recipes: mine: parts naswot, ntk_cond, macs, not naswot, macs; use the same"
    with pytest.raises(UnavailableError, match=told):
        run(small_space, storage=storage, n_trials=2)


def test_a_part_that_a_stored_sample_lacks_is_scored(small_space: AutoFormerSpace) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = run(small_space, storage=storage, n_trials=6)
    kept = dict(study.user_attrs["reference"])
    study.set_user_attr("reference", {part: kept[part] for part in kept if part != "macs"})
    again = run(small_space, storage=storage, n_trials=6)
    assert rows(again) == rows(run(small_space, n_trials=12))
    scorer = Scorer(small_space, indicator="mine", seed=3, **SIZES)
    objective = ArchitectureObjective(small_space, scorer=scorer)
    other = optuna.create_study(directions=objective.directions)
    objective.annotate(other)
    lacking = {part: values for part, values in kept.items() if part != "naswot"}
    other.set_user_attr("reference", lacking)
    objective.annotate(other)
    trial = other.ask(small_space.distributions())
    value = objective(trial)
    assert isinstance(value, tuple)
    assert value[0] == pytest.approx(scorer(small_space.decode(trial.params)))


def test_an_indicator_of_the_users_need_not_be_hashable(small_space: AutoFormerSpace) -> None:
    @dataclasses.dataclass(frozen=True)
    class Weighted(CompositeIndicator):
        weights: list[float] = dataclasses.field(default_factory=lambda: [2.0], kw_only=True)

        def combine(self, arch: Any, values: Any, reference: Any) -> float:
            return float(self.weights[0] * values["snip"])

    register_indicator("weighted", Weighted("weighted", parts=("snip",)))
    study = run(small_space, objectives=("weighted", "snip", "n_params"), n_trials=4)
    for trial in study.trials:
        assert trial.values[0] == pytest.approx(2 * trial.values[1])
