"""Documents cannot drift: the command reference is the command line's own, links lead somewhere, Python blocks compile."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_command_reference_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_use_names_that_exist(page: Path) -> None:
    import basewise

    for block in _blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bw":
                assert node.attr in basewise.__all__, f"{page.name}: bw.{node.attr} is no public name"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_blocks_exist(page: Path) -> None:
    """Each `basewise …` line of a console block names a command and options that the reference knows."""
    reference = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    commands = sorted(re.findall(r"^## (basewise .+)$", reference, flags=re.M), key=len, reverse=True)
    for block in _blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            call = line.split("#")[0].rpartition("| ")[2].removeprefix("$ ").strip()
            if not call.startswith("basewise ") or call.startswith(("basewise --", "basewise -h")):
                continue
            name = next((c for c in commands if f"{call} ".startswith(f"{c} ")), None)
            assert name, f"{page.name}: no such command: {call}"
            section = reference.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
            for option in re.findall(r"(?<=\s)--[a-z-]+", call):
                assert f"`{option}`" in section, f"{page.name}: {name} has no {option}: {call}"


def test_the_card_in_the_guide_is_a_card() -> None:
    import json

    from basewise.core.base import Card

    block = _blocks(ROOT / "docs" / "bases.md", "json")[0]
    card = Card.from_dict(json.loads(block))
    assert set(json.loads(block)) == set(card.to_dict()), "the guide shows every field of a card"
