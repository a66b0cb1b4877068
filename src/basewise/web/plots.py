"""Plots as inline SVG, without a library: they open without a network, print, and read without colour.

Every mark has a shape or a label beside its colour; every picture carries a title and a description for those who
do not see it. A picture is drawn twice, wide and narrow: letters keep their size on a phone, where the style shows the second. So a
mark is a function of the shape that it is drawn in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

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


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Width and height of a picture in its own units; its marks lie between `left`, `right`, `top` and `bottom`."""

    name: str
    width: int
    height: int
    left: int
    top: int = 26
    margin: int = 16

    @property
    def right(self) -> int:
        return self.width - self.margin

    @property
    def bottom(self) -> int:
        return self.height - 44

    def x(self, axis: Axis, value: float) -> float:
        """Where a value of the horizontal axis lies."""
        return self.left + axis.at(value) * (self.right - self.left)

    def y(self, axis: Axis, value: float) -> float:
        """Where a value of the vertical axis lies."""
        return self.bottom - axis.at(value) * (self.bottom - self.top)


WIDE = Shape(name="wide", width=640, height=332, left=56)
NARROW = Shape(name="narrow", width=360, height=280, left=46, margin=18)
Mark = Callable[[Shape], str]


def frame(x: Axis, y: Axis, title: str, marks: Sequence[Mark]) -> str:
    """A whole picture, wide and narrow: axes, grid, labels and the marks."""
    return "".join(_frame(shape, x, y, title, marks) for shape in (WIDE, NARROW))


def _frame(shape: Shape, x: Axis, y: Axis, title: str, marks: Sequence[Mark]) -> str:
    size, name = f"0 0 {shape.width} {shape.height}", escape(title)
    parts = [
        f'<svg class="{shape.name}" viewBox="{size}" role="img" aria-label="{name}"><title>{name}</title>'
    ]
    for tick in y.ticks():
        v = shape.y(y, tick)
        parts.append(f'<line class="grid" x1="{shape.left}" x2="{shape.right}" y1="{v:.1f}" y2="{v:.1f}"/>')
        parts.append(f'<text x="{shape.left - 6}" y="{v + 4:.1f}" text-anchor="end">{y.text(tick)}</text>')
    free = 0.0
    for tick in x.ticks():
        h, half = shape.x(x, tick), LETTER * len(x.text(tick)) / 2
        parts.append(f'<line class="grid" x1="{h:.1f}" x2="{h:.1f}" y1="{shape.top}" y2="{shape.bottom}"/>')
        if h - half < free:  # it would lie on the label before
            continue
        free = h + half + LETTER
        parts.append(f'<text x="{h:.1f}" y="{shape.bottom + 16}" text-anchor="middle">{x.text(tick)}</text>')
    middle = (shape.left + shape.right) / 2
    parts.append(
        f'<text x="{middle}" y="{shape.height - 6}" text-anchor="middle" class="label">{escape(x.label)}</text>'
    )
    # above the marks, so that no curve runs through it
    parts.append(f'<text x="4" y="12" class="label">{escape(y.label)}</text>')
    return "".join([*parts, *(mark(shape) for mark in marks), "</svg>"])


def line(x: Axis, y: Axis, points: Sequence[tuple[float, float]], kind: int, name: str = "") -> Mark:
    """A joined line with dots; `kind` picks its dashes, its name stands at the end, on the side where the line is not."""

    def drawn(shape: Shape) -> str:
        where = [(shape.x(x, a), shape.y(y, b)) for a, b in points]
        if not where:
            return ""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in where)
        out = f'<polyline class="k{kind % 4}" points="{path}" stroke-dasharray="{DASHES[kind % 4]}"/>'
        if len(where) < 40:
            out += "".join(f'<circle class="k{kind % 4}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in where)
        if name:
            a, b = where[-1]
            b += 16 if where[0][1] < b and b + 16 <= shape.bottom else -8
            out += f'<text x="{a - 4:.1f}" y="{b:.1f}" text-anchor="end" class="name">{escape(name)}</text>'
        return out

    return drawn


def band(x: Axis, y: Axis, points: Sequence[tuple[float, float, float]], kind: int) -> Mark:
    """A shaded band through (value, low, high)."""

    def drawn(shape: Shape) -> str:
        up = [f"{shape.x(x, a):.1f},{shape.y(y, h):.1f}" for a, _, h in points]
        down = [f"{shape.x(x, a):.1f},{shape.y(y, low):.1f}" for a, low, _ in reversed(points)]
        return f'<polygon class="band k{kind % 4}" points="{" ".join(up + down)}"/>'

    return drawn


def whisker(x: Axis, y: Axis, at: float, value: tuple[float, float, float], strong: bool = False) -> Mark:
    """A dot with a vertical interval (estimate, low, high); the chosen one is a filled square."""

    def drawn(shape: Shape) -> str:
        h, v, low, high = (shape.x(x, at), *(shape.y(y, end) for end in value))
        out = f'<line class="bar" x1="{h:.1f}" x2="{h:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        mark = (
            f'<rect class="chosen" x="{h - 5:.1f}" y="{v - 5:.1f}" width="10" height="10"/>' if strong else ""
        )
        return out + (mark or f'<circle class="dot" cx="{h:.1f}" cy="{v:.1f}" r="4"/>')

    return drawn


