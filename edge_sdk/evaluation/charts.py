"""Charts as inline SVG: no script, no library, readable in print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 340, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 18, 24, 34
GOOD_COLOUR, BAD_COLOUR, LINE_COLOUR = "#2f6fab", "#c2452d", "#333"
_BINS = 28


def histogram(
    title: str, good: Sequence[float], bad: Sequence[float], threshold: float | None
) -> str:
    """Shares of good and bad pictures per score, and the threshold as a line."""
    values = [*good, *bad, *([threshold] if threshold is not None else [])]
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    shares = [np.histogram(part, edges)[0] / len(part) for part in (good, bad)]
    top = max(float(share.max()) for share in shares)
    frame = _Frame(title, "score", "share of pictures", (low, high), (0.0, top * 1.08))
    for share, colour, name in zip(shares, (GOOD_COLOUR, BAD_COLOUR), ("good", "bad"), strict=True):
        for left, right, height in zip(edges[:-1], edges[1:], share, strict=True):
            if height:
                x, y = frame.x(left), frame.y(height)
                frame.add(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{frame.x(right) - x - 0.5:.1f}" '
                    f'height="{frame.y(0) - y:.1f}" fill="{colour}" fill-opacity=".55">'
                    f"<title>{name}: {height:.1%} from {left:.3f} to {right:.3f}</title></rect>"
                )
    for place, (colour, name) in enumerate(((GOOD_COLOUR, "good"), (BAD_COLOUR, "bad"))):
        x = _WIDTH - _RIGHT - 80 + 42 * place
        frame.add(
            f'<rect x="{x}" y="6" width="9" height="9" fill="{colour}" fill-opacity=".55"/>'
            f'<text x="{x + 12}" y="14">{name}</text>'
        )
    if threshold is not None:
        x = frame.x(threshold)
        side = "end" if x > _WIDTH / 2 else "start"
        frame.add(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" '
            f'stroke="{LINE_COLOUR}" stroke-width="1.5" stroke-dasharray="5 3"/>'
            f'<text x="{x + (-4 if side == "end" else 4):.1f}" y="{_TOP + 10}" '
            f'text-anchor="{side}">threshold {threshold:.3f}</text>'
        )
    return frame.svg()


def curves(
    title: str,
    names: tuple[str, str],
    lines: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    right: float = 1.0,
) -> str:
    """Several curves, the first one strong, the others faint: one a seed.

    Args:
        title: above the chart.
        names: of the horizontal and the vertical axis.
        lines: (x, y) of each curve, y from 0 to 1.
        right: where the horizontal axis ends.
    """
    frame = _Frame(title, *names, (0.0, right), (0.0, 1.0))
    for number, (xs, ys) in reversed(list(enumerate(lines))):
        points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        strength = 'stroke-width="2"' if number == 0 else 'stroke-width="1" stroke-opacity=".35"'
        frame.add(f'<polyline points="{points}" fill="none" stroke="{GOOD_COLOUR}" {strength}/>')
    return frame.svg()


def bars(title: str, parts: Sequence[tuple[str, float, float]]) -> str:
    """Horizontal bars with whiskers: (name, median, 95th percentile) in milliseconds."""
    most = max(high for _, _, high in parts) or 1.0
    height = 30 + 24 * len(parts)
    rows = [f'<text x="0" y="14" class="t">{escape(title)}</text>']
    for number, (name, middle, high) in enumerate(parts):
        y = 24 + 24 * number
        scale = 150 / most
        rows.append(
            f'<text x="78" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="84" y="{y + 2}" width="{max(1, middle * scale):.1f}" height="14" '
            f'fill="{GOOD_COLOUR}" fill-opacity=".7"/>'
            f'<line x1="84" x2="{84 + high * scale:.1f}" y1="{y + 9}" y2="{y + 9}" '
            f'stroke="{LINE_COLOUR}"/>'
            f'<text x="{90 + high * scale:.1f}" y="{y + 13}">{middle:.1f} ({high:.1f})</text>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">'
        f"{''.join(rows)}</svg>"
    )


class _Frame:
    """Axes with their words; maps values to places."""

    def __init__(
        self,
        title: str,
        across: str,
        up: str,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
    ) -> None:
        self._x, self._y = x_range, y_range
        bottom, left, right = _HEIGHT - _BOTTOM, _LEFT, _WIDTH - _RIGHT
        middle = (_TOP + bottom) / 2
        self._parts = [f'<text x="{left}" y="14" class="t">{escape(title)}</text>']
        self.add(
            f'<rect x="{left}" y="{_TOP}" width="{right - left}" height="{bottom - _TOP}" '
            'fill="none" stroke="#bbb"/>'
            f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">'
            f"{escape(across)}</text>"
            f'<text transform="translate(11 {middle:.0f}) rotate(-90)" text-anchor="middle">'
            f"{escape(up)}</text>"
        )
        for step in range(5):
            x = x_range[0] + step / 4 * (x_range[1] - x_range[0])
            y = y_range[0] + step / 4 * (y_range[1] - y_range[0])
            self._parts.append(
                f'<line x1="{left}" x2="{right}" y1="{self.y(y):.1f}" y2="{self.y(y):.1f}" '
                'stroke="#eee"/>'
                f'<text x="{self.x(x):.1f}" y="{bottom + 13}" text-anchor="middle">{x:.3g}</text>'
                f'<text x="{left - 4}" y="{self.y(y) + 3.5:.1f}" text-anchor="end">{y:.2g}</text>'
            )

    def x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        bottom = _HEIGHT - _BOTTOM
        return bottom - (value - low) / (high - low) * (bottom - _TOP)

    def add(self, part: str) -> None:
        self._parts.append(part)

    def svg(self) -> str:
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
            f'role="img">{"".join(self._parts)}</svg>'
        )
