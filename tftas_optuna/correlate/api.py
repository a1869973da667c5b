"""Correlations of one table, from Python; ``tftas-optuna correlate`` calls this."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from optuna import Study

from tftas_optuna._given import check_callback, expect, listed, whole
from tftas_optuna.correlate.cache import ScoreCache
from tftas_optuna.correlate.calibration import (
    BEST_COLUMN,
    LEFT_OUT,
    USUAL,
    check_calibration,
)
from tftas_optuna.correlate.calibration import calibrate as run_calibration
from tftas_optuna.correlate.comparing import Ranked, check_accuracies, compare_all
from tftas_optuna.correlate.files import find_table
from tftas_optuna.correlate.scoring import measure
from tftas_optuna.correlate.table import read_table
from tftas_optuna.correlate.trained import Given, read_study, stored_scores
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean
from tftas_optuna.metrics import (
    get_indicator,
    get_metric,
    indicator_names,
    metric_names,
)
from tftas_optuna.metrics.units import name_numbers
from tftas_optuna.scoring.conditions import (
    Conditions,
    EvaluationSource,
    ImageSource,
    SupernetSource,
    batches_seen,
    sees_labelled,
)
from tftas_optuna.scoring.execution import check_execution
from tftas_optuna.search.planning import make_settings
from tftas_optuna.spaces import get_space
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tftas_optuna.correlate.calibration import Calibration
    from tftas_optuna.correlate.result import Correlations
    from tftas_optuna.correlate.table import TrainedTable
    from tftas_optuna.scoring.execution import Execution
    from tftas_optuna.spaces import SpaceLike
    from tftas_optuna.study.settings import StudySettings
_LOG = logging.getLogger("tftas_optuna")


def correlate(
    table: str | Path | Study,
    space: SpaceLike | None = None,
    *,
    accuracy: str | Sequence[str] | None = None,
    indicators: str | Sequence[str] | None = None,
    bands: int = 5,
    calibrate: str | None = None,
    fidelity: str = "auto",
    supernet: str | os.PathLike[str] | None = None,
    supernet_seed: int | None = None,
    n_seeds: int | None = None,
    img_size: int | None = None,
    num_classes: int | None = None,
    n_images: int | None = None,
    data_dir: str | None = None,
    trained: str | None = None,
    execution: Execution | None = None,
    cache: str | Path | None = None,
    callback: Callable[[str, int, int], None] | None = None,
) -> Correlations:
    """Compare indicators by how well they rank architectures of known accuracy.

    Indicators are compared with parameters, MACs, depth and width: over all architectures, and
    within bands of similar numbers of parameters, where these alone say little. Other columns of
    numbers in the table are scores from elsewhere, and compared under their own names.

    Args:
        table: The path of a CSV file or of a JSON list of objects, one row for each architecture:
            its fields as columns (those of ``tftas-optuna front -f csv``, lists as ``[3, 4]`` or
            ``3 4``) or in one object ``architecture``, and accuracies. Or a CSV file that names
            exported files in a column ``file`` or ``name``, from its own directory on, or the
            directory of such a file. Or a study, some of whose trials were retrained.
        space: The space of the architectures, as :func:`tftas_optuna.get_space` takes it; by
            default that of the study or of the files.
        accuracy: Columns of accuracies; by default all whose names end in ``acc``, ``accuracy``
            or ``top1``.
        indicators: Names of indicators; by default all, without those of labelled images unless
            there is a trained supernet with such images.
        bands: Number of bands with equally many architectures; fewer if a band would have less
            than five.
        calibrate: Name of an indicator to make from the shapes and the indicators (by default
            ``naswot``, ``snip`` and ``expressivity``), fitted to one accuracy of ten networks or
            more. ``correlations.calibration.indicator.save(path, {})`` keeps it.
        fidelity: Fidelity of indicators that have one: ``"exact"``, ``"collapsed"`` or
            ``"auto"``; see :func:`tftas_optuna.search`.
        supernet: The weights that candidates are cut from, see :class:`tftas_optuna.Scorer`; by
            default those that the study was searched on (``"study"`` says so too), and drawn for
            a table.
        supernet_seed: Seed of the first supernet; that of the study, or 0.
        n_seeds: Supernets to average over; those of the study, or 1.
        img_size: Height and width of the input, in pixels; that of the study, of the files, or of
            the space.
        num_classes: Outputs of the classifier; likewise.
        n_images: Images of one batch, for indicators that see images; those of the study, or 8.
            And the number of labelled images, for indicators that see those; likewise, or all.
        data_dir: A folder of pictures for them to see in place of noise, or as labelled images;
            see :func:`tftas_optuna.search`.
        trained: For a study, the key of the training conditions; by default those with the most
            trials, for trainings of single members (``top1``) and shared ones (``shared_top1``)
            each. Accuracies of several seeds are averaged.
        execution: Where to score.
        cache: A file to keep scores in, with which the next call goes on; by default
            ``TABLE.scores.json`` beside the table, and none for a study. It identifies
            a user's indicator by its name and its file: delete the cache if what that file
            imports has changed.
        callback: Called with the step (``"reading"``, ``"scoring"``, ``"times"``,
            ``"statistics"``), the number done and the total. An exception that it raises ends the
            work; scores are kept.

    Returns:
        The correlations, with notes on what was left out, which are logged too.

    Raises:
        TftasError: The space, a column, an indicator or another argument does not exist or does
            not apply.
        UnavailableError: The table cannot be read or has too few rows, or another file is in the
            place of its cache.

    Example:
        Which indicator to search with, after a few trainings::

            from tftas_optuna import correlate

            correlations = correlate("trained.csv", "autoformer-tiny")
            for row in correlations.rows:
                print(row.accuracy, row.metric, row.tau.value, row.band_tau.value)
    """
    bands = whole("bands", bands)
    check_callback(callback)
    execution = check_execution(execution)
    accuracy = None if accuracy is None else listed(accuracy)
    indicators = None if indicators is None else listed(indicators)
    if not isinstance(table, Study):
        table = Path(expect("table", table, (str, os.PathLike), "a path, or a study"))
    tell = callback or (lambda what, done, total: None)
    of_study = isinstance(table, Study) and supernet in (None, "study")
    source = SupernetSource() if of_study else SupernetSource.of(supernet)
    evaluation = EvaluationSource.of(n_images, data_dir)
    if isinstance(table, Study):
        if space is not None or accuracy is not None:
            raise TftasError("a study has its space and its accuracies; leave out space, accuracy")
        networks, theirs = read_study(table, trained), read_settings(table)
        conditions = theirs.conditions
        if of_study:
            source = conditions.supernet
        if supernet_seed is None:
            supernet_seed = conditions.supernet.seed
        n_seeds = conditions.n_seeds if n_seeds is None else n_seeds
        evaluation = _evaluation(conditions.evaluation, n_images, data_dir)
        names = _names(indicators, calibrate, source, evaluation)
        images = conditions.images or ImageSource()
        n_images = images.n_images if n_images is None else n_images
        if data_dir is None and batches_seen(names):
            data_dir = images.data_dir
            _check_folder(table, data_dir)
        if evaluation is not None and sees_labelled(names):
            _check_folder(table, evaluation.data_dir)
    elif trained is not None:
        raise TftasError("trained is for a study; for a table, name a column with accuracy")
    else:
        names = _names(indicators, calibrate, source, evaluation)
        space = None if space is None else get_space(space)
        networks = read_table(table, space, accuracy, tell)
        if cache is None:
            path = find_table(table)
            cache = path.with_name(f"{path.name}.scores.json")
    logged = networks.notes
    _log_notes(networks.name, logged)
    networks = _comparable(networks)
    if calibrate is not None:
        check_calibration(calibrate, names, networks.accuracies)
    sizes = networks.sizes
    conditions = Conditions.of(
        networks.space,
        img_size=sizes.get("img_size") if img_size is None else img_size,
        num_classes=sizes.get("num_classes") if num_classes is None else num_classes,
        supernet=dataclasses.replace(source, seed=supernet_seed or 0),
        n_seeds=1 if n_seeds is None else n_seeds,
        images=ImageSource.of(n_images, data_dir),
        evaluation=evaluation,
    )
    settings = make_settings(conditions, objectives=names, fidelity=fidelity)
    archs = networks.architectures
    scores = ScoreCache(None if cache is None else Path(cache))
    given = stored_scores(table, settings, set(archs)) if isinstance(table, Study) else Given()
    columns, seconds, undefined = measure(archs, settings, execution, scores, given, tell)
    metrics = [_ranked(name, values, settings, seconds) for name, values in columns.items()]
    metrics += _table_scores(networks, {metric.name for metric in metrics})
    notes = (*undefined.values(), *_gaps(networks, metrics, undefined))
    networks = dataclasses.replace(networks, notes=(*networks.notes, *notes))
    calibration = None
    if calibrate is not None:
        check_calibration(calibrate, names, _whole(networks, columns))
        calibration = _calibrated(calibrate, networks, columns, settings)
        metrics.append(Ranked(calibrate + LEFT_OUT, calibration.left_out, 1, True))
        metrics.append(Ranked(BEST_COLUMN + LEFT_OUT, calibration.column_left_out, 1, True))
    correlations = compare_all(networks, metrics, bands, tell)
    _log_notes(networks.name, [note for note in correlations.notes if note not in logged])
    return dataclasses.replace(correlations, calibration=calibration)


def _names(
    indicators: Sequence[str] | None,
    calibrate: str | None,
    source: SupernetSource,
    evaluation: EvaluationSource | None,
) -> tuple[str, ...]:
    """Return the names of the indicators to compare."""
    if indicators is not None:
        return _checked(indicators)
    if calibrate is not None:
        return USUAL
    if source.path is not None and evaluation is not None:
        return tuple(indicator_names())
    return tuple(name for name in indicator_names() if not get_indicator(name).labelled)


def _evaluation(
    recorded: EvaluationSource | None, n_images: int | None, data_dir: str | None
) -> EvaluationSource | None:
    """Return the labelled images for a study: those given, or its own."""
    if recorded is not None:
        n_images = recorded.n_images if n_images is None else n_images
        data_dir = recorded.data_dir if data_dir is None else data_dir
    return EvaluationSource.of(n_images, data_dir)


def _check_folder(study: Study, data_dir: str | None) -> None:
    if data_dir is not None and not Path(data_dir).is_dir():
        raise UnavailableError(
            f"the pictures of study {study.study_name!r} lay in {data_dir!r}, which is no folder"
            " here; say with data_dir (--data-dir) where they are"
        )


def _comparable(networks: TrainedTable) -> TrainedTable:
    """Check the accuracies of a table; of the two kinds of a study, one may be left out.

    Raises:
        UnavailableError: There are too few accuracies, or all are the same.
    """
    reasons: dict[str, UnavailableError] = {}
    for name, values in networks.accuracies.items():
        trainings = networks.trainings.get(name)
        sort = "" if trainings is None else f" of trainings {trainings.key}"
        try:
            check_accuracies(f"{networks.name}: {name}{sort}", values)
        except UnavailableError as error:
            reasons[name] = error
    kept = {name: v for name, v in networks.accuracies.items() if name not in reasons}
    if reasons and not (networks.trainings and kept):
        raise next(iter(reasons.values()))
    notes = (*networks.notes, *(f"left out: {reason}" for reason in reasons.values()))
    return dataclasses.replace(networks, accuracies=kept, notes=notes)


def _table_scores(trained: TrainedTable, taken: Collection[str]) -> list[Ranked]:
    """Return the scores from elsewhere that a table has, to be compared as well."""
    ranked = []
    for column, values in trained.scores.items():
        name = column.removesuffix("_collapsed")
        lower = name in metric_names() and get_metric(name).direction == "minimize"
        label = f"{column} (table)" if column in taken else column
        ranked.append(Ranked(label, values, -1 if lower else 1, True))
    return ranked


def _gaps(
    trained: TrainedTable, metrics: Sequence[Ranked], undefined: Collection[str]
) -> list[str]:
    """Return a note for each metric that lacks values, with the architectures concerned."""
    notes = []
    for name, values, *_ in metrics:
        missing = [trained.numbers[i] for i, value in enumerate(values) if value is None]
        if missing and name not in undefined:
            rows = name_numbers(missing, trained.counted)
            notes.append(
                f"{name} has no finite value in {rows}: left out of what is compared with it"
            )
    return notes


def _whole(
    trained: TrainedTable, columns: Mapping[str, Sequence[float | None]]
) -> dict[str, tuple[float | None, ...]]:
    """Return the accuracies of architectures that lack no other value; None for the rest."""
    whole = [None not in row for row in zip(*columns.values(), strict=True)]
    return {
        name: tuple(a if w else None for a, w in zip(values, whole, strict=True))
        for name, values in trained.accuracies.items()
    }


def _calibrated(
    name: str,
    trained: TrainedTable,
    columns: Mapping[str, Sequence[float | None]],
    settings: StudySettings,
) -> Calibration:
    """Calibrate on the networks with all values; the others get no prediction."""
    (accuracies,) = _whole(trained, columns).values()
    places = [i for i, accuracy in enumerate(accuracies) if accuracy is not None]
    calibration = run_calibration(
        name,
        [trained.architectures[i] for i in places],
        [accuracy for accuracy in accuracies if accuracy is not None],
        {
            name: [value for i in places if (value := values[i]) is not None]
            for name, values in columns.items()
        },
        settings,
    )

    def in_place(values: Sequence[float | None]) -> tuple[float | None, ...]:
        by_place = dict(zip(places, values, strict=True))
        return tuple(by_place.get(i) for i in range(len(accuracies)))

    return calibration._replace(
        left_out=in_place(calibration.left_out),
        column_left_out=in_place(calibration.column_left_out),
    )


def _log_notes(name: str, notes: Sequence[str]) -> None:
    for note in notes:
        _LOG.warning("%s: %s", name, note)


def _checked(indicators: Sequence[str]) -> tuple[str, ...]:
    indicators = (indicators,) if isinstance(indicators, str) else tuple(indicators)
    names = indicator_names()
    if unknown := [name for name in indicators if name not in names]:
        hint = did_you_mean(unknown[0], names)
        raise TftasError(f"indicator {unknown[0]!r} does not exist{hint}")
    if not indicators or len(set(indicators)) < len(indicators):
        raise TftasError(
            f"indicators are {', '.join(map(str, indicators)) or 'none'}; allowed: each of"
            f" {', '.join(names)} once"
        )
    return indicators


def _ranked(
    name: str,
    values: Sequence[float | None],
    settings: StudySettings,
    seconds: Mapping[str, float],
) -> Ranked:
    if name not in settings.indicators:
        return Ranked(name, values)
    sign = 1 if get_indicator(name).direction == "maximize" else -1
    return Ranked(settings.label(name), values, sign, True, seconds.get(name))
