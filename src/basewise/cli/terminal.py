"""A decision, findings and bases for the terminal: readable without colour and at 80 columns; progress with time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from basewise.cli.progress_file import told
from basewise.core.base import Card
from basewise.core.decision import Decision
from basewise.core.files import Progress
from basewise.core.registry import keys
from basewise.core.roles import ROLES
from basewise.core.task import Finding
from basewise.steps.measures import heading, is_share, name_of

NAMES_SHOWN = 6
"""Columns of one role and reason that are named."""
QUIET_SECONDS = 2.0
LINE_SECONDS = 10.0
WORST_SHOWN = 3
"""Classes that `evaluate` prints, the ones answered worst."""
MARKS = {"fail": "!!", "warn": " !", "info": "  "}


def interval(value: dict[str, Any] | None) -> str:
    """91.2 [89.7, 92.6], in per cent."""
    if not value:
        return "-"
    return f"{100 * value['estimate']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def show_decision(decision: Decision, console: Console) -> None:
    """The decision in one sentence, what must not be missed, the leaderboard, the test look, labels saved."""
    console.print(f"\n[bold]{escape(decision.sentence)}[/]\n")
    # runs of older versions do not say it
    if reading := decision.provenance.get("reading"):
        console.print(f"{escape(reading)}\n")
    for note in decision.notes:
        console.print(f"- {escape(note)}")
    console.print(leaderboard(decision))
    for line in decision.leaderboard:
        if line["status"] != "finished" and line.get("why"):
            console.print(escape(f"{line['name']} ({line['status']}): {line['why']}"))
    if decision.winner:
        best = decision.winner
        by = "" if decision.metric == "accuracy" else f"{escape(name_of(decision.metric))} "
        chance = best.get("probability_best")
        console.print(
            f"Best in validation: {escape(best.get('name', decision.chosen))}, {by}{100 * best['naive']:.1f} % as it looks,"
            f" {interval(best)} % corrected for having been picked; n = {best['n']:,},"
            f" probability of being best {_number(chance, '.2f')} among the arms that ran to their end.",
            markup=True,
        )
    if decision.test:
        _show_test(decision, console)
    show_metrics(decision, console)
    for saved in decision.labels_saved.values():
        console.print(escape(saved["sentence"]))
    used = decision.budget
    if used:
        console.print(f"Time: {used['used_seconds']:.0f} s of {used['seconds']:.0f} s.")
    _show_next(decision, console)


def _show_next(decision: Decision, console: Console) -> None:
    """What to do with the run: use it, and what a larger budget could add."""
    if decision.verdict == "unfinished" or not decision.folder:
        return
    console.print(f"Next: basewise predict {escape(decision.folder)} NEW_ROWS.csv", soft_wrap=True)
    if skipped := sum(line["status"] == "skipped" for line in decision.leaderboard):
        arms = "arm was" if skipped == 1 else "arms were"
        console.print(f"{skipped} {arms} skipped, with the reasons above; a larger --budget gives them room.")


def leaderboard(decision: Decision) -> Table:
    """One line a scored trial; * marks the chosen one, = those it is tied with. Why others were not is said below it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in (
        ("", "left"),
        ("arm", "left"),
        (escape(f"{heading(decision.metric)} [95 %]"), "right"),
        ("n", "right"),
        ("behind by", "right"),
    ):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("s fit", justify="right")
    table.add_column("ms/row", justify="right")
    scored = [line for line in decision.leaderboard if line.get("score")]
    for line in scored or decision.leaderboard:
        mark = "*" if line["name"] == decision.chosen else "=" if line["name"] in decision.tied else ""
        gap = line.get("difference")
        score = line.get("score")
        name = escape(line["name"] + ("" if line["status"] == "finished" else f" ({line['status']})"))
        behind = (
            f"{100 * gap['estimate']:.1f} [{100 * gap['low']:.1f}, {100 * gap['high']:.1f}]" if gap else ""
        )
        cells = (_number(line.get("seconds"), ".1f"), _number(line.get("milliseconds_per_row"), ".1f"))
        table.add_row(
            mark, name, escape(interval(score)), f"{score['n']:,}" if score else "", escape(behind), *cells
        )
    return table


