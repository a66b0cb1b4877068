"""The report: small, without scripts or connections, every text of the user's escaped; unfinished runs; the terminal's sentence."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from basewise.cli.terminal import show_decision
from basewise.core.decision import Decision
from basewise.web import plots
from basewise.web.plots import Axis
from basewise.web.report import render, write_report

LIMIT = 2_000_000
EVIL = "<script>alert(1)</script>\" onload='x' &amp; </title></style><img src=x onerror=alert(2)> [red]"
TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body main p h1 h2 h3 dl div dt dd small ul li nav a section table thead tbody caption tr th td"
        " b br span details summary code svg line rect circle polyline polygon text",
    )
)


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def harmless(page: str) -> Page:
    """The page after the checks that hold for every report."""
    read = Page(page)
    assert len(page.encode()) < LIMIT
    assert read.tags <= TAGS, read.tags - TAGS
    for name, value in read.attributes:
        assert not name.startswith("on") and name not in ("src", "srcset", "action", "formaction")
        assert name != "href" or value.startswith("#")
    assert not re.search(r"https?://|url\(|@import|javascript:", page)
    assert "default-src 'none'" in page
    return read


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the controls on rows, labels and columns that are full of markup."""
    import basewise as bw
    from basewise.steps.choose import ChooseOptions

    folder = tmp_path_factory.mktemp("report")
    draw = np.random.default_rng(0)
    names = [f"{EVIL} {i}" for i in range(2)]
    letters, rows = list("abcdefghijklmnop"), []
    for i in range(160):
        words = ["".join(draw.choice(letters, 6)) for _ in range(8)]
        given = names[i % 2] if i % 7 else names[1 - i % 2]
        text = " ".join([*words, ["refund", "parcel"][i % 2], EVIL if i % 3 == 0 else ""])
        rows.append({"text": text, "topic": given, f"<b>{EVIL}": ["x<y", "a&b"][i % 3 // 2]})
    options = ChooseOptions(inputs=("text",), curves=False)
    bw.choose(
        rows,
        target="topic",
        budget="60s",
        bases=(),
        methods=("majority", "words"),
        to=folder / "run",
        options=options,
    )
    return folder / "run"


@pytest.fixture
def decision(run: Path) -> Decision:
    return Decision.load(run / "decision.json")


def full(decision: Decision) -> Decision:
    """The decision with the parts that only bases bring."""
    errors = [[0.4, 0.5], [0.3, 0.35], [0.2, 0.25]]
    curve = {"sizes": [20, 40, 80], "errors": errors}
    saved = {"factor": 3.2, "low": 2.0, "high": None, "censored": True, "sentence": EVIL, "per_class": 4}
    return replace(
        decision,
        ranks=[{"base": EVIL, "rank": 1, "logme": 0.1, "probe": 0.9, "layer": EVIL, "seconds": 1.0, "came_out": None}],
        curves={f"{EVIL}{i}": curve for i in range(3)},
        labels_saved={EVIL: saved},
        lengths=[{"tokens_from": 1, "tokens_to": 9, "n": 50, "accuracy": 0.9, "low": 0.8, "high": 0.95, "cut": 2}],
        slices=[{"name": EVIL, "n": 40, "error": 0.5, "low": 0.3, "high": 0.7, "rest_error": 0.1, "confirmed": True}],
        audit=[{"check": EVIL, "severity": EVIL, "message": EVIL, "advice": EVIL, "n_rows": 1}],
        notes=[EVIL],
    )  # fmt: skip


def all_texts(value: Any, text: str) -> Any:
    """The same shape with every text replaced, keys that are names of the user's too."""
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return {key: all_texts(item, text) for key, item in value.items()}
    return [all_texts(item, text) for item in value] if isinstance(value, list) else value


def show(decision: Decision, width: int = 80, **settings: Any) -> str:
    out = io.StringIO()
    show_decision(decision, Console(file=out, width=width, highlight=False, **settings))
    return out.getvalue()


# --- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_run_on_rows_full_of_markup(run: Path, decision: Decision) -> None:
    page = harmless((run / "report.html").read_text(encoding="utf-8"))
    assert decision.sentence in page.text
    assert EVIL in page.text, "texts and labels are shown as they are"
    for title in (
        "Leaderboard",
        "Confusion",
        "Calibration",
        "The locked test rows",
        "Mistakes to read",
        "Provenance",
    ):
        assert title in page.text
    assert render(decision) == (run / "report.html").read_text(encoding="utf-8"), (
        "the page reads the decision only"
    )


def test_curves_that_tell_nothing_give_no_factor(decision: Decision) -> None:
    saved = {"factor": 0.0, "low": 0.0, "high": None, "censored": True, "told": False, "sentence": "Nothing."}
    page = Page(render(replace(decision, labels_saved={"words": saved}))).text
    assert "cannot tell" in page and "≥ 0.0 ×" not in page


@pytest.mark.parametrize(
    "text", [EVIL, "\"'><svg/onload=alert(1)>", "&lt;script&gt;", "a\\", "[/bold]", "\x00\x1b[31m", ""]
)
def test_every_text_of_a_decision_is_escaped(decision: Decision, text: str) -> None:
    odd = Decision(**all_texts(vars(full(decision)), text))
    page = harmless(render(odd))
    assert text.replace("\x00", "\ufffd") in page.text or "\x00" in text
    show(odd)


def test_names_are_escaped_wherever_they_are_keys(decision: Decision) -> None:
    page = harmless(render(full(decision)))
    assert f"labels saved against {EVIL}" in page.text
    assert "≥ 3.2 ×" in page.text and "[2.0, ∞]" in page.text


def test_a_decision_of_few_fields_still_renders(tmp_path: Path, decision: Decision) -> None:
    bare = Decision(verdict="unfinished", sentence="So far: nothing is known.", chosen="")
    write_report(bare, tmp_path / "report.html")
    page = harmless((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "So far: nothing is known." in page.text
    assert "So far: nothing is known." in show(bare)
    stopped = {
        "name": "words",
        "method": "words",
        "base": None,
        "status": "unfinished",
        "why": "stopped by hand",
        "score": None,
    }
    begun = Decision(
        verdict="unfinished",
        sentence="So far: one arm.",
        chosen="words",
        leaderboard=[*decision.leaderboard, stopped],
    )
    assert "stopped by hand" in harmless(render(begun)).text
    assert "words (unfinished)" in show(begun, 120)
    for name in vars(decision):
        if name not in ("verdict", "sentence", "chosen", "folder"):
            empty = type(getattr(decision, name))()
            harmless(render(replace(full(decision), **{name: empty})))
            show(replace(full(decision), **{name: empty}))


def test_thousands_of_rows_and_long_names_stay_small(decision: Decision) -> None:
    long = "long " * 2_000
    row = {
        "row_id": 7,
        "text": long,
        "label": long,
        "predicted": long,
        "suggested": long,
        "probability": 0.9,
        "margin": 0.5,
    }
    names = [f"{long}{i}" for i in range(400)]
    counts = [[int(i != j) for j in range(400)] for i in range(400)]
    found = {"check": "x", "severity": "warn", "message": long, "advice": long, "n_rows": 5_000}
    big = replace(
        full(decision),
        wrong=[row] * 5_000,
        suspects=[row] * 5_000,
        confusion={"classes": names, "counts": counts},
        audit=[found] * 200,
        slices=[
            {
                "name": long,
                "n": 9,
                "error": 0.5,
                "low": 0.3,
                "high": 0.7,
                "rest_error": 0.1,
                "confirmed": False,
            }
        ]
        * 30,
        provenance={**decision.provenance, "classes": names},
        leaderboard=decision.leaderboard * 100,
    )
    assert "of 5000 kept" in harmless(render(big)).text
    twenty = replace(big, confusion={"classes": names[:20], "counts": [r[:20] for r in counts[:20]]})
    harmless(render(twenty))


@pytest.mark.parametrize(
    "low,high", [(0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.9, 0.9 + 1e-15), (3.0, 7000.0)]
)
def test_axes_have_few_ticks_whatever_their_range(low: float, high: float) -> None:
    ticks = Axis(low=low, high=high, label="x").ticks()
    assert len(ticks) <= 20
    assert all(low - 1e-6 <= t <= high + 1e-6 for t in ticks)


# --- the terminal ------------------------------------------------------------------------------------------------------


def test_the_terminal_says_the_same_without_colour(
    run: Path, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for width in (40, 80, 200):
        said = show(decision, width, force_terminal=True)
        assert "\x1b[3" not in said and "\x1b[4" not in said, "no colour, and bold alone carries no meaning"
        plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
        assert " ".join(decision.sentence.split()) in " ".join(plain.split())
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", show(decision, 200, force_terminal=True))
    assert decision.sentence in coloured and decision.sentence in show(decision, 200)
    assert decision.sentence in Page((run / "report.html").read_text(encoding="utf-8")).text


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.0, 1.0)), min_size=1, max_size=6))
def test_names_of_marks_do_not_lie_on_one_another(points: list[tuple[float, float]]) -> None:
    x = plots.Axis(low=0.01, high=10, label="ms", log=True)
    y = plots.Axis(low=0.0, high=1.0, label="right", percent=True)
    drawn = plots.names(x, y, [(a, b, f"base-{i} + probe") for i, (a, b) in enumerate(points)])(plots.WIDE)
    placed = [
        (float(h), float(v), side)
        for h, v, side in re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"', drawn)
    ]
    assert len(placed) == len(points)
    wide = plots.LETTER * len("base-0 + probe")
    spans = [(h - wide if side == "end" else h, v) for h, v, side in placed]
    for i, (left, height) in enumerate(spans):
        for other, beside in spans[:i]:
            assert abs(height - beside) >= plots.ROW - 0.2 or abs(left - other) >= wide - 0.2


def test_the_name_of_a_curve_stands_on_the_side_where_the_curve_is_not() -> None:
    x, y = plots.Axis(low=0.0, high=1.0, label="rows"), plots.Axis(low=0.0, high=1.0, label="wrong")

    def height(points: list[tuple[float, float]]) -> tuple[float, float]:
        drawn = plots.line(x, y, points, 0, "probe")(plots.WIDE)
        (end,) = re.findall(r'cy="([\d.]+)" r="3"/><text', drawn)
        (name,) = re.findall(r'<text [^>]*y="([\d.]+)"', drawn)
        return float(name), float(end)

    for points, below in (
        ([(0.0, 0.9), (1.0, 0.4)], True),
        ([(0.0, 0.4), (1.0, 0.9)], False),
        # no room under the axis
        ([(0.0, 0.9), (1.0, 0.0)], False),
    ):
        name, end = height(points)
        assert (name > end) is below
