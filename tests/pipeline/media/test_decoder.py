"""Videos decoded in a child process: the same frames, and a file with which it dies costs only itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.errors import BadInput, StorageUnavailable
from pipeline.media.decoder import FrameDecoder
from pipeline.media.frame import Passage
from pipeline.media.images import decode_still
from pipeline.records.frame_selection import Selection
from tests.media import photograph_path
from tests.model.tiny import make_tiny_checkpoint
from tests.videos import Track, number_of, numbered, read_video, write

pytestmark = pytest.mark.slow

ALL = Selection(every=None)

DEADLY = """
# A stand-in for decoders that crash or hang: what happens depends on the name of the file.
import errno, os, signal, time
from pipeline.media import images, video_reader

once = os.path.join(os.path.dirname(__file__), "once")

def frames(video, *arguments, original=video_reader.OpenVideo.frames, **options):
    kind = video._path.name.split("-")[0]
    for number, frame in enumerate(original(video, *arguments, **options)):
        if number == 5 and (kind == "dies" or (kind == "diesonce" and not os.path.exists(once))):
            open(once, "w").close()
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 5 and kind == "hangs":
            time.sleep(1000)
        if number == 5 and kind == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number == 5 and kind == "odd":
            raise IndexError("an index")
        yield frame

def open_still(data, name, *, whole=False, original=images.open_still):
    if name.startswith("dies"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return original(data, name, whole=whole)

video_reader.OpenVideo.frames = frames
images.open_still = open_still
"""


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for films; the decoder's process dies or hangs in those whose names say so."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", str(site))
    return tmp_path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return film_at(tmp_path / "film.mp4")


def film_at(path: Path, count: int = 30) -> Path:
    return write(path, Track([numbered(number) for number in range(count)]))


@pytest.fixture
def decoder() -> Iterator[FrameDecoder]:
    with FrameDecoder() as decoder:
        yield decoder


def test_frames_come_as_they_are_decoded_here(film: Path, decoder: FrameDecoder) -> None:
    for options in ({}, {"passage": Passage(1, 3)}, {"first_position": 7, "after": (6, 0.24)}):
        here = list(read_video(film, ALL, **options))  # type: ignore[arg-type]
        there = list(decoder.frames(film, ALL, **options))  # type: ignore[arg-type]
        assert [(one.position, one.frame, one.timestamp_s) for one in there] == [
            (one.position, one.frame, one.timestamp_s) for one in here
        ]
        assert all(np.array_equal(one.image, other.image) for one, other in zip(here, there, strict=True))
        assert decoder.facts is not None and decoder.facts.backend == "pyav"


def test_one_child_decodes_one_film_after_the_other(
    film: Path, tmp_path: Path, decoder: FrameDecoder
) -> None:
    before = psutil.Process().children()
    decoder.start()
    (child,) = set(psutil.Process().children()) - set(before)
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    assert len(list(decoder.frames(film, ALL))) == 30
    with pytest.raises(BadInput, match=r"bad\.mp4: no video"):
        list(decoder.frames(bad, ALL))
    assert len(list(decoder.frames(film, Selection()))) == 2
    assert set(psutil.Process().children()) - set(before) == {child}


def test_frames_that_grow_in_the_middle_fit(tmp_path: Path, decoder: FrameDecoder) -> None:
    parts = [
        write(tmp_path / f"{number}.ts", Track([numbered(number, width, width // 2)] * 8))
        for number, width in enumerate((96, 480))
    ]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    shapes = [frame.image.shape for frame in decoder.frames(both, ALL)]
    assert shapes == [(48, 96, 3)] * 8 + [(240, 480, 3)] * 8


def test_a_film_with_which_the_decoder_dies_twice_is_bad(deadly: Path, decoder: FrameDecoder) -> None:
    deadly_film = film_at(deadly / "dies-in-it.mp4")
    with pytest.raises(BadInput, match=r"dies-in-it\.mp4: it makes the decoder crash \(SIGSEGV\), twice"):
        list(decoder.frames(deadly_film, ALL))
    assert len(list(decoder.frames(film_at(deadly / "good.mp4"), ALL))) == 30


def test_after_one_crash_reading_goes_on_where_it_was(deadly: Path, decoder: FrameDecoder) -> None:
    frames = list(decoder.frames(film_at(deadly / "diesonce-in-it.mp4"), ALL))
    assert [frame.frame for frame in frames] == list(range(30))
    assert (deadly / "site" / "once").exists(), "it did not die"


def test_a_film_in_which_the_decoder_hangs_is_bad(
    deadly: Path, decoder: FrameDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUCAPT_DECODE_TIMEOUT", "2")
    with pytest.raises(BadInput, match=r"hangs-in-it\.mp4: it makes the decoder stand still for 2 s, twice"):
        list(decoder.frames(film_at(deadly / "hangs-in-it.mp4"), ALL))


def test_a_full_disk_is_no_fault_of_the_film(deadly: Path, decoder: FrameDecoder) -> None:
    with pytest.raises(StorageUnavailable, match="nothing can be decoded: No space left on device"):
        list(decoder.frames(film_at(deadly / "full-disk.mp4"), ALL))


def test_what_was_not_foreseen_is_one_line(deadly: Path, decoder: FrameDecoder) -> None:
    with pytest.raises(BadInput, match=r"odd-one\.mp4: it cannot be decoded \(IndexError: an index\)"):
        list(decoder.frames(film_at(deadly / "odd-one.mp4"), ALL))
    assert len(list(decoder.frames(film_at(deadly / "good.mp4"), ALL))) == 30


def test_who_waits_for_a_frame_can_give_up(deadly: Path) -> None:
    class Enough(Exception):
        pass

    def go_on() -> None:
        raise Enough

    with FrameDecoder(go_on) as decoder, pytest.raises(Enough):
        list(decoder.frames(film_at(deadly / "hangs-in-it.mp4"), ALL))


def test_who_leaves_early_leaves_no_child_behind(film: Path) -> None:
    before = psutil.Process().children()
    with FrameDecoder() as decoder:
        frames = decoder.frames(film, ALL)
        next(frames)
        frames.close()  # type: ignore[attr-defined]
        assert len(list(decoder.frames(film, Selection()))) == 2
    assert not set(psutil.Process().children()) - set(before)


def test_a_child_ends_with_the_process_that_started_it(film: Path) -> None:
    script = """
import sys, signal
from pathlib import Path
from pipeline.media.decoder import FrameDecoder
from pipeline.records.frame_selection import Selection
decoder = FrameDecoder()
frames = decoder.frames(Path(sys.argv[1]), Selection(every=None))
next(frames)
print("reading", flush=True)
signal.pause()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(film)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert parent.stdout is not None and parent.stdout.readline() == b"reading\n"
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.communicate()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_how_long_a_film_lasts(film: Path, tmp_path: Path, decoder: FrameDecoder) -> None:
    assert decoder.seconds(film) == pytest.approx(1.2)
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    with pytest.raises(BadInput, match=r"bad\.mp4"):
        decoder.seconds(bad)


def test_stills_come_as_they_are_decoded_here(decoder: FrameDecoder) -> None:
    for name in ("cat", "coffee", "temple"):
        data = photograph_path(name).read_bytes()
        for whole in (False, True):
            here = decode_still(data, name, whole=whole)
            assert np.array_equal(decoder.still(data, name, whole=whole), here)


def test_stills_and_films_take_turns(film: Path, decoder: FrameDecoder) -> None:
    data = photograph_path("cat").read_bytes()
    here = decode_still(data, "cat.png")
    for _ in range(2):
        assert np.array_equal(decoder.still(data, "cat.png"), here)
        assert [number_of(frame.image) for frame in decoder.frames(film, ALL)] == list(range(30))


def test_a_bad_still_says_why_and_the_next_is_decoded(decoder: FrameDecoder) -> None:
    good = photograph_path("temple").read_bytes()
    for bad, why in ((b"", "is empty"), (b"text", "not a picture"), (good[:5000], "damaged|cut off")):
        with pytest.raises(BadInput, match=f"bad.jpg: .*({why})"):
            decoder.still(bad, "bad.jpg")
    assert decoder.still(good, "good.jpg").shape[2] == 3


def test_a_still_with_which_the_decoder_dies_twice_is_bad(deadly: Path, decoder: FrameDecoder) -> None:
    data = photograph_path("cat").read_bytes()
    with pytest.raises(BadInput, match=r"dies\.png: it makes the decoder crash \(SIGSEGV\), twice"):
        decoder.still(data, "dies.png")
    assert decoder.still(data, "cat.png").shape[2] == 3


def test_a_file_with_which_the_decoder_dies_costs_a_run_only_itself(deadly: Path) -> None:
    """The other stills of its folder are captioned, and so are other films."""
    source = deadly / "in"
    (source / "album").mkdir(parents=True)
    for name in ("a.png", "dies.png", "z.png"):
        shutil.copy2(photograph_path("cat"), source / "album" / name)
    film_at(source / "dies-in-it.mp4")
    film_at(source / "good.mp4")
    options = ["--model", str(make_tiny_checkpoint(deadly / "model")), "--fps", "25"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "caption", str(source), str(deadly / "out"), *options],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 3, done.stderr
    (summary,) = (deadly / "out" / "runs").glob("*/summary.json")
    content = json.loads(summary.read_text())
    assert [error["key"] for error in content["errors"]] == ["album/dies.png", "dies-in-it.mp4"]
    assert all("crash (SIGSEGV), twice" in error["reason"] for error in content["errors"])
    assert content["counts"]["captioned"] == 2
    rows = (deadly / "out" / "album" / "captions.jsonl").read_text().splitlines()
    assert [json.loads(row)["frame"] for row in rows] == ["a.png", "z.png"]
