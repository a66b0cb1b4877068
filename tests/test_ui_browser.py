"""The web app in a real browser: the whole way by keyboard alone, every page at two widths, light and dark, held against axe.

The app runs as a user starts it, `basewise ui`, in a process of its own. Nothing but its own address is asked for, and the console stays
clean. Screenshots go to $BASEWISE_SCREENSHOTS if that is set, to be looked at.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
import ui_world
from ui_world import World, window
from windows import keep

pytestmark = pytest.mark.browser
TABLE = "tickets.csv"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ui-browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(folder / "home"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        ui_world.own_base(folder / "tiny-bert")
        rows = tiny.rows(150)
        for i in range(0, 150, 15):
            rows[i] = {**rows[i], "queue": "technical" if rows[i]["queue"] != "technical" else "billing"}
        table = tiny.write_csv(folder / TABLE, rows)
        root = folder / "runs"
        ui_world.metrics(root / "nightly")
        with ui_world.started(root, table) as made:
            yield made


def tab_to(page: Any, words: str, most: int = 200) -> None:
    """Press Tab until the element that holds these words has the focus, and see that the focus shows."""
    script = """() => { const e = document.activeElement; const l = e.labels && e.labels[0];
        return [(l ? l.innerText : e.innerText || e.getAttribute('aria-label') || ''), getComputedStyle(e).outlineStyle] }"""
    for _ in range(most):
        page.keyboard.press("Tab")
        text, outline = page.evaluate(script)
        if words in text:
            assert outline != "none", f"the focus on {words!r} does not show"
            return
    raise AssertionError(f"Tab never came to {words!r}")


def violations(page: Any) -> list[str]:
    """What axe finds, WCAG 2 A and AA and its best practices, one line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']} ({v['impact']}): {[n['target'] for n in v['nodes']][:4]}" for v in found]


# ------------------------------------------------------------------ the way


def test_from_a_dropped_file_to_an_answer_by_keyboard(browser: Any, world: World) -> None:
    """Only the file itself is put into the field by the test: the system's own window for that is not the page's."""
    with window(browser, world) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.goto(world.origin)
        tab_to(page, "New run")
        page.keyboard.press("Enter")
        page.wait_for_url("**/new")
        tab_to(page, "Drop a file here")
        page.set_input_files("#file", str(world.table))
        tab_to(page, "Look it over")
        page.keyboard.press("Enter")
        page.wait_for_url("**/new/*")
        page.wait_for_selector("text=What the audit found")
        tab_to(page, "Time")
        page.keyboard.type("15m")
        tab_to(page, "Bases, methods and more")
        page.keyboard.press("Enter")
        for box in ("tiny-bert", "majority:", "probe:", "words:"):
            tab_to(page, box)
            page.keyboard.press("Space")
        tab_to(page, "Learning curves")
        # "leave them out"
        page.keyboard.press("l")
        tab_to(page, "Start the run")
        page.keyboard.press("Enter")
        page.wait_for_url("**/runs/tickets")
        # the page follows the run by itself
        page.wait_for_selector("h1:has-text('right on')")
        tab_to(page, "Try it in the playground")
        page.keyboard.press("Enter")
        page.wait_for_url("**/playground?run=tickets")
        tab_to(page, "Text")
        page.keyboard.type("the invoice charge on my card is wrong")
        tab_to(page, "Answer")
        page.keyboard.press("Enter")
        page.wait_for_selector(".answer .big")
        assert page.inner_text(".answer .big").startswith("billing")
        assert "Nearest train rows" in page.inner_text(".answer")
        keep(page, "playground-answer-desktop")
        assert not violations(page)


def test_a_file_is_dropped(browser: Any, world: World) -> None:
    with window(browser, world) as page:
        page.goto(f"{world.origin}/new")
        moved = page.evaluate_handle(
            """text => { const d = new DataTransfer(); d.items.add(new File([text], 'dropped.csv', {type: 'text/csv'})); return d }""",
            world.table.read_text(encoding="utf-8"),
        )
        page.dispatch_event(".drop", "dragover", {"dataTransfer": moved})
        assert "over" in (page.get_attribute(".drop", "class") or "")
        page.dispatch_event(".drop", "drop", {"dataTransfer": moved})
        page.wait_for_url("**/new/*")
        assert page.inner_text("h1") == "dropped.csv"


# ------------------------------------------------------------------ every page

PAGES = {
    "runs": "/", "new": "/new", "audit": "/new/KEY", "run": "/runs/kept", "rows": "/runs/kept/rows?show=wrong&trial=words",
    "labels": "/runs/kept/relabel", "moving": "/runs/moving", "bases": "/bases", "base": "/bases/smollm2-135m",
    "playground": "/playground", "compare": "/compare?run=kept&run=again", "bench": "/bench", "benchmark": "/bench/suites",
    "pretraining": "/pretraining", "curves": "/pretraining/nightly", "refused": "/runs/none",
}  # fmt: skip
SEEN = [("desktop", "light"), ("phone", "dark")]


