"""The notebooks run from top to bottom in a fresh kernel, as they are committed, and draw what they say."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "docs" / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder, where they may write."""
    copy = tmp_path_factory.mktemp("notebooks")
    for path in FOLDER.iterdir():
        if path.suffix in (".ipynb", ".py"):
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a reader: no settings, this repository, one thread; nothing is written into a home."""
    home = tmp_path_factory.mktemp("jupyter")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUCAPT_")}
    of_jupyter = dict.fromkeys(("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"), str(home))
    return {**kept, **of_jupyter, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def executed(folder: Path, name: str, environment: dict[str, str]) -> list[Any]:
    """What the cells of a notebook put out; fails where one of them does, with its traceback."""
    notebook = nbformat.read(folder / name, as_version=4)
    client = NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def figures(outputs: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def said(outputs: list[Any]) -> str:
    return "".join(output.get("text", "") for output in outputs)


def test_each_is_committed_without_outputs_and_leads_to_the_next() -> None:
    assert [name[:2] for name in NAMES] == ["1-", "2-", "3-", "4-"]
    for name, other in zip(NAMES, [*NAMES[1:], NAMES[-2]], strict=True):
        notebook = nbformat.read(FOLDER / name, as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
        assert any(other in cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@pytest.mark.slow
def test_the_dataset_is_explored(folder: Path, environment: dict[str, str]) -> None:
    outputs = executed(folder, "1-dataset.ipynb", environment)
    assert figures(outputs) == 2
    assert "train  160 pictures" in said(outputs)


@pytest.mark.slow
def test_the_architecture_is_walked_through(folder: Path, environment: dict[str, str]) -> None:
    outputs = executed(folder, "2-architecture.ipynb", environment)
    assert figures(outputs) == 2
    assert "(1, 8, 8, 1280)" in said(outputs)


@pytest.mark.slow
def test_a_small_model_learns(folder: Path, environment: dict[str, str]) -> None:
    outputs = executed(folder, "3-training.ipynb", environment)
    assert figures(outputs) == 2
    with (folder / "work" / "run" / "metrics.csv").open() as file:
        epochs = list(csv.DictReader(file))
    assert float(epochs[-1]["val_perplexity"]) < float(epochs[0]["val_perplexity"]) / 2
    assert max(float(epoch["val_cider"]) for epoch in epochs) > 2


@pytest.mark.slow
def test_captions_are_looked_at_word_by_word(folder: Path, environment: dict[str, str]) -> None:
    outputs = executed(folder, "4-captions.ipynb", environment)
    assert figures(outputs) == 2
    assert "captioned 1 source (2 frames)" in said(outputs)
