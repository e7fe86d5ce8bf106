"""What of a film could not be decoded is told, however the film was worked on; the film counts as captioned.

The gaps are what the tests say: the decoder tells them with frames and at the end.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.captioning.messages import Chunk, End, Work
from pipeline.captioning.reader import Reader
from pipeline.errors import StorageUnavailable
from pipeline.ingest.finish import finish
from pipeline.ingest.plan import Planning
from pipeline.ingest.shard import run_shard
from pipeline.records.settings import CaptionSettings
from pipeline.records.video_facts import Gap, VideoFacts
from pipeline.schemas import load_schema
from tests.media import write_video
from tests.pipeline.jobs import RESOURCES, caption, manifest, summary, times

pytestmark = pytest.mark.slow

WHY = "as the tests want it"


class Decoder:
    """A decoder that meets damage: a gap before some frames, by their numbers, and one after the last."""

    def __init__(self, before: dict[int, Gap], after: Gap | None = None) -> None:
        self.before, self.after = before, after
        self.breaks_at: int | None = None
        """The row with which the storage breaks down, when a part is there."""
        self.begun_at: list[int] = []
        self._read = Reader.read

    def read(self, reader: Reader, work: Work) -> Iterator[Chunk | End]:
        self.begun_at.append(work.first)
        for message in self._read(reader, work):
            if isinstance(message, End):
                piece = work.source.piece
                is_last = piece is None or piece.index == piece.of - 1
                gaps = () if self.after is None or not is_last else (self.after,)
                yield replace(message, facts=VideoFacts("pyav", WHY, gaps))
                continue
            if self.breaks_at is not None and message.first >= self.breaks_at:
                while work.parts.last(1) is None:
                    time.sleep(0.01)
                raise StorageUnavailable("the storage broke down")
            for row in message.rows:
                row.gap = self.before.get(int(row.frame))
            yield message


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film of 12 s, 120 frames."""
    return write_video(tmp_path / "source" / "film.webm", frames_each=40)


def use(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    monkeypatch.setattr(Reader, "read", lambda reader, work: decoder.read(reader, work))
    return decoder


def told(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "film.webm" / "captions.json").read_text())
    jsonschema.validate(found, load_schema("captions"))
    jsonschema.validate(manifest(out, "film.webm"), load_schema("manifest"))
    jsonschema.validate(summary(out), load_schema("summary"))
    return found


def test_a_film_with_gaps_is_captioned_and_counted(
    film: Path,
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    use(Decoder({20: (1.25, 2.0), 50: (4.5, 5.0)}, (11.5, 12.0)), monkeypatch)
    with caplog.at_level(logging.WARNING, logger="gpucapt"):
        assert caption(film.parent, tmp_path / "out", tiny_model) == 0
    found = told(tmp_path / "out")
    assert found["gaps"] == [
        {"from_s": 1.25, "to_s": 2.0},
        {"from_s": 4.5, "to_s": 5.0},
        {"from_s": 11.5, "to_s": 12.0},
    ]
    assert found["undecoded_s"] == manifest(tmp_path / "out", "film.webm")["undecoded_s"] == 1.75
    assert found["reading"] == {"backend": "pyav", "why": WHY}
    counts = summary(tmp_path / "out")["counts"]
    assert (counts["captioned"], counts["damaged"], counts["errors"]) == (1, 1, 0)
    assert capsys.readouterr().out.startswith("captioned 1 source (12 frames), 1 damaged; see")
    line = "1.8 s of this video could not be decoded: 1.250–2.000, 4.500–5.000, 11.500–12.000 s"
    assert f'"film.webm": {line}' in caplog.messages
    assert line in (tmp_path / "out/film.webm/report.html").read_text(encoding="utf-8")
    (page,) = (tmp_path / "out/runs").glob("*/report.html")
    assert '["film.webm",0,12,0,null,false,"1.8 s"]' in page.read_text(encoding="utf-8")

    assert caption(film.parent, tmp_path / "out", tiny_model) == 0  # done before: not counted again
    assert capsys.readouterr().out == "captioned 0 sources (0 frames), 1 already done; nothing new\n"


def test_a_whole_film_is_not_damaged(
    film: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Decoder({}), monkeypatch)
    assert caption(film.parent, tmp_path / "out", tiny_model) == 0
    found = told(tmp_path / "out")
    assert (found["gaps"], found["undecoded_s"]) == ([], 0)
    assert summary(tmp_path / "out")["counts"]["damaged"] == 0


def test_gaps_outlive_a_run_that_broke_down(
    film: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.captioning.row_writer.ROWS_A_PART", 4)
    decoder = use(Decoder({20: (1.25, 2.0), 100: (9.5, 10.0)}, (11.5, 12.0)), monkeypatch)
    decoder.breaks_at = 8
    out = tmp_path / "out"
    with pytest.raises(StorageUnavailable):
        caption(film.parent, out, tiny_model)
    assert not (out / "film.webm").exists()
    decoder.breaks_at = None
    del decoder.before[20]  # the second run does not see that place again
    assert caption(film.parent, out, tiny_model) == 0
    assert decoder.begun_at[0] == 0 < decoder.begun_at[1]
    found = told(out)
    assert found["undecoded_s"] == 1.75
    assert [gap["from_s"] for gap in found["gaps"]] == [1.25, 9.5, 11.5]
    assert summary(out)["counts"]["damaged"] == 1


def test_gaps_of_pieces_come_together(
    film: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = use(Decoder({20: (1.25, 2.0), 60: (5.0, 6.0), 100: (6.0, 7.5)}, (11.5, 12.0)), monkeypatch)
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    incoming.mkdir()
    shutil.move(film, incoming)
    settings = CaptionSettings(model=str(tiny_model), precision="fp32", beam_size=2, max_length=8)
    size = (incoming / "film.webm").stat().st_size // 3
    plan = Planning(str(incoming), str(out), settings, settle_s=0.0, shard_size=size).run()
    assert len(plan["shards"]) > 1
    for url in reversed(plan["shards"]):
        run_shard(url, RESOURCES, "none")
    run_shard(plan["shards"][0], RESOURCES, "none")  # a second try finds it done
    finish(plan["run"])
    assert len(decoder.begun_at) == len(plan["shards"])
    found = told(out)
    assert found["gaps"] == [
        {"from_s": 1.25, "to_s": 2.0},
        {"from_s": 5.0, "to_s": 7.5},
        {"from_s": 11.5, "to_s": 12.0},
    ]
    assert found["reading"] == {"backend": "pyav", "why": WHY}
    counts = summary(out)["counts"]
    assert (counts["captioned"], counts["damaged"], counts["errors"]) == (1, 1, 0)
    assert list((tmp_path / "archive").rglob("film.webm")) and not (tmp_path / "failed").exists()


def test_a_shard_that_is_tried_again_still_tells_the_damage(
    film: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Decoder({20: (1.25, 2.0)}), monkeypatch)
    incoming, out = tmp_path / "incoming", tmp_path / "out"
    incoming.mkdir()
    shutil.move(film, incoming)
    settings = CaptionSettings(model=str(tiny_model), precision="fp32", beam_size=2, max_length=8)
    plan = Planning(str(incoming), str(out), settings, settle_s=0.0).run()
    (url,) = plan["shards"]
    run_shard(url, RESOURCES, "none")
    before = times(out / "film.webm")
    run_shard(url, RESOURCES, "none")
    assert times(out / "film.webm") == before
    finish(plan["run"])
    assert summary(out)["counts"]["damaged"] == 1
