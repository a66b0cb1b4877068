"""One file a page: its routes and its HTML. ROUTERS is what the app joins.

Releases and the service have a page where this install has their commands.
"""

from __future__ import annotations

from importlib.util import find_spec

from fastapi import APIRouter

from basewise.web.ui.pages import (
    bases,
    benchmarks,
    compare,
    home,
    new,
    playground,
    pretraining,
    relabel,
    releases,
    rows,
    run,
    service,
    serving,
)

ALWAYS = (home, new, run, rows, relabel, bases, playground, compare, benchmarks, pretraining)
WITH_STEP = (("release", releases), ("serve", serving), ("serve", service))


def routers() -> list[APIRouter]:
    """The routes of all pages that this install can fill."""
    present = [page for step, page in WITH_STEP if find_spec(f"basewise.steps.{step}")]
    return [page.router for page in (*ALWAYS, *present)]
