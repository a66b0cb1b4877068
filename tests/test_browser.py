"""The report in a real browser: it opens from disk without a network, fits a phone, prints, and the console stays clean.

Screenshots go to $BASEWISE_SCREENSHOTS if that is set, to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windows import SIZES, keep, problems_of

pytestmark = pytest.mark.browser
TOPICS = {
    "billing": "invoice refund charge card payment price double amount tax receipt",
    "delivery": "parcel courier late tracking address door box arrive lost shipment",
    "account": "password login email reset locked username delete profile sign settings",
}


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run without a base, on 300 made-up rows, some of them with a wrong label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import basewise as bw

    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(3)
    names, texts, labels = list(TOPICS), [], []
    for i in range(300):
        name = names[i % 3]
        words = list(generator.choice(TOPICS[name].split(), 4)) + list(
            generator.choice(["please", "my", "the", "again", "today", "why"], 3)
        )
        texts.append(" ".join(generator.permutation(words)) + f" <u>{i * 7919 % 9973}</u>")
        labels.append(names[int(generator.integers(3))] if i % 25 == 0 else name)
    pq.write_table(pa.table({"text": texts, "topic": labels}), folder / "rows.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(folder / "home"))
        bw.choose(
            folder / "rows.parquet",
            target="topic",
            budget="60s",
            bases=(),
            methods=("majority", "words"),
            to=folder / "run",
        )
    return folder / "run" / "report.html"


@pytest.fixture
def page(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report in a window of the size that the test names; `page.problems` collects what goes wrong while it is open."""
    width, height = SIZES[getattr(request, "param", "desktop")]
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    opened = context.new_page()
    problems = problems_of(opened, "file:", "data:", "blob:")
    opened.goto(report.as_uri())
    opened.wait_for_load_state("load")
    yield opened
    context.close()
    assert not problems, problems


@pytest.mark.parametrize("page", SIZES, indirect=True, ids=list(SIZES))
def test_the_report_fits_the_window(page: Any, request: pytest.FixtureRequest) -> None:
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1] + 1, f"the page is {widths[0]} wide in a window of {widths[1]}"
    assert page.locator("h1").count() == 1
    assert len(page.locator("body").inner_text()) > 500
    picture = keep(page, f"report-{request.node.callspec.id}")
    assert picture[:4] == b"\x89PNG"


def test_cells_of_the_table_are_text_never_markup(page: Any) -> None:
    """The rows carry <u> tags; they must be shown, not obeyed."""
    assert page.locator("u").count() == 0
    assert "<u>" in (page.locator("body").text_content() or ""), "no row of the table is shown at all"
    assert page.locator("script[src], link[href^='http'], img[src^='http']").count() == 0


def test_pictures_have_names(page: Any) -> None:
    """Whoever cannot see a chart gets at least its name."""
    unnamed = page.evaluate(
        "[...document.querySelectorAll('svg')].filter(s => s.getAttribute('aria-hidden') !== 'true' &&"
        " !s.getAttribute('aria-label') && !s.getAttribute('aria-labelledby') && !s.querySelector('title')).length"
    )
    assert unnamed == 0, f"{unnamed} charts have neither a label nor a title"


@pytest.mark.parametrize("page", SIZES, indirect=True, ids=list(SIZES))
def test_charts_and_tables_are_read_at_every_width(page: Any) -> None:
    """Letters of a chart are large enough and off one another; no cell of a table of numbers lies beyond the window."""
    labels = page.evaluate(
        """[...document.querySelectorAll('svg text')].map(e => [e, e.getBoundingClientRect()]).filter(([e, b]) => b.width).map(
            ([e, b]) => [e.closest('svg').getAttribute('aria-label'), e.textContent, parseFloat(getComputedStyle(e).fontSize)
            * e.closest('svg').getBoundingClientRect().width / e.closest('svg').viewBox.baseVal.width, b.left, b.right, b.top, b.bottom])"""
    )
    assert len({chart for chart, *_ in labels}) >= 3
    small = [(chart, text, size) for chart, text, size, *_ in labels if size < 10]
    assert not small, small
    beyond = [(chart, text) for chart, text, _, left, right, *_ in labels if left < 0 or right > page.viewport_size["width"]]  # fmt: skip
    assert not beyond, beyond
    for i, (chart, text, _, left, right, top, bottom) in enumerate(labels):
        for other, beside, _, start, end, high, low in labels[:i]:
            apart = chart != other or right <= start or end <= left or bottom <= high + 3 or low <= top + 3
            assert apart, f"{chart}: {text} lies on {beside}"
    cut_off = "[...document.querySelectorAll('.stack td')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    assert page.locator(".stack").count() and not page.evaluate(cut_off)


def test_it_prints(page: Any) -> None:
    page.emulate_media(media="print")
    # A4 between its margins
    page.set_viewport_size({"width": 718, "height": 1040})
    cut_off = "[...document.querySelectorAll('td, th')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    assert page.evaluate(cut_off) == 0, "a table that can be moved on a screen is cut on paper"
    assert page.locator("svg.wide:visible").count() and not page.locator("svg.narrow:visible").count()
    pdf = page.pdf(format="A4", print_background=True)
    assert pdf[:5] == b"%PDF-"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )


@pytest.fixture(scope="session")
def benchmark_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a benchmark of two tiny decoders with curves, on tiny sets."""
    import tiny_decoders
    import tiny_sets
    from basewise.steps.bench import BenchOptions, bench

    folder = tmp_path_factory.mktemp("benchmark")
    tiny_sets.write(folder / "sets")
    for name, seed, width in (("small", 1, 48), ("large", 2, 256)):
        tiny_decoders.decoder(folder / name, seed=seed, intermediate_size=width, max_position_embeddings=512)
    names = [str(folder / "small"), str(folder / "large")]
    options = BenchOptions(data=folder / "sets")
    bench(names, ["bbh/navigate", "blimp"], shots=(0, 2), to=folder / "run", options=options)
    return folder / "run" / "bench.html"


@pytest.mark.parametrize("size", SIZES)
def test_the_benchmark_page_fits_the_window(browser: Any, benchmark_page: Path, size: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    page = context.new_page()
    problems = problems_of(page, "file:", "data:", "blob:")
    page.goto(benchmark_page.as_uri())
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1] + 1
    for fold in page.locator("summary").all():
        fold.click()
    assert "wh_island" in page.locator("body").inner_text()
    assert not problems, problems
    context.close()


def test_the_page_of_pretraining_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    """Its tables too, a path without a place to break at in one of them; a finished run has no time left to tell."""
    import json

    import ui_world
    from basewise.web.pretrain import write_page

    run = tmp_path / "nightly"
    ui_world.metrics(run)
    (run / "recipe.json").write_text(json.dumps({"recipe": {"name": "nightly", "corpus": "/" + "a" * 200}}))
    value = {"estimate": 2.0, "low": 1.9, "high": 2.1, "n": 1234}
    (run / "pretrain.json").write_text(
        json.dumps({"steps": 40, "scores": {"bits_per_byte": {"books": value}}})
    )
    write_page(run)
    width, height = SIZES["phone"]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto((run / "pretrain.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    cut_off = "[...document.querySelectorAll('td, svg')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    assert page.evaluate(cut_off) == 0
    assert "min left" not in page.inner_text("main") and "[1.900, 2.100]" in page.inner_text("main")
    keep(page, "pretrain-phone")
    page.close()


def test_the_file_stays_small(report: Path) -> None:
    assert report.stat().st_size < 2_000_000
