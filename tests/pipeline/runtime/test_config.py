"""Settings that make no sense are told as such, and by their names."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.errors import WrongUsage
from pipeline.runtime.config import tuning

TIMES = ("S3_DEADLINE", "S3_FIRST_DEADLINE", "S3_CONNECT_TIMEOUT", "S3_READ_TIMEOUT", "LEASE")


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", ["inf", "1e300", "nan", "-1", "0", "soon"])
def test_times_are_some_that_clocks_can_count(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of infinity would kill the thread that renews claims, and nobody could ever take over."""
    monkeypatch.setenv(f"GPUCAPT_{name}", value)
    with pytest.raises(WrongUsage, match=f"GPUCAPT_{name} is '{value}'"):
        tuning()


@pytest.mark.parametrize("value", ["inf", "1e300", "nan", "-1"])
def test_files_settle_within_a_time_that_clocks_can_count(value: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    told = CliRunner().invoke(
        app, ["ingest", "plan", f"{tmp_path}/in", f"{tmp_path}/out", "--settle", value, "--wait"]
    )
    assert told.exit_code == 2, told.output
    assert "settle" in told.output
