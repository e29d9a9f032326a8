"""A chart of bars as an SVG, by hand: it is a dozen rectangles."""

from collections.abc import Mapping
from html import escape
from typing import Final

_ROW: Final = 26
_LABELS: Final = 190
_BARS: Final = 440
_OURS: Final = "Tidemill"


def bars(title: str, values: Mapping[str, float]) -> str:
    """One bar a name, the longest first; that of Tidemill stands out."""
    most = max(values.values(), default=1.0)
    rows = sorted(values.items(), key=lambda item: -item[1])
    width, height = _LABELS + _BARS + 90, _ROW * (len(rows) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<style>text { font-size: 13px }</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-weight="bold" fill="#1f2933">{escape(title)}</text>',
    ]
    for place, (name, value) in enumerate(rows):
        top = _ROW * place + 38
        colour = "#0b7285" if name == _OURS else "#adb5bd"
        length = max(1.0, value / most * _BARS)
        lines += [
            f'<text x="{_LABELS - 8}" y="{top + 14}" text-anchor="end" fill="#1f2933">{escape(name)}</text>',
            f'<rect x="{_LABELS}" y="{top}" width="{length:.1f}" height="18" rx="2" fill="{colour}"/>',
            f'<text x="{_LABELS + length + 6:.1f}" y="{top + 14}" fill="#1f2933">{value:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