Point = tuple[float, float, str]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def names(
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    also: Sequence[Point] = (),
    paths: Sequence[Sequence[tuple[float, float]]] = (),
) -> Mark:
    """Names beside their marks (x, y, name), off one another, and off marks and the lines `paths` where there is room.

    A name that has to move away gets a line to its mark. `also`: marks that are named only where there is room beside them.
    """

    def drawn(shape: Shape) -> str:
        where = [(shape.x(x, a), shape.y(y, b)) for a, b, _ in [*points, *also]]
        marks = [(h - 6, v - 6, h + 6, v + 6) for h, v in where]
        lines = [dot for path in paths for dot in _steps([(shape.x(x, a), shape.y(y, b)) for a, b in path])]
        taken: list[Box] = []
        out = ""
        for some, must in ((points, True), (also, False)):
            for at, value, name in sorted(some, key=lambda point: -point[1]):
                h, v = shape.x(x, at), shape.y(y, value)
                box = _place(shape, (h, v, LETTER * len(name)), (marks, lines, taken), must)
                if box is None:
                    continue
                taken.append(box)
                out += _name(name, h, v, box)
        return out

    return drawn


def _name(name: str, h: float, v: float, box: Box) -> str:
    """A name in its box, with a line to its mark at (h, v) where it is far from it."""
    left, _, right, height = box
    anchor, end = ("start", left) if left > h else ("end", right)
    far = f'<line class="grid" x1="{h:.1f}" y1="{v:.1f}" x2="{end:.1f}" y2="{height - 4:.1f}"/>'
    text = f'<text x="{end:.1f}" y="{height:.1f}" text-anchor="{anchor}" class="name">{escape(name)}</text>'
    return (far if abs(height - v - 4) > ROW + 3 else "") + text


def _steps(path: Sequence[tuple[float, float]]) -> list[Box]:
    """Points on a line, close enough that no name fits between two."""
    out: list[Box] = []
    for (a, b), (c, d) in itertools.pairwise(path):
        count = int(max(abs(c - a), abs(d - b)) // 5) + 1
        dots = [(a + (c - a) * i / count, b + (d - b) * i / count) for i in range(count + 1)]
        out += [(h, v, h, v) for h, v in dots]
    return out


def _place(
    shape: Shape,
    name: tuple[float, float, float],
    avoid: tuple[Sequence[Box], Sequence[Box], Sequence[Box]],
    must: bool,
) -> Box | None:
    """Where a name (its mark's place, its width) goes: near the mark, off other names always, off marks and lines rather than near.

    None: there is no room, and it need not be named.
    """
    h, v, wide = name
    marks, lines, taken = avoid
    right, left = h + 8, h - 8 - wide
    best, least = None, 1e9 if must else 4.0
    # half rows
    for step in range(-24, 25):
        low = v + 4 + ROW * step / 2
        if not shape.top + ROW <= low <= shape.bottom:
            continue
        for start in (right, left):
            box = (start, low - ROW, start + wide, low)
            if start < shape.left or start + wide > shape.width or any(_meet(box, other) for other in taken):
                continue
            cost = abs(step) + 0.4 * (step > 0) + 0.2 * ((start == right) == (h > shape.width / 2))
            cost += 6 * any(_meet(box, other) for other in marks)
            cost += 3 * any(_meet(box, other) for other in lines)
            if cost < least:
                best, least = box, cost
    if best is None and must:  # no room at all: over others rather than nowhere
        start = right if h <= shape.width / 2 else left
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
