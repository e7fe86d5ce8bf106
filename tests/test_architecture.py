"""The house as docs/architecture.md draws it: imports run downward only, and the command line is light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("model", "pipeline", "dags")

HEAVY = {
    "airflow",
    "boto3",
    "cv2",
    "fastapi",
    "h5py",
    "lightning",
    "matplotlib",
    "numpy",
    "openai",
    "pandas",
    "PIL",
    "prometheus_client",
    "pycocoevalcap",
    "safetensors",
    "scenedetect",
    "timm",
    "torch",
    "torchvision",
    "uvicorn",
}
"""What takes long to import, or is not there where only the light base is installed."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found: dict[str, Path] = {}
    for room in ROOMS:
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(parts)] = path
    return found


@cache
def imported(module: str, *, at_start: bool) -> frozenset[str]:
    """The names that a module imports: at its start, or wherever it does."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in statements_at_start(tree) if at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            names.add(base)
            names.update(
                f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in modules()
            )
    return frozenset(names)


def absolute(module: str, node: ast.ImportFrom) -> str:
    """The dotted name that a ``from … import`` starts from."""
    if node.level == 0:
        return node.module or ""
    is_package = modules()[module].name == "__init__.py"
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def statements_at_start(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions, nor what is for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (found for part in child.orelse for found in (part, *statements_at_start(part)))
            continue
        yield child
        yield from statements_at_start(child)


def top(name: str) -> str:
    """The package that a dotted name belongs to."""
    return name.partition(".")[0]


def started_by(module: str) -> set[str]:
    """A module of ours and every other that importing it imports."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parents = [name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)]
        ours = {found for found in imported(name, at_start=True) if found in modules()}
        waiting += [*ours, *(parent for parent in parents if parent in modules())]
    return seen


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("model", {"pipeline", "dags", "infra", "tests", "airflow", "boto3"}),
        ("pipeline", {"dags", "infra", "tests", "airflow"}),
        ("dags", {"model", "pipeline", "infra", "tests", *HEAVY - {"airflow"}}),
    ],
)
def test_no_room_knows_a_higher_one(room: str, forbidden: set[str]) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if top(module) == room
        for name in sorted(imported(module, at_start=False))
        if top(name) in forbidden
    ]
    assert wrong == []


def test_no_import_goes_round_in_a_circle() -> None:
    graph = {
        module: {
            name
            for name in imported(module, at_start=True)
            # A module is part of its own package; that is no circle.
            if name in modules() and name != module and not module.startswith(f"{name}.")
        }
        for module in modules()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


@pytest.mark.parametrize("start", ["pipeline.cli.main"])
def test_the_command_line_starts_light(start: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in sorted(started_by(start))
        for name in sorted(imported(module, at_start=True))
        if top(name) in HEAVY
    ]
    assert wrong == []


def test_help_loads_nothing_heavy() -> None:
    """The same, as it is: packages may bring what their names do not tell."""
    look = (
        "import sys\n"
        "sys.argv = ['gpucapt', '--help']\n"
        "from pipeline.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "Usage" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_checks_see_what_they_are_for() -> None:
    """A check that finds no imports at all would pass for ever."""
    assert "pipeline.cli.main" in modules()
    assert "torch" in imported("model.captioner", at_start=True)
    assert any(top(name) == "model" for name in imported("pipeline.cli.main", at_start=True))
    assert len(started_by("pipeline.cli.main")) > 3
