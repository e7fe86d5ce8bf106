"""What import-linter (`make lint`, pyproject.toml) cannot see of the rooms in docs/architecture.md."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DAGS = REPOSITORY / "dags"

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
def imported_by(path: Path) -> frozenset[str]:
    """The top-level names that a file imports, at its start or in a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return frozenset(name.partition(".")[0] for name in names)


def dags() -> dict[str, Path]:
    """The files of dags/, by the bare names under which they import each other."""
    return {path.stem: path for path in sorted(DAGS.glob("*.py"))}


def product() -> Iterator[Path]:
    """Every Python file of the product."""
    for top in ("dags", "model", "pipeline"):
        yield from sorted((REPOSITORY / top).rglob("*.py"))


def public_classes(path: Path) -> list[str]:
    """The public classes that a file defines at its top level."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


@pytest.mark.parametrize("name", dags())
def test_dags_know_airflow_and_each_other_only(name: str) -> None:
    forbidden = {"model", "pipeline", "infra", "tests", *HEAVY - {"airflow"}}
    assert imported_by(dags()[name]) & forbidden == set()


def test_no_import_of_dags_goes_round_in_a_circle() -> None:
    graph = {name: imported_by(path) & dags().keys() for name, path in dags().items()}
    assert any(graph.values()), "a check that finds no imports would pass for ever"
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def test_pipeline_itself_holds_rooms_and_four_files() -> None:
    files = {path.name for path in (REPOSITORY / "pipeline").glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "errors.py", "version.py"}


def test_every_room_stands_in_the_contract() -> None:
    """A room that no layer names would be checked by nobody."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    named = {
        room
        for contract in contracts
        if contract.get("containers") == ["pipeline"]
        for layer in contract["layers"]
        for room in layer.replace("|", " ").split()
    }
    rooms = {path.parent.name for path in (REPOSITORY / "pipeline").glob("*/__init__.py")}
    assert rooms <= named


def test_no_two_public_classes_share_a_name() -> None:
    counted = Counter(name for path in product() for name in public_classes(path))
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("top", ["model", "pipeline"])
def test_no_two_files_of_a_room_share_a_name(top: str) -> None:
    rooms: dict[str, Counter[str]] = {}
    for path in (REPOSITORY / top).rglob("*.py"):
        inside = path.relative_to(REPOSITORY / top)
        if path.name != "__init__.py":
            rooms.setdefault(inside.parts[0], Counter())[path.name] += 1
    twice = [f"{room}: {name}" for room, names in rooms.items() for name, count in names.items() if count > 1]
    assert twice == []


def pages() -> list[Path]:
    docs = REPOSITORY / "docs"
    return [docs / "architecture.md", *sorted((docs / "architecture").glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_module_that_the_pages_of_the_architecture_name_is_there(page: Path) -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", page.read_text(encoding="utf-8"))
    assert named
    missing = [
        name for name in named if not any((REPOSITORY / top / name).exists() for top in ("", "pipeline"))
    ]
    assert [name for name in missing if name not in ("archive/", "failed/")] == []


def test_help_loads_nothing_heavy() -> None:
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
