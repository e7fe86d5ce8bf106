"""Bare `gpucapt` at a terminal, a real one: it asks for pictures and captions each."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from model.captioner import load_captioner
from pipeline.cli.ask import QUESTION
from pipeline.media.images import decode_still
from tests.pipeline.jobs import caption, captions, command, run, write_stills
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow


@dataclass
class Terminal:
    """What a person at a terminal types and sees."""

    side: int
    process: subprocess.Popen[bytes]
    seen: bytes = field(default=b"")

    def types(self, text: str) -> None:
        """Keys; a line ends with a line end."""
        os.write(self.side, text.encode())

    def sees(self, text: str) -> str:
        """Wait for a text; what was shown up to it since the last wait."""
        deadline = time.monotonic() + 120
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            if select.select([self.side], [], [], 1)[0]:
                self.seen += os.read(self.side, 4096)
        shown, _, self.seen = self.seen.partition(text.encode())
        return shown.decode()


@contextmanager
def terminal(*words: str, **settings: str) -> Iterator[Terminal]:
    """`gpucapt` at a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.main", *words],
        env={**os.environ, **settings},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def settings(tiny_model: Path) -> dict[str, str]:
    return {
        "GPUCAPT_MODEL": str(tiny_model),
        "GPUCAPT_BEAM_SIZE": "2",
        "GPUCAPT_MAX_LENGTH": "8",
        "GPUCAPT_PRECISION": "fp32",
        "GPUCAPT_DEVICE": "cpu",
    }


def test_it_captions_picture_after_picture_until_an_empty_line(
    tmp_path: Path, tiny_model: Path, settings: dict[str, str]
) -> None:
    write_stills(tmp_path / "in", 3)
    assert caption(tmp_path / "in", tmp_path / "out", tiny_model) == 0
    expected = captions(tmp_path / "out", "in")
    with terminal(**settings) as person:
        person.sees(QUESTION)
        person.types(f"{tmp_path}/in/000.png\n")
        shown = person.sees(QUESTION)
        assert "loading the model …" in shown and f"  {expected['000.png']}  (confidence 0." in shown
        person.types(f"'{tmp_path}/in/002.png' \n")
        assert expected["002.png"] in person.sees(QUESTION)
        person.types("\n")
        assert person.process.wait(60) == 0


def test_what_cannot_be_used_costs_one_line_and_it_asks_again(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    (tmp_path / "letter.txt").write_text("no picture")
    (tmp_path / "film.mp4").write_text("no picture either")
    write_stills(tmp_path / "in", 1)
    with terminal(**settings) as person:
        for typed, told in (
            (f"{tmp_path}/nowhere.jpg", "there is no such file"),
            (str(tmp_path / "letter.txt"), "not a picture"),
            (str(tmp_path), "this is a folder; `gpucapt caption` takes folders"),
            (str(tmp_path / "film.mp4"), "`gpucapt caption` takes films"),
            ("ftp://server/x.jpg", "ftp:// is not a storage this knows"),
        ):
            person.sees(QUESTION)
            person.types(f"{typed}\n")
            shown = person.sees(f"{told}")
            assert "gpucapt: " in shown and "Traceback" not in shown
        person.sees(QUESTION)
        person.types(f"{tmp_path}/in/000.png\n")
        person.sees("(confidence 0.")
        person.sees(QUESTION)
        person.types("\x04")
        assert person.process.wait(60) == 0


def test_with_beams_each_beam_size_has_its_caption(
    tmp_path: Path, tiny_model: Path, settings: dict[str, str]
) -> None:
    picture = write_stills(tmp_path, 1) / "000.png"
    captioner = load_captioner(tiny_model, device="cpu", precision="fp32")
    prepared = [captioner.prepare(decode_still(picture.read_bytes(), "000.png"))]
    with terminal("ask", "--beams", "--beam-size=3", **settings) as person:
        person.sees(QUESTION)
        person.types(f"{picture}\n")
        shown = person.sees(QUESTION)
        for size in (1, 2, 3):
            said = captioner.caption(prepared, beam_size=size, max_length=8)[0].text
            assert f"  beam {size}  {said}  (confidence 0." in shown


def test_pictures_in_a_bucket_are_captioned_too(
    tmp_path: Path, bucket: str, s3_server: S3Server, settings: dict[str, str]
) -> None:
    picture = write_stills(tmp_path, 1) / "000.png"
    s3_server.client.put_object(Bucket=bucket, Key="some/a b.png", Body=picture.read_bytes())
    with terminal(**settings) as person:
        person.sees(QUESTION)
        person.types(f"s3://{bucket}/some/a b.png\n")
        person.sees("(confidence 0.")
        person.sees(QUESTION)
        person.types(f"s3://{bucket}/some/other.png\n")
        person.sees("there is no such file")
        person.sees(QUESTION)
        person.types(f"s3://{bucket}/some\n")
        person.sees("this is a folder")


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path: Path, settings: dict[str, str]) -> None:
    with terminal(**{**settings, "GPUCAPT_MODEL": str(tmp_path)}) as person:
        person.sees("gpucapt: ")
        assert person.process.wait(60) == 1


def test_without_a_terminal_there_is_help_and_no_question() -> None:
    done = run(command())
    assert done.returncode == 2
    assert "Usage" in done.stdout + done.stderr
    assert QUESTION not in done.stdout + done.stderr
