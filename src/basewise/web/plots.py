"""Plots as inline SVG, without a library: they open without a network, print, and read without colour.

Every mark has a shape or a label beside its colour; every picture carries a title and a description for those who
do not see it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 320, 56, 44, 14, 16
LETTER, ROW = 6.0, 13.0
"""Width of a letter and height of a row of names, about."""
DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range and its words. `log`: decades; `percent`: values are shares."""

    low: float
    high: float
    label: str
    log: bool = False
    percent: bool = False

    def at(self, value: float) -> float:
        """Position 0..1 of a value."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        v = math.log10(max(value, 1e-12)) if self.log else value
        return min(1.0, max(0.0, (v - low) / ((high - low) or 1.0)))

    def ticks(self) -> list[float]:
        """Round values inside the range."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            return [
                t
                for e in range(first, last + 1)
                for m in (1, 3)
                if self.low <= (t := m * 10.0**e) <= self.high
            ]
        if self.high - self.low <= 1e-9 * max(1.0, abs(self.high)):
            return [self.low]
        step = 10 ** math.floor(math.log10(self.high - self.low))
        while (self.high - self.low) / step < 4:
            step /= 2
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, int(self.high / step + 1e-9) + 1)]

    def text(self, value: float) -> str:
        return f"{100 * value:.3g} %" if self.percent else f"{value:,.4g}"


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - BOTTOM - TOP)