def _show_test(decision: Decision, console: Console) -> None:
    test = decision.test
    by = "" if decision.metric == "accuracy" else f"{name_of(decision.metric)} "
    to = f" to {escape(test['against'])}" if test.get("against") else ""
    groups = test.get("groups", test["n"])
    together = f" in {groups:,} groups" if groups < test["n"] else ""
    shown = f"no gap{to} is shown reliably"
    if (gap := test["smallest_gap"]) is not None:
        shown = f"a true gap{to} of {100 * gap:.1f} points is shown in 4 such tests of 5"
    looks = looks_so_far(test["looks"], test.get("looks_elsewhere", 0))
    console.print(f"Locked test rows: n = {test['n']:,}{together}, {looks}; {shown}.")
    for score in test["scores"]:
        console.print(f"  {escape(score['name'])}: {escape(by + interval(score))} %")


def looks_so_far(looks: int, elsewhere: int, at: str = "") -> str:
    """ "1 look so far", "3 looks at these so far, 2 of them by other runs"."""
    others = (
        f", {elsewhere} of them by {'another run' if elsewhere == 1 else 'other runs'}" if elsewhere else ""
    )
    return f"{looks} {'look' if looks == 1 else 'looks'}{at} so far{others}"


def show_evaluation(result: dict[str, Any], console: Console) -> None:
    """What `evaluate` found: the score, other metrics, the classes answered worst, what was left out, the other run's difference."""
    score = result["score"]
    together = f" in {result['groups']:,} groups" if result["groups"] < result["n"] else ""
    console.print(
        f"{result['run']}: right on {span(score)} of {result['n']:,} rows{together};"
        f" calibration error {span(result['calibration']['error'])}",
        markup=False,
    )
    rest = {key: value for key, value in result["metrics"].items() if key != "accuracy"}
    console.print(f"by every metric: {by_metric(rest)}", markup=False, soft_wrap=True)
    for line in result["classes"][:WORST_SHOWN]:
        console.print(f"answered worst: {class_line(line)}", markup=False, soft_wrap=True)
    if result["unlabelled"]:
        console.print(f"left out without a label: {result['unlabelled']:,} of the rows")
    if result["unknown_labels"]:
        console.print(
            f"left out with labels that this predictor does not know: {result['unknown_labels']:,} of the rows"
        )
    for line in own_lines(result):
        console.print(line, markup=False, soft_wrap=True)
    if result["against"]:
        other, gap = result["against"], result["against"]["difference"]
        console.print(
            f"{other['run']}: {span(other['score'])};"
            f" difference {gap['estimate']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}], p = {gap['p']:.3g} (McNemar mid-p)",
            markup=False,
        )


def own_lines(result: dict[str, Any]) -> Iterator[str]:
    """What `evaluate` says of rows that are the run's own, and of those that are the other's."""
    yield from _own(result["own"])
    if other := result["against"]:
        yield from (f"{other['run']}: {line}" for line in _own(other["own"]))


def _own(own: dict[str, int]) -> Iterator[str]:
    if own["train"]:
        yield f"{own['train']:,} of the rows are rows that this predictor has learned from: they flatter its score"
    if own["test"]:
        counted = looks_so_far(own["looks"], own["looks_elsewhere"], " at these test rows")
        yield f"{own['test']:,} of the rows are locked test rows of this run" + (
            f"; {counted}" if own["looks"] else ""
        )


def show_metrics(decision: Decision, console: Console) -> None:
    """The chosen arm by every metric, on the test rows where there are some, and the class answered worst."""
    line = next((e for e in decision.leaderboard if e["name"] == decision.chosen), {})
    found, where = line.get("metrics", {}), "in validation"
    if decision.test:
        found, where = decision.test["scores"][0].get("metrics", {}), "on the test rows"
    if found:
        console.print(f"Chosen {where}: {escape(by_metric(found))}.", soft_wrap=True)
    if decision.by_class:
        console.print(
            f"Answered worst in validation: {escape(class_line(decision.by_class[0]))}.", soft_wrap=True
        )