@pytest.fixture(scope="module")
def furnished(world: World, browser: Any) -> Iterator[World]:
    """The world with a finished run, a copy of it, a benchmark, and a run that seems to run: its lock is held here."""
    import shutil

    import basewise as bw
    from basewise.steps.choose import ChooseOptions

    kept = world.root / "kept"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(world.root.parent / "home"))
        bw.choose(
            world.table,
            target="queue",
            methods=("majority", "words"),
            to=kept,
            options=ChooseOptions(curves=False),
        )
    with window(browser, world) as page:
        file = {"name": TABLE, "mimeType": "text/csv", "buffer": world.table.read_bytes()}
        page.request.post(f"{world.origin}/new", multipart={"file": file}, headers={"origin": world.origin})
    shutil.copytree(kept, world.root / "again")
    benchmark(world.root / "suites")
    job = world.root / ".jobs" / "moving"
    job.mkdir(parents=True)
    value = {
        "format": 1,
        "kind": "choose",
        "words": ["choose", "x.csv"],
        "about": {},
        "pid": os.getpid(),
        "started": time.time(),
    }
    (job / "job.json").write_text(json.dumps(value))
    standings(world.root / "moving", rungs=2)
    handle = os.open(job / "alive", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield world
    os.close(handle)


def benchmark(folder: Path) -> None:
    """A real benchmark of two tiny decoders on tiny sets."""
    import tiny_decoders
    import tiny_sets
    from basewise.steps.bench import BenchOptions, bench

    tiny_sets.write(folder.parent.parent / "sets")
    names = []
    for name, seed, width in (("small", 1, 48), ("large", 2, 96)):
        made = folder.parent.parent / name
        tiny_decoders.decoder(made, seed=seed, intermediate_size=width, max_position_embeddings=512)
        names.append(str(made))
    bench(names, ["blimp"], shots=(0,), to=folder, options=BenchOptions(data=folder.parent.parent / "sets"))


def standings(folder: Path, rungs: int) -> None:
    """A race in the middle, as steps/standings writes it."""
    folder.mkdir(exist_ok=True)
    score = {"estimate": 0.81, "low": 0.74, "high": 0.87, "n": 120}
    arm = {"status": "partial", "why": "", "predicted_seconds": 2.0, "seconds": 2.5}
    arms = [
        {**arm, "name": "minilm-l6 + probe", "method": "probe", "base": "minilm-l6", "rungs": rungs, "score": score},
        {**arm, "name": "words", "method": "words", "base": None, "rungs": rungs, "score": {**score, "estimate": 0.77}},
        {**arm, "name": "majority", "method": "majority", "base": None, "rungs": 5, "score": {**score, "estimate": 0.3, "low": 0.2, "high": 0.4}},
        {**arm, "name": "mpnet-base + full", "method": "full", "base": "mpnet-base", "rungs": 0, "score": None, "seconds": None},
    ]  # fmt: skip
    now = {"format": 1, "written": time.time(), "seconds": 600.0, "used": 120.0, "rungs": 5, "rows": 600,
           "now": {"name": "words", "rung": rungs + 1}, "arms": arms}  # fmt: skip
    beside = folder / ".race"
    beside.write_text(json.dumps(now), encoding="utf-8")
    beside.replace(folder / "race.json")


@pytest.mark.parametrize(("size", "scheme"), SEEN, ids=["-".join(s) for s in SEEN])
def test_every_page_is_accessible_and_fits(browser: Any, furnished: World, size: str, scheme: str) -> None:
    """All pages in one window, so that one app start serves them; every fault of every page is told at once."""
    wrong: list[str] = []
    with window(browser, furnished, size, scheme, clean=False) as page:
        said: list[str] = []
        page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
        for name, path in PAGES.items():
            said.clear()
            page.goto(furnished.origin + path.replace("KEY", furnished.key))
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
            wide, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            if wide > room + 1:
                wrong.append(f"{name}: {wide} wide in a window of {room}")
            if page.locator("h1").count() != 1:
                wrong.append(f"{name}: {page.locator('h1').count()} headings of the first rank")
            wrong += [f"{name}: {line}" for line in violations(page)]
            wrong += [f"{name}: console: {line}" for line in said if name != "refused"]
            keep(page, f"{name}-{size}")
    assert not wrong, "\n".join(wrong)


def test_the_leaderboard_moves_without_a_reload(browser: Any, furnished: World) -> None:
    with window(browser, furnished) as page:
        page.goto(f"{furnished.origin}/runs/moving")
        assert "rung 3 of 5" in page.inner_text("main")
        page.evaluate("window.kept = true")
        page.focus(".scroll")
        standings(furnished.root / "moving", rungs=3)
        page.wait_for_selector("text=rung 4 of 5")
        assert page.evaluate("window.kept"), "the page was loaded again"
        assert page.evaluate("document.activeElement.className") == "scroll", "the focus was lost"
        after = """() => { const box = document.createElement('div'), two = '<details></details><details></details>';
            box.innerHTML = two; box.children[1].open = true; replace(box, two); return [...box.children].map(e => e.open) }"""
        assert page.evaluate(after) == [False, True], "what was open was closed"


def test_an_app_that_is_gone_or_new_is_told_to_all(browser: Any, furnished: World) -> None:
    """Visible, not only spoken; and taken away when the app answers again."""
    with window(browser, furnished, clean=False) as page:
        page.goto(f"{furnished.origin}/runs/moving")
        assert not page.is_visible("#alarm")
        page.route("**/live", lambda route: route.fulfill(status=403))
        page.wait_for_selector("#alarm:has-text('open the address that basewise ui printed')")
        keep(page, "gone-desktop")
        page.unroute("**/live")
        page.wait_for_selector("#alarm", state="hidden")
        page.route("**/live", lambda route: route.abort())
        page.wait_for_selector("#alarm:has-text('does not answer')")
        assert page.locator("#alarm").bounding_box()["height"] > 20


def test_long_names_fit_a_phone(browser: Any, furnished: World) -> None:
    """Names of a hundred signs without a place to break at, in headings, lists, sentences and tables."""
    import shutil

    long = "a" * 96
    shutil.copytree(furnished.root / "kept", furnished.root / long)
    wrong = []
    try:
        with window(browser, furnished, "phone") as page:
            file = {"name": f"{long}.csv", "mimeType": "text/csv", "buffer": furnished.table.read_bytes()}
            page.request.post(f"{furnished.origin}/new", multipart={"file": file}, headers={"origin": furnished.origin})  # fmt: skip
            key = next(p.parent.name for p in (furnished.root / ".tables").glob(f"*/{long[:40]}*"))
            for path in ("/", "/new", f"/new/{key}", f"/runs/{long}", f"/runs/{long}/rows", f"/runs/{long}/relabel",
                         "/playground", f"/compare?run=kept&run={long}", "/releases", "/service"):  # fmt: skip
                page.goto(furnished.origin + path)
                page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
                wide, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                keep(page, f"long-{len(wrong)}-{path.strip('/').replace('/', '-')[:20]}-phone")
                wrong += [f"{path}: {wide} wide in a window of {room}"] if wide > room + 1 else []
    finally:
        shutil.rmtree(furnished.root / long)
    assert not wrong, "\n".join(wrong)


def test_rows_are_read_on_a_phone_without_moving_them(browser: Any, furnished: World) -> None:
    """Tables of texts have the whole width, and a hint stands below its field and not in it."""
    beyond = "[...document.querySelectorAll('.texts td, .texts select')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    over = """[...document.querySelectorAll('small[id^=hint-]')].filter(e => { const field = document.querySelector(`[aria-describedby="${e.id}"]`);
        return field.getBoundingClientRect().bottom > e.getBoundingClientRect().top }).map(e => e.id)"""
    with window(browser, furnished, "phone") as page:
        for path in ("/runs/kept", "/runs/kept/rows", "/runs/kept/relabel"):
            page.goto(furnished.origin + path)
            assert page.locator(".texts td").count() and not page.evaluate(beyond), path
            names = "[...document.querySelectorAll('.heat th[scope]')].map(e => getComputedStyle(e).display)"
            assert set(page.evaluate(names)) <= {"table-cell"}, (
                "a name of the confusion table is out of its row"
            )
        for path in ("/releases", f"/new/{furnished.key}"):
            page.goto(furnished.origin + path)
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
            assert page.locator("small[id^=hint-]").count() and not page.evaluate(over), path


def test_bases_are_searched(browser: Any, furnished: World) -> None:
    with window(browser, furnished) as page:
        page.goto(f"{furnished.origin}/bases")
        page.fill("[data-search]", "minilm apache")
        assert (
            page.locator("#bases tbody tr:visible").count()
            == page.locator("#bases tbody tr", has_text="minilm").count()
            >= 1
        )
        assert "shown" in page.inner_text("#said")
        seen = page.locator("#bases tbody tr:visible").count()
        page.evaluate(
            """() => { const list = document.getElementById('bases'); replace(list, list.innerHTML.replaceAll(' hidden=""', '')) }"""
        )
        assert page.locator("#bases tbody tr:visible").count() == seen, "a list that moves stays searched"


def test_suspects_become_a_new_table(browser: Any, furnished: World) -> None:
    with window(browser, furnished) as page:
        page.goto(f"{furnished.origin}/runs/kept/relabel")
        page.click("text=Take all suggestions")
        page.click("text=Make a new table of it")
        page.wait_for_url("**/new/*")
        page.wait_for_selector("text=What the audit found")
        assert "split: given" in page.inner_text("main") and "relabelled" in page.inner_text("h1")


def test_it_works_without_its_script(browser: Any, furnished: World) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(furnished.address)
    page.click("text=New run >> nth=0")
    page.set_input_files("#file", str(furnished.table))
    page.click("text=Look it over")
    page.wait_for_selector("text=What the audit found")
    context.close()
