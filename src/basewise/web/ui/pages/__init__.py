"""One file a page: its routes and its HTML. ROUTERS is what the app joins."""

from __future__ import annotations

from basewise.web.ui.pages import (
    bases,
    benchmarks,
    compare,
    gate,
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

ROUTERS = tuple(
    page.router
    for page in (
        home,
        new,
        run,
        rows,
        relabel,
        bases,
        playground,
        compare,
        benchmarks,
        pretraining,
        gate,
        releases,
        # before service, whose routes take any word
        serving,
        service,
    )
)
