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
    "botocore",
    "cv2",
    "fastapi",
    "h5py",
    "jinja2",
    "lightning",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "openai",
    "pandas",
    "PIL",
    "prometheus_client",
    "pycocoevalcap",
    "safetensors",
    "scenedetect",
    "starlette",
    "timm",
    "torch",
    "torchmetrics",
    "torchvision",
    "transformers",
    "uvicorn",
}
"""What takes long to import, or is not there where only the light base is installed."""


CAMEL = re.compile(r"[A-Z]\w*[a-z]\w*")
"""How classes and type aliases are written."""


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


def public_names(path: Path) -> list[str]:
    """The public classes that a file defines at its top level, and its type aliases.

    But not the types of options and of fields of requests, which are named after them.
    """
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = [node.name for node in body if isinstance(node, ast.ClassDef)]
    if path.parent.name not in ("cli", "routes"):
        targets = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
        names += [one.id for one in targets if isinstance(one, ast.Name) and CAMEL.fullmatch(one.id)]
    return [name for name in names if not name.startswith("_")]


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


def test_every_room_stands_on_the_page_and_in_the_contract() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    assert [one["exhaustive"] for one in contracts if one["type"] == "layers" and "containers" in one] == [
        True,
        True,
    ]
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (REPOSITORY / "pipeline").glob("*/__init__.py")}
    assert len(rooms) > 10
    assert [room for room in sorted(rooms) if f"`{room}/`" not in page] == []


def test_no_two_public_classes_or_aliases_share_a_name() -> None:
    counted = Counter(name for path in product() for name in public_names(path))
    assert len(counted) > 200
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("top", ["model", "pipeline"])
def test_no_two_files_of_a_room_share_a_name(top: str) -> None:
    rooms: dict[str, Counter[str]] = {}
    for path in (REPOSITORY / top).rglob("*.py"):
        inside = path.relative_to(REPOSITORY / top)
        if path.name != "__init__.py":
            rooms.setdefault(inside.parts[0], Counter())[path.name] += 1
    twice = [f"{room}: {name}" for room, names in rooms.items() for name, count in names.items() if count > 1]
    assert len(rooms) > 3
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