def by_metric(found: dict[str, Any]) -> str:
    """macro F1 71.2 [69.0, 73.4] %, log-loss 0.512 [0.480, 0.544]"""
    known = [key for key in keys("metrics") if found.get(key)]
    return ", ".join(f"{name_of(key)} {measure(key, found[key])}" for key in known)


def class_line(line: dict[str, Any]) -> str:
    """A class with its recall, precision and F1."""
    said = [f"{what} {interval(line[what])} %" for what in ("recall", "precision") if line[what]]
    return f"{line['class']}: {', '.join(said)}, F1 {interval(line['f1'])} %; n = {line['n']:,}"


def measure(metric: str, value: dict[str, Any]) -> str:
    """A metric with its interval, a share in per cent."""
    return f"{interval(value)} %" if is_share(metric) else span(value)


def span(value: dict[str, Any]) -> str:
    """0.512 [0.480, 0.544]"""
    low, high = (_number(value[end], ".3f") for end in ("low", "high"))
    return f"{value['estimate']:.3f} [{low}, {high}]"


def show_roles(roles: dict[str, str], console: Console) -> None:
    """The role of each column and why, columns of one role and reason in one line; `roles` as a Task has them."""
    lines: dict[tuple[str, str], list[str]] = {}
    for name, said in roles.items():
        role, _, reason = said.partition(" (")
        lines.setdefault((role, reason.removesuffix(")")), []).append(name)
    for (role, reason), names in sorted(lines.items(), key=lambda line: ROLES.index(line[0][0])):
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        shown = ", ".join(names[:NAMES_SHOWN])
        console.print(f"  {role:<7} {shown}{more}: {reason}", markup=False)


def show_findings(findings: tuple[Finding, ...] | list[Finding], console: Console) -> None:
    """What the audit found, the gravest first; !! makes a score untrue, ! makes it weaker."""
    if not findings:
        console.print("The audit found nothing to mention.")
    for found in findings:
        console.print(
            f"{MARKS[found.severity]} {found.severity:<5}{found.check}: {found.message}", markup=False
        )
        if found.advice:
            console.print(f"        -> {found.advice}", markup=False)


def show_bases(cards: list[Card], here: set[str], console: Console) -> None:
    """The catalogue as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("base", "kind", "weights", "download", "licence", "here"):
        table.add_column(name, overflow="fold")
    for card in cards:
        size = f"{card.download_bytes / 1e6:.0f} MB" if card.download_bytes else "-"
        licence = card.licence + (" (terms)" if card.terms else "")
        mark = "yes" if card.key in here else "no"
        table.add_row(
            escape(card.key), card.family, f"{card.parameters / 1e6:.1f} M", size, escape(licence), mark
        )
    console.print(table)


@contextlib.contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """A progress callback: one live line with time left on a terminal, a plain line every ten seconds elsewhere."""
    started = last = time.monotonic()
    current = ""
    began = started
    width = 0

    def line(done: int, total: int, what: str) -> str:
        spent = time.monotonic() - began
        if total and done:
            left = spent * (total - done) / done
            return f"{what}: {done:,} of {total:,}, about {left:.0f} s left"
        return f"{what}: {done:,}" if done else what

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last, current, began, width
        now = time.monotonic()
        # what stands after a comma changes while the work is the same
        if what.partition(",")[0] != current:
            current, began = what.partition(",")[0], now
        live = console.is_terminal
        if now - started < QUIET_SECONDS or now - last < (0.2 if live else LINE_SECONDS):
            return
        last = now
        text = line(done, total, what)[: max(20, console.width - 1)]
        if live:
            console.file.write("\r" + text.ljust(width))
            console.file.flush()
            width = len(text)
        else:
            console.print(text, markup=False)

    try:
        yield told(progress)
    finally:
        if width:
            console.file.write("\r" + " " * width + "\r")
            console.file.flush()
