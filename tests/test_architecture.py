"""The architecture as a test: layers, siblings, cycles, sizes, light imports. Reads the source with `ast`, imports nothing.

    core <- stats | engine | sample <- parts/* <- steps <- cli | web

Imports point down only; siblings joined by `|` do not import one another, nor do the folders under parts/, nor the files in
one folder under parts/ (a part owns its whole column; what two share goes into a layer below or a file named `_…`).
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "basewise"
FILES = sorted(PACKAGE.rglob("*.py"))
LEVEL = {"core": 0, "stats": 1, "engine": 1, "sample": 1, "parts": 2, "steps": 3, "cli": 4, "web": 4}
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS, MOST_OPTIONS = 400, 60, 8, 8
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "misc", "common"}
TORCH_FREE = {"core", "stats", "web"}
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "sklearn",
    "scipy",
    "pandas",
    "polars",
    "duckdb",
    "datasets",
    "pyarrow",
}
pytestmark = pytest.mark.skipif(not FILES, reason="no source")


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


NAMES = {name_of(path): path for path in FILES}


def _modules(node: ast.Import | ast.ImportFrom, here: str, is_package: bool) -> list[str]:
    """Full names of what an import statement brings in; `from package import module` counts as the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        above = here.split(".")[: len(here.split(".")) - node.level + is_package]
        base = ".".join([*above, base]).rstrip(".")
    found = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in NAMES else base for alias in node.names]
    return list(dict.fromkeys(found))


