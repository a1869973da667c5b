"""An architecture as a picture: an SVG of a pair of bars for each block."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from tftas_optuna.architecture.blocks import blocks_of

if TYPE_CHECKING:
    from tftas_optuna.study.front import Candidate

_BLUE, _ORANGE, _INK, _LINE = "#3a8fc8", "#b35900", "#1d2126", "#c4cad0"
# As large as the cards of optuna-dashboard, nearly: it shrinks what is larger.
_WIDE, _HIGH = 320, 230
_TOP, _SIDE, _FOOT = 62, 10, 20
# Room for the numbers of heads below the bars.
_HEADS = 16


def as_svg(candidate: Candidate) -> str | None:
    """Draw the blocks of an architecture; None where its family does not tell them.

    Upwards stand the hidden widths of the MLPs, downwards the widths of the attention with the
    numbers of its heads, on one scale. The ground is white: a page that shows it may be dark.
    """
    blocks = blocks_of(candidate.architecture)
    if not blocks:
        return None
    most = max(block.hidden for block in blocks)
    widest = max(block.attention for block in blocks)
    scale = (_HIGH - _TOP - _FOOT - _HEADS) / (most + widest)
    zero = _TOP + scale * most
    step = (_WIDE - 2 * _SIDE) / len(blocks)
    bar = min(0.75 * step, 40.0)
    parts = [
        _text(_SIDE, 16, f"trial {candidate.trial}: {candidate.architecture.summary()}", 13),
        _text(_SIDE, 34, "hidden width of the MLP", fill=_BLUE),
        _text(_SIDE, 50, "width of the attention, with its heads", fill=_ORANGE),
        f'<path d="M{_SIDE} {zero:.1f}H{_WIDE - _SIDE}" stroke="{_LINE}"/>',
    ]
    for number, block in enumerate(blocks):
        middle = _SIDE + step * (number + 0.5)
        up, down = scale * block.hidden, scale * block.attention
        parts += [
            _bar(middle - bar / 2, zero - up, bar, up, _BLUE, f"{block.hidden} wide"),
            _bar(middle - bar / 2, zero, bar, down, _ORANGE, f"{block.attention} wide"),
            _text(middle, zero + down + 13, str(block.heads), fill=_ORANGE, anchor="middle"),
            _text(middle, _HIGH - 6, str(number + 1), anchor="middle"),
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{_HIGH}"'
        f' viewBox="0 0 {_WIDE} {_HIGH}" font-family="sans-serif">'
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _bar(x: float, y: float, width: float, height: float, fill: str, told: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}">'
        f"<title>{told}</title></rect>"
    )


def _text(
    x: float, y: float, text: str, size: int = 12, *, fill: str = _INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"'
        f' text-anchor="{anchor}">{html.escape(text)}</text>'
    )
