from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.services.programs import why_missing, works


@pytest.fixture
def shims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is looked into first."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_shim_of_a_version_manager_that_finds_no_program_counts_as_missing(shims: Path) -> None:
    write_program(shims / "gpucapt-shim", 'echo "pyenv: gpucapt-shim: command not found" >&2; exit 127')
    assert not works("gpucapt-shim")
    assert why_missing(["sh-that-is-nowhere", "gpucapt-shim"]) == (
        "not installed here: sh-that-is-nowhere, gpucapt-shim (see tests/system-packages.sh)"
    )


def test_a_program_is_asked_once(shims: Path) -> None:
    write_program(shims / "gpucapt-asked", f'echo asked >> "{shims}/log"')
    assert works("gpucapt-asked") and why_missing(["gpucapt-asked"]) is None
    assert (shims / "log").read_text() == "asked\n"
