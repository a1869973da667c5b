"""Writes exported architectures: all or none, and never over a file of the user's."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tftas_optuna._given import a_path, expect, listed
from tftas_optuna._writing import file_stem
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean
from tftas_optuna.export.documents import Origin, as_json, as_retrain, as_yaml, without_scores
from tftas_optuna.study.agreement import agreements
from tftas_optuna.study.front import candidates_of, pareto_front
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optuna import Study

    from tftas_optuna.study.front import Candidate

_WRITERS = {
    "yaml": (".yaml", as_yaml),
    "json": (".json", as_json),
    "retrain": (".retrain.yaml", as_retrain),
}
FORMATS = tuple(_WRITERS)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def export_front(
    study: Study,
    directory: str | Path,
    *,
    formats: str | Sequence[str] | None = None,
    prefix: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Write every architecture of a study's Pareto front.

    See :func:`tftas_optuna.export.export_candidates`.
    """
    return export_candidates(
        study, pareto_front(study), directory, formats=formats, prefix=prefix, force=force
    )


def export_candidates(
    study: Study,
    candidates: Candidate | Iterable[Candidate],
    directory: str | Path,
    *,
    formats: str | Sequence[str] | None = None,
    prefix: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Write architectures as files named ``PREFIX-trialNNNNN`` with an ending by format.

    Nothing is written unless everything can be. A file that already holds the same text is left
    alone; one that differs in its scores alone, such as that of a trial whose score is exact by
    now, is replaced.

    Args:
        study: The study they come from.
        candidates: The candidates to write.
        directory: Directory to write to; created if it is missing.
        formats: Any of ``"yaml"`` (our document), ``"json"`` (the same) and ``"retrain"``
            (the training configuration of AutoFormer and TF-TAS); by default all that can
            describe the architecture.
        prefix: First part of the names; by default the name of the space.
        force: Whether to replace files with other contents.

    Returns:
        The paths, in the order of the candidates.

    Raises:
        TftasError: A format does not exist or cannot describe an architecture, or the prefix is
            not a plain name.
        UnavailableError: There is nothing to write, a file is in the way, or writing fails.
    """
    formats = listed(formats or ())
    unknown = [name for name in formats if name not in _WRITERS]
    if unknown:
        hint = did_you_mean(unknown[0], FORMATS)
        raise TftasError(f"format {unknown[0]!r} does not exist{hint}")
    settings = read_settings(study)
    prefix = file_stem(settings.space.name) if prefix is None else check_prefix(prefix)
    if not candidates:
        raise UnavailableError(
            f"study {study.study_name!r} has nothing to export: no feasible trial"
        )
    candidates = candidates_of(candidates)
    directory = a_path("directory", directory)
    origin = Origin(settings, study.study_name, {})
    if any(len(candidate.exact) < len(candidate.approximated) for candidate in candidates):
        origin = origin._replace(agreements=agreements(pareto_front(study)))
    texts: dict[Path, str] = {}
    for candidate in candidates:
        for name in formats or FORMATS:
            ending, write = _WRITERS[name]
            try:
                text = write(candidate, origin)
            except TftasError:
                if formats:
                    raise
                continue
            texts[directory / f"{prefix}-trial{candidate.trial:05d}{ending}"] = text
    try:
        check_directory(directory)
        directory.mkdir(parents=True, exist_ok=True)
        changed = {path: text for path, text in texts.items() if not _holds(path, text)}
        in_the_way = [
            path
            for path, text in changed.items()
            if os.path.lexists(path) and not _has_other_scores(path, text)
        ]
        if in_the_way and not force:
            more = f" and {len(in_the_way) - 1} more" if len(in_the_way) > 1 else ""
            raise UnavailableError(
                f"{in_the_way[0]}{more} in the way; use --force or another directory"
            )
        _write_all(directory, changed)
    except OSError as error:
        raise UnavailableError(
            f"{error.filename or directory}: cannot be written ({error.strerror})"
        ) from error
    return list(texts)


def check_prefix(prefix: str, *, remedy: str = "give --prefix") -> str:
    """Check that a prefix is a plain file name.

    Args:
        prefix: The beginning of file names.
        remedy: Advice for the error message.

    Raises:
        TftasError: It has other characters than letters, digits, ``.``, ``_`` and ``-``, or
            starts with one of the last three.
    """
    if not _NAME.fullmatch(expect("name", prefix, str, "text")):
        raise TftasError(
            f"{prefix!r} cannot start a file name: up to 100 letters, digits, '.', '_' and '-'"
            f" are allowed, beginning with a letter or a digit; {remedy}"
        )
    return prefix


def check_directory(directory: str | Path) -> None:
    """Check that files can be written to a directory, without creating it.

    Raises:
        UnavailableError: It or one of its parents is a file, or is not writable.
    """
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir():
        raise UnavailableError(f"{path} is in the way: not a directory; give another --out")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UnavailableError(f"{path} is not writable; give another --out")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _has_other_scores(path: Path, text: str) -> bool:
    """Return whether a file was exported as this text, but when other scores were computed."""
    if not path.is_file():
        return False
    before = path.read_bytes().decode(errors="replace")
    return without_scores(before) == without_scores(text)


def _write_all(directory: Path, texts: dict[Path, str]) -> None:
    """Write to temporary names first, then rename, so that no file is ever incomplete."""
    with tempfile.TemporaryDirectory(prefix=".tftas-", dir=directory) as scratch:
        for path, text in texts.items():
            if path.is_dir():
                raise UnavailableError(f"{path} is in the way: a directory")
            (Path(scratch) / path.name).write_text(text, encoding="utf-8")
        for path in texts:
            os.replace(Path(scratch) / path.name, path)
