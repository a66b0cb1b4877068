"""One file a page: its routes and its HTML. ROUTERS is what the app joins."""

from basewise.web.ui.pages import (
    bases,
    benchmarks,
    compare,
    home,
    new,
    playground,
    pretraining,
    relabel,
    rows,
    run,
)

ROUTERS = tuple(
    page.router
    for page in (home, new, run, rows, relabel, bases, playground, compare, benchmarks, pretraining)
)
