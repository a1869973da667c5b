"""The text of an exported architecture, one function per format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from tftas_optuna._writing import json_text
from tftas_optuna.architecture import FORMAT, FORMAT_VERSION
from tftas_optuna.architecture.published import retrain_document
from tftas_optuna.export.sections import write_section
from tftas_optuna.study.settings import ALWAYS

if TYPE_CHECKING:
    from yaml import SafeDumper

    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings
else:
    # The same text, five times as fast; PyYAML is built without it where libyaml is missing.
    SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def as_yaml(candidate: Candidate, settings: StudySettings, study_name: str) -> str:
    """Return our own document, which ``timm.create_model`` and ``score`` read."""
    header = (
        "# A Vision Transformer found by tftas-optuna. To build it:\n"
        "#   import timm, tftas_optuna.models\n"
        f"#   model = timm.create_model({_timm_name(candidate)!r}, arch='THIS_FILE')\n"
    )
    return header + _dump(_document(candidate, settings, study_name))


def as_json(candidate: Candidate, settings: StudySettings, study_name: str) -> str:
    """Return the same document as JSON."""
    return json_text(_document(candidate, settings, study_name), indent=2) + "\n"


def as_retrain(candidate: Candidate, settings: StudySettings, study_name: str) -> str:
    """Return the file that the training scripts of AutoFormer and TF-TAS take as ``--cfg``.

    Raises:
        TftasError: These scripts cannot train the architecture; the message says why.
    """
    arch = candidate.architecture
    values = candidate.named_values()
    scores = ", ".join(f"{n} {value:.6g}" for n, value in values.items() if n not in ALWAYS)
    header = (
        f"# Trial {candidate.trial} of study {json.dumps(study_name)}:"
        f" {scores}, {candidate.n_params} parameters.\n"
    )
    return header + _dump(retrain_document(settings.space, arch))


def _document(candidate: Candidate, settings: StudySettings, study_name: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": candidate.architecture.to_dict(),
        "model": {
            "name": _timm_name(candidate),
            **settings.conditions.target.input,
        },
        "scores": candidate.named_values(),
        "study": {"name": study_name, "trial": candidate.trial},
        "search": write_section(settings),
    }


def _timm_name(candidate: Candidate) -> str:
    return f"tftas_{candidate.architecture.family}"


def _dump(data: dict[str, Any]) -> str:
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=99
    )
    return text


class _Dumper(SafeDumper):
    """Writes lists of plain values on one line, mappings one key a line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _one_line(dumper: SafeDumper, data: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(list, _one_line)
