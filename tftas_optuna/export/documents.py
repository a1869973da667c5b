"""The text of an exported architecture, one function per format."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tftas_optuna._writing import json_text
from tftas_optuna.architecture import FORMAT, FORMAT_VERSION
from tftas_optuna.architecture.published import retrain_document
from tftas_optuna.export.sections import write_section
from tftas_optuna.study.settings import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yaml import SafeDumper

    from tftas_optuna.study.agreement import Agreement
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings
else:
    # The same text, five times as fast; PyYAML is built without it where libyaml is missing.
    SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


# What a document says of scores, in each of the formats.
_SCORES = re.compile(
    r"^# (?:Trial \d+ of study .* parameters|\w+ is approximate: .*)\.\n"
    r"|^(?:scores|approximate):\n(?: .*\n)+"
    r'|^  "(?:scores|approximate)": \{\n(?:    .*\n)*  \},\n',
    re.MULTILINE,
)


class Origin(NamedTuple):
    """What documents say of the study that a candidate comes from.

    Attributes:
        settings: The settings of the study.
        name: Its name.
        agreements: How approximate values of indicators agree with exact ones on its front.
    """

    settings: StudySettings
    name: str
    agreements: Mapping[str, Agreement]


def as_yaml(candidate: Candidate, origin: Origin) -> str:
    """Return our own document, which ``timm.create_model`` and ``score`` read."""
    header = (
        "# A Vision Transformer found by tftas-optuna. To build it:\n"
        "#   import timm, tftas_optuna.models\n"
        f"#   model = timm.create_model({_timm_name(candidate)!r}, arch='THIS_FILE')\n"
    )
    return header + _approximate_lines(candidate, origin) + _dump(_document(candidate, origin))


def as_json(candidate: Candidate, origin: Origin) -> str:
    """Return the same document as JSON."""
    return json_text(_document(candidate, origin), indent=2) + "\n"


def as_retrain(candidate: Candidate, origin: Origin) -> str:
    """Return the file that the training scripts of AutoFormer and TF-TAS take as ``--cfg``.

    Raises:
        TftasError: These scripts cannot train the architecture; the message says why.
    """
    arch = candidate.architecture
    values = candidate.named_values()
    scores = ", ".join(f"{n} {value:.6g}" for n, value in values.items() if n not in ALWAYS)
    header = (
        f"# Trial {candidate.trial} of study {json.dumps(origin.name)}:"
        f" {scores}, {candidate.n_params} parameters.\n"
    )
    document = _dump(retrain_document(origin.settings.space, arch))
    return header + _approximate_lines(candidate, origin) + document


def without_scores(text: str) -> str:
    """Return a document without all that it says of scores."""
    return _SCORES.sub("", text)


def _document(candidate: Candidate, origin: Origin) -> dict[str, Any]:
    approximate = {
        f"{name}_{candidate.fidelity}": {
            "relative_offset": measured.relative_offset,
            "relative_offset_sd": measured.relative_offset_sd,
            "n": measured.n,
        }
        for name, measured in _approximate(candidate, origin).items()
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": candidate.architecture.to_dict(),
        "model": {
            "name": _timm_name(candidate),
            **origin.settings.conditions.target.input,
        },
        "scores": candidate.named_values(),
        **({"approximate": approximate} if approximate else {}),
        "study": {"name": origin.name, "trial": candidate.trial},
        "search": write_section(origin.settings),
    }


def _approximate(candidate: Candidate, origin: Origin) -> dict[str, Agreement]:
    """Return the agreement of the indicators that have no exact value, by name."""
    return {
        name: measured
        for name, measured in origin.agreements.items()
        if name in candidate.values and name not in candidate.exact
    }


def _approximate_lines(candidate: Candidate, origin: Origin) -> str:
    """Return a comment for each indicator that has no exact value."""
    lines = []
    for name, measured in _approximate(candidate, origin).items():
        if measured.relative_offset is None:
            text = "how far it is from the exact value was not measured"
        else:
            sd = measured.relative_offset_sd
            text = f"{measured.relative_offset:+.3%}" + ("" if sd is None else f" ± {sd:.3%}")
            text += f" from the exact value on {measured.n} members of the front"
        lines.append(f"# {name}_{candidate.fidelity} is approximate: {text}.\n")
    return "".join(lines)


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
