"""A run as SVG: objects over time above, the operator's writes per second below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP = 720, 190, 60, 20, 40
GAP = 60
COLOURS = {"Deployments": "#1f77b4", "Ready": "#2ca02c", "writes": "#d62728"}


def draw(samples: Sequence[tuple[float, int, int]], writes: Sequence[float], *, models: int) -> str:
    """Return the picture.

    `samples` are (seconds, Deployments, Ready models), `writes` the seconds of each write.
    """
    end = max([at for at, _, _ in samples] + list(writes) + [1.0])
    per_second = Counter(int(at) for at in writes)
    rates = [(float(second), float(per_second[second])) for second in range(int(end) + 1)]
    most = max([rate for _, rate in rates] + [1.0])
    above = _Panel(TOP, end, float(models))
    below = _Panel(TOP + HEIGHT + GAP, end, most)
    parts = [
        above.frame("objects"),
        above.line([(at, created) for at, created, _ in samples], "Deployments", 0),
        above.line([(at, ready) for at, _, ready in samples], "Ready", 1),
        below.frame("writes per second, from the audit log; seconds since the start"),
        below.line(rates, "writes", 0),
    ]
    total = TOP + 2 * HEIGHT + GAP + 40
    style = "font-family:sans-serif;font-size:12px;background:#fff"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" style="{style}">\n'
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>\n'
        f'<text x="{LEFT}" y="18" font-weight="bold">{models} LlamaModels,'
        " from the operator's start</text>\n" + "\n".join(parts) + "\n</svg>\n"
    )


class _Panel:
    """One pair of axes."""

    def __init__(self, top: float, end: float, most: float) -> None:
        self._top, self._end, self._most = top, end, most

    def _x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / self._end

    def _y(self, value: float) -> float:
        return self._top + HEIGHT * (1 - value / self._most)

    def frame(self, title: str) -> str:
        bottom = self._top + HEIGHT
        parts = [f'<text x="{LEFT}" y="{self._top - 6}">{title}</text>']
        for share in (0, 0.25, 0.5, 0.75, 1):
            value, at = self._most * share, self._end * share
            y, x = self._y(value), self._x(at)
            parts += [
                f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>',
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.0f}</text>',
                f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{at:.0f}</text>',
            ]
        return "\n".join(parts)

    def line(self, points: Sequence[tuple[float, float]], name: str, row: int) -> str:
        path = " ".join(f"{self._x(at):.1f},{self._y(value):.1f}" for at, value in points)
        colour, y = COLOURS[name], self._top + 16 + 16 * row
        return (
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>\n'
            f'<text x="{WIDTH - RIGHT - 6}" y="{y}" text-anchor="end" fill="{colour}">{name}</text>'
        )