def frame(x: Axis, y: Axis, title: str, body: str) -> str:
    """A whole picture: axes, grid, labels and the marks in `body`."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    ]
    for tick in y.ticks():
        v = _y(y, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{v + 4:.1f}" text-anchor="end">{y.text(tick)}</text>')
    for tick in x.ticks():
        h = _x(x, tick)
        parts.append(f'<line class="grid" x1="{h:.1f}" x2="{h:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text x="{h:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x.text(tick)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle" class="label">{escape(x.label)}</text>'
    )
    parts.append(f'<text x="{LEFT + 4}" y="{TOP + 4}" class="label">{escape(y.label)}</text>')
    return "".join([*parts, body, "</svg>"])


def line(x: Axis, y: Axis, points: Sequence[tuple[float, float]], kind: int, name: str = "") -> str:
    """A joined line with dots; `kind` picks its dashes, its name stands at the end, on the side where the line is not."""
    where = [(_x(x, a), _y(y, b)) for a, b in points]
    if not where:
        return ""
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in where)
    out = f'<polyline class="k{kind % 4}" points="{path}" stroke-dasharray="{DASHES[kind % 4]}"/>'
    if len(where) < 40:
        out += "".join(f'<circle class="k{kind % 4}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in where)
    if name:
        a, b = where[-1]
        b += 16 if where[0][1] < b and b + 16 <= HEIGHT - BOTTOM else -8
        out += f'<text x="{a - 4:.1f}" y="{b:.1f}" text-anchor="end" class="name">{escape(name)}</text>'
    return out


def band(x: Axis, y: Axis, points: Sequence[tuple[float, float, float]], kind: int) -> str:
    """A shaded band through (value, low, high)."""
    up = [f"{_x(x, a):.1f},{_y(y, h):.1f}" for a, _, h in points]
    down = [f"{_x(x, a):.1f},{_y(y, low):.1f}" for a, low, _ in reversed(points)]
    return f'<polygon class="band k{kind % 4}" points="{" ".join(up + down)}"/>'


def whisker(x: Axis, y: Axis, at: float, value: tuple[float, float, float], strong: bool = False) -> str:
    """A dot with a vertical interval (estimate, low, high); the chosen one is a filled square."""
    h, v = _x(x, at), _y(y, value[0])
    out = (
        f'<line class="bar" x1="{h:.1f}" x2="{h:.1f}" y1="{_y(y, value[1]):.1f}" y2="{_y(y, value[2]):.1f}"/>'
    )
    mark = f'<rect class="chosen" x="{h - 5:.1f}" y="{v - 5:.1f}" width="10" height="10"/>' if strong else ""
    return out + (mark or f'<circle class="dot" cx="{h:.1f}" cy="{v:.1f}" r="4"/>')


Point = tuple[float, float, str]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def names(
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    also: Sequence[Point] = (),
    paths: Sequence[Sequence[tuple[float, float]]] = (),
) -> str:
    """Names beside their marks (x, y, name), off one another, and off marks and the lines `paths` where there is room.

    A name that has to move away gets a line to its mark. `also`: marks that are named only where there is room beside them.
    """
    where = [(_x(x, a), _y(y, b)) for a, b, _ in [*points, *also]]
    marks = [(h - 6, v - 6, h + 6, v + 6) for h, v in where]
    lines = [dot for path in paths for dot in _steps([(_x(x, a), _y(y, b)) for a, b in path])]
    taken: list[Box] = []
    out = ""
    for some, must in ((points, True), (also, False)):
        for at, value, name in sorted(some, key=lambda point: -point[1]):
            h, v = _x(x, at), _y(y, value)
            box = _place(h, v, LETTER * len(name), (marks, lines, taken), must)
            if box is None:
                continue
            taken.append(box)
            left, _, right, height = box
            anchor, end = ("start", left) if left > h else ("end", right)
            if abs(height - v - 4) > ROW + 3:
                out += f'<line class="grid" x1="{h:.1f}" y1="{v:.1f}" x2="{end:.1f}" y2="{height - 4:.1f}"/>'
            out += f'<text x="{end:.1f}" y="{height:.1f}" text-anchor="{anchor}" class="name">{escape(name)}</text>'
    return out


def _steps(path: Sequence[tuple[float, float]]) -> list[Box]:
    """Points on a line, close enough that no name fits between two."""
    out: list[Box] = []
    for (a, b), (c, d) in itertools.pairwise(path):
        count = int(max(abs(c - a), abs(d - b)) // 5) + 1
        dots = [(a + (c - a) * i / count, b + (d - b) * i / count) for i in range(count + 1)]
        out += [(h, v, h, v) for h, v in dots]
    return out


def _place(
    h: float, v: float, wide: float, avoid: tuple[Sequence[Box], Sequence[Box], Sequence[Box]], must: bool
) -> Box | None:
    """Where a name goes: near its mark, off other names always, off marks and lines rather than near. None: no room, and it need not."""
    marks, lines, taken = avoid
    right, left = h + 8, h - 8 - wide
    best, least = None, 1e9 if must else 4.0
    # half rows
    for step in range(-24, 25):
        low = v + 4 + ROW * step / 2
        if not TOP + ROW <= low <= HEIGHT - BOTTOM:
            continue
        for start in (right, left):
            box = (start, low - ROW, start + wide, low)
            if start < LEFT or start + wide > WIDTH or any(_meet(box, other) for other in taken):
                continue
            cost = abs(step) + 0.4 * (step > 0) + 0.2 * ((start == right) == (h > WIDTH / 2))
            cost += 6 * any(_meet(box, other) for other in marks)
            cost += 3 * any(_meet(box, other) for other in lines)
            if cost < least:
                best, least = box, cost
    # no room at all: over others rather than nowhere
    if best is None and must:
        start = right if h <= WIDTH / 2 else left
        best = start, v + 4 - ROW, start + wide, v + 4
    return best


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def interval_bar(low: float, high: float, value: tuple[float, float, float], strong: bool) -> str:
    """A small horizontal dot-and-whisker for one table row; the axis runs from `low` to `high`."""
    span = (high - low) or 1.0
    x = [6 + 148 * min(1.0, max(0.0, (v - low) / span)) for v in value]
    mark = (
        f'<rect class="chosen" x="{x[0] - 4:.1f}" y="5" width="8" height="8"/>'
        if strong
        else f'<circle class="dot" cx="{x[0]:.1f}" cy="9" r="3.5"/>'
    )
    return (
        f'<svg class="mini" viewBox="0 0 160 18" aria-hidden="true">'
        f'<line class="bar" x1="{x[1]:.1f}" x2="{x[2]:.1f}" y1="9" y2="9"/>{mark}</svg>'
    )