def imports(path: Path, top_only: bool = False) -> list[tuple[str, int]]:
    """(module, line) of every import in a file; with `top_only`, of those that run when the file is imported."""
    found = []

    def walk(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not (inside and top_only):
            found.extend((m, node.lineno) for m in _modules(node, name_of(path), path.name == "__init__.py"))
        for child in ast.iter_child_nodes(node):
            walk(child, inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    walk(tree(path), False)
    return found


def place(module: str) -> tuple[str, str]:
    """(layer, folder) of a module of ours: ("parts", "methods"), ("core", ""), ("", "") for basewise itself."""
    parts = module.split(".")[1:]
    layer = parts[0] if parts and parts[0] in LEVEL else ""
    return layer, parts[1] if layer == "parts" and len(parts) > 1 else ""


def may_import(here: str, there: str) -> bool:
    """Whether the layers allow module `here` to import module `there` (both of basewise)."""
    (layer, folder), (layer_there, folder_there) = place(here), place(there)
    private = there.rpartition(".")[2].startswith("_")
    # basewise/__init__ and __main__ stand above everything
    if not layer or here == there:
        return True
    if not layer_there:
        return there == "basewise" or layer in ("cli", "web")
    if layer != layer_there:
        return LEVEL[layer] > LEVEL[layer_there]
    if layer == "parts":
        return not folder_there or (folder == folder_there and private)
    return True


def test_the_rule_itself() -> None:
    assert may_import("basewise.engine.features", "basewise.core.base")
    assert may_import("basewise.steps.choose", "basewise.parts.methods.probe")
    assert not may_import("basewise.core.base", "basewise.engine.features")
    assert not may_import("basewise.stats.power", "basewise.engine.loop")
    assert not may_import("basewise.parts.methods.lora", "basewise.parts.methods.probe")
    assert not may_import("basewise.parts.rankers.probe", "basewise.parts.sources.hub")
    assert not may_import("basewise.cli.main", "basewise.web.report")
    assert not may_import("basewise.steps.choose", "basewise.cli.main")


# --- rules for every file: one test a rule, which names each place that breaks it ----------------------------------------


def test_imports_point_down() -> None:
    wrong = [
        f"{name_of(path)}, line {line}: {there}"
        for path in FILES
        for there, line in imports(path)
        if there.startswith("basewise") and not may_import(name_of(path), there)
    ]
    assert not wrong, f"layers: core <- stats|engine <- parts/* <- steps <- cli|web; not allowed: {wrong}"


def test_core_and_stats_are_free_of_torch() -> None:
    wrong = [
        f"{name_of(path)}, line {line}: {there}"
        for path in FILES
        if place(name_of(path))[0] in TORCH_FREE
        for there, line in imports(path)
        if there.split(".")[0] in {"torch", "transformers", "peft"}
    ]
    assert not wrong, "\n".join(wrong)


def test_a_module_says_what_it_is_and_stays_readable() -> None:
    wrong = []
    for path in FILES:
        name, lines = name_of(path), path.read_text(encoding="utf-8").count("\n")
        if not (ast.get_docstring(tree(path)) or "").strip():
            wrong.append(f"{name} has no docstring")
        if BANNED_NAMES & set(name.split(".")):
            wrong.append(f"{name}: name it after what it does")
        if lines > LONGEST_FILE:
            wrong.append(f"{name} has {lines} lines, at most {LONGEST_FILE}")
    assert not wrong, "\n".join(wrong)


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method, with the place where it stands."""
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{name_of(path)}.{node.name} (line {node.lineno})", node


def test_functions_stay_short_and_narrow() -> None:
    wrong = []
    for where, node in _functions():
        a = node.args
        names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs) if x.arg not in ("self", "cls")]
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if len(names) > MOST_PARAMETERS:
            wrong.append(f"{where} has {len(names)} parameters, at most {MOST_PARAMETERS}")
        if length > LONGEST_FUNCTION:
            wrong.append(f"{where} has {length} lines, at most {LONGEST_FUNCTION}")
        if a.kwarg and not node.name.startswith("_"):
            wrong.append(f"{where} takes **{a.kwarg.arg}")
    assert not wrong, "\n".join(wrong)


def test_public_functions_have_docstrings_and_types() -> None:
    wrong = []
    for path in FILES:
        for node in ast.iter_child_nodes(tree(path)):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
                continue
            where = f"{name_of(path)}.{node.name} (line {node.lineno})"
            if not ast.get_docstring(node):
                wrong.append(f"{where}: no docstring")
            if isinstance(node, ast.FunctionDef) and node.returns is None:
                wrong.append(f"{where}: no return type")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    graph = {
        name: {there for there, _ in imports(path, top_only=True) if there in NAMES and there != name}
        for name, path in NAMES.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"cycle: {' -> '.join([*way[way.index(name) :], name])}"
        if name not in done:
            for there in graph[name]:
                visit(there, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _loaded_by(code: str) -> list[str]:
    """Names of heavy libraries in sys.modules after running `code` in a fresh interpreter."""
    tail = "\nimport json, sys; print('\\n' + json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True, timeout=120
    )
    return sorted(HEAVY & set(json.loads(done.stdout.splitlines()[-1])))


def test_importing_basewise_is_light() -> None:
    assert _loaded_by("import basewise; basewise.Budget") == []


def test_help_is_light() -> None:
    """One interpreter for all of them: what any of these commands loads is there at the end."""
    code = """
import sys
from basewise.cli.main import main
for words in (["--version"], ["--help"], ["choose", "--help"], ["bench", "--help"], ["bases", "--help"]):
    sys.argv = ["basewise", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""
    assert _loaded_by(code) == []


def test_version_says_what_a_report_of_a_fault_needs() -> None:
    from typer.testing import CliRunner

    import basewise
    from basewise.cli.main import app

    told = CliRunner().invoke(app, ["--version"])
    assert told.exit_code == 0
    assert told.stdout.startswith(f"basewise {basewise.__version__} (Python 3.")
    assert "torch 2." in told.stdout


def test_public_names_are_exact() -> None:
    import basewise

    public = {
        "audit",
        "bench",
        "choose",
        "adapt",
        "evaluate",
        "predict",
        "load",
        "release",
        "ReleaseOptions",
        "serve",
        "Classifier",
        "Budget",
        "Task",
        "Decision",
        "__version__",
    }
    assert set(basewise.__all__) == public
    for name in public:
        assert getattr(basewise, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'chose'"):
        _ = basewise.chose


def test_commands_have_at_most_eight_options() -> None:
    import typer

    from basewise.cli.main import app

    def options(command: Any, name: str) -> None:
        for key, inner in getattr(command, "commands", {}).items():
            options(inner, f"{name} {key}")
        named = [p.name for p in command.params if p.param_type_name == "option" and p.name != "help"]
        seen.extend(named)
        assert len(named) <= MOST_OPTIONS, f"{name} has {len(named)} options: {named}"

    seen: list[str] = []
    options(typer.main.get_command(app), "basewise")
    assert {"target", "budget", "base"} <= set(seen), "the options were not found at all"
