"""What every test gets: a cache folder of its own, no network to a hub, and the public sets when they are here.

Tests marked `real` use the user's own cache, so that weights are fetched once and not once a test. `sets` gives the folder of
the public sets (`$BASEWISE_DATA`, else ../shared/data beside the checkout) and skips where there is none. `chromium` gives
the path of a browser; without one it fails, because a test that was asked for and cannot run has not passed.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New folders in one of their own: to number a folder pytest looks through all that lie beside it, thousands in the end."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def _own_home(request: pytest.FixtureRequest, _homes: Iterator[Path]) -> Iterator[None]:
    """`BASEWISE_HOME` in a fresh folder and the hub offline, unless the test is marked `real`."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("real") is None:
            home = next(_homes)
            home.mkdir()
            patch.setenv("BASEWISE_HOME", str(home))
            patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("COLUMNS", "120")
        yield


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_no_garbage() -> Iterator[None]:
    """What was imported until now is not looked through again: with torch and transformers loaded a collection takes long."""
    gc.freeze()
    yield
    # at the end a library counts what it holds
    gc.unfreeze()


@pytest.fixture(scope="session")
def sets() -> Path:
    """The folder of the public sets: <set>/<split>.parquet with columns text and label."""
    folder = Path(os.environ.get("BASEWISE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "trec" / "train.parquet").is_file():
        pytest.skip(f"no public sets in {folder}; name their folder in BASEWISE_DATA")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium that playwright can drive."""
    for name in (os.environ.get("BASEWISE_CHROMIUM", ""), *BROWSERS):
        if name and (path := shutil.which(name)):
            return path
    pytest.fail("no Chromium found: install one, or name it in BASEWISE_CHROMIUM")


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """One Chromium for all tests of a session: two players of Playwright do not run side by side."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
