"""GPUCAPT_RESULT_FILE: what a command prints last, for schedulers that cannot read its output."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipeline.runtime.result_file import last_line_kept
from tests.pipeline.jobs import command, run, write_stills


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        (["one\ntwo\n"], "two"),
        (["one\n", "tw", "o"], "two"),
        (["one\ntwo\n\n  \n"], "two"),
        (["a", "b\n", "\n"], "ab"),
        (['{"run": "résumé \\u2028 “x”"}\r\n'], '{"run": "résumé \\u2028 “x”"}'),
    ],
)
def test_it_is_the_last_line_that_is_not_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], printed: list[str], kept: str
) -> None:
    with last_line_kept(str(tmp_path / "return.json")):
        for text in printed:
            sys.stdout.write(text)
    assert json.loads((tmp_path / "return.json").read_text(encoding="utf-8")) == kept
    assert capsys.readouterr().out == "".join(printed)
    assert [path.name for path in tmp_path.iterdir()] == ["return.json"]


def test_a_command_leaves_what_it_prints_last_in_the_file(tmp_path: Path) -> None:
    write_stills(tmp_path / "in/album", 1)
    line = command("ingest", "plan", "--settle=0", tmp_path / "in", tmp_path / "out")
    done = run(line, GPUCAPT_RESULT_FILE=str(tmp_path / "result.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == done.stdout.splitlines()[-1]


def test_nothing_is_written_where_nothing_is_printed_and_a_bad_place_is_named(tmp_path: Path) -> None:
    done = run(
        command("ingest", "finish", tmp_path / "no-run"), GPUCAPT_RESULT_FILE=str(tmp_path / "result.json")
    )
    assert done.returncode == 1
    assert not (tmp_path / "result.json").exists()
    done = run(command("--version"), GPUCAPT_RESULT_FILE=str(tmp_path / "nowhere/result.json"))
    assert done.returncode == 1
    assert "nowhere/result.json" in done.stderr and "GPUCAPT_RESULT_FILE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_file_that_cannot_be_written_does_not_hide_how_the_command_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    with pytest.raises(SystemExit) as ending, last_line_kept(str(tmp_path / "nowhere/result.json")):
        print("1 set aside")
        raise SystemExit(code)
    assert ending.value.code == code
    assert "nowhere/result.json" in capsys.readouterr().err
