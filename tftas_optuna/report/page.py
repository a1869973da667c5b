"""Writes a report as one HTML file that needs no network and runs only its own scripts."""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tftas_optuna._given import a_path, check_callback
from tftas_optuna._writing import check_ours, replacing
from tftas_optuna.errors import UnavailableError
from tftas_optuna.report.contents import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study

    from tftas_optuna.study.front import Candidate

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    study: Study,
    path: str | Path,
    *,
    picked: Sequence[Candidate] | None = None,
    storage: str | None = None,
    trained: str | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> None:
    """Write a study as one HTML file.

    It includes Plotly and needs no network. An existing report is replaced.

    Args:
        study: The study.
        path: The file.
        picked: Members to draw; by default six, spread over the front, with both ends.
        storage: The study's storage, for the commands in the report; its password is left out.
        trained: Key of the trainings to show; see :func:`tftas_optuna.pareto_front`.
        callback: Called before every section and in the end with the number done and the total.

    Raises:
        TftasError: Nothing was trained under these conditions.
        UnavailableError: The study was not made by this package, or the file cannot be
            written.

    Example:
        >>> from tftas_optuna import search
        >>> from tftas_optuna.report import write_report
        >>> study = search("autoformer-tiny", n_trials=30)
        >>> write_report(study, "report.html")
    """
    path = a_path("path", path)
    check_callback(callback)
    check_report(path)
    text = render(study, picked, storage, trained, callback)
    try:
        with replacing(path) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written ({error})") from error


def check_report(path: Path) -> None:
    """Check that a report can be written to a file, before it is made.

    Raises:
        UnavailableError: There is no such directory, or the file exists and is not a report.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise UnavailableError(f"{path} cannot be written: no file in a directory that exists")
    check_ours(path, b" - tftas-optuna</title>")


def render(
    study: Study,
    picked: Sequence[Candidate] | None,
    storage: str | None,
    trained: str | None,
    callback: Callable[[int, int], None] | None,
) -> str:
    """Return a study as HTML; see :func:`write_report`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    # Compression more than halves its size; see page.js.
    plotly = get_plotlyjs()
    packed = base64.b64encode(gzip.compress(plotly.encode(), mtime=0)).decode("ascii")
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    report = contents(study, picked, storage, trained, callback)
    return environment.get_template("page.html").render(
        report=report,
        figures={
            f"figure-{s}-{f}": figure
            for s, section in enumerate(report.sections)
            for f, (_, figure) in enumerate(section.figures)
        },
        style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=script,
        plotly=packed,
        # A script that a study's name smuggles in has another digest and does not run.
        digests=[_digest(script), _digest(plotly)],
    )


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
