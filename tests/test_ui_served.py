"""From a dropped file to a served prediction, through the pages in a real browser and with the real commands behind them.

`basewise choose`, `release`, `verify` and `serve` run as the pages start them. The base is a tiny one without a licence, so the gate
says no at first and a named person lets that check through.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

import tiny
import ui_world
from basewise.web.ui import jobs

pytestmark = pytest.mark.browser
TEXT = "the invoice charge on my card is wrong"
OVERRIDE = "licence=a tiny base of the tests; groups=it has not learned what a person is"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The app, with a tiny base and a table, in processes of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ui_world.own_base(tmp_path / "tiny-bert")
    with ui_world.started(
        tmp_path / "runs", tiny.write_csv(tmp_path / "tickets.csv", tiny.rows(150))
    ) as made:
        yield made


def test_from_a_dropped_file_to_a_served_prediction(browser: Any, world: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ui_world.window(browser, world) as page:
        choose(page, world)
        release(page, world)
        page.goto(f"{world.origin}/service")
        page.fill("[name=port]", str(port))
        page.click("text=Start the service")
        try:
            served(page, world, port)
        finally:
            if (job := jobs.find(world.root, f"serve.{port}")).alive:
                page.goto(f"{world.origin}/service")
                page.click("text=Stop the service")
            ui_world.until(lambda: not job.alive, "the end of the service")
        assert job.exit_code == 0, job.text("err.txt")
        page.goto(f"{world.origin}/service")
        assert "Start one here" in page.inner_text("main")
    assert keys_of(job) == "", "the key of a service that was stopped is taken back"
    assert tiny.command("access", "list").out == "", "services of the terminal are left alone"


def choose(page: Any, world: Any) -> None:
    """Drop the table and wait for the run."""
    page.goto(f"{world.origin}/new")
    page.set_input_files("#file", str(world.table))
    page.click("text=Look it over")
    page.click("text=Bases, methods and more")
    # words alone would do as well, and have no licence to ask about
    for box in ("tiny-bert", "majority", "probe"):
        page.check(f"[value='{box}']")
    page.select_option("[name=curves]", "no")
    page.click("text=Start the run")
    page.wait_for_selector("h1:has-text('right on')")


def release(page: Any, world: Any) -> None:
    """The gate says no, then yes to the override; every byte is verified."""
    for name, more in (
        ("refused", {}),
        ("tickets-1", {"by": "R. Roe", "override": OVERRIDE}),
    ):
        page.goto(f"{world.origin}/releases")
        page.click("text=Policy, key, overrides")
        for field, value in {"name": name, "data_licence": "CC0-1.0", **more}.items():
            page.fill(f"[name={field}]", value)
        page.click("text=Take it to the gate")
        page.wait_for_selector("text=What the gate said" if name == "refused" else "text=Verify every byte")
    assert "overridden by R. Roe" in page.inner_text("main")
    page.click("text=Verify every byte")
    page.wait_for_selector("text=golden answers hold")


def keys_of(job: jobs.Job) -> str:
    """What `basewise access list` says of a service."""
    return tiny.command("access", "list", "--state", str(job.folder / "state")).out


def served(page: Any, world: Any, port: int) -> None:
    """The release answers over the service, its traffic is seen, and the run is put in its place and taken back."""
    page.click("td a[href^='/service/']")
    assert "admin" in keys_of(jobs.find(world.root, f"serve.{port}"))
    page.fill("[name=text]", TEXT)
    page.click("text=Ask the service")
    page.wait_for_selector(".answer .big")
    assert page.inner_text(".answer .big").startswith("billing")
    page.click("text=Tell the service")
    page.wait_for_selector("td:has-text('100.0 [')")
    page.select_option("[name=folder]", str(world.root / "tickets"))
    page.click("text=Put it in place at once")
    page.wait_for_selector("td:has-text('replaced')")
    page.click("text=Roll back")
    page.wait_for_selector("td:has-text('rolled')")
