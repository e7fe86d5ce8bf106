"""captions.jsonl, captions.csv and captions.json, a row at a time; the contract is docs/formats.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.records.video_facts import VideoFacts
from pipeline.reports.text import json_line, printable

FORMAT = 2
"""Of captions.json. 1: without confidence, unsure and what is known of a video's reading."""

FORMAT_1_COLUMNS = ("source", "frame", "timestamp_s", "caption", "log_prob", "model", "model_version")
CSV_COLUMNS = (*FORMAT_1_COLUMNS, "confidence", "unsure")


def row_object(info: SourceInfo, row: Row) -> dict[str, object]:
    """Return one caption as captions.jsonl and captions.json hold it."""
    return {
        "source": info.key,
        "frame": row.frame,
        "timestamp_s": None if row.timestamp_s is None else _seconds(row.timestamp_s),
        **({} if row.end_s is None else {"end_s": _seconds(row.end_s)}),
        "caption": row.caption,
        "log_prob": round(row.log_prob, 4) + 0.0,
        "model": info.model,
        "model_version": info.model_version,
        "confidence": row.confidence,
        "unsure": row.confidence < info.unsure_below,
        "words": row.words,
    }


def _seconds(value: float) -> float:
    return round(value, 3) + 0.0


def csv_rating(confidence: float, unsure_below: float | None) -> tuple[str, str]:
    """Return the columns ``confidence`` and ``unsure``, the latter empty where nobody knows the limit."""
    unsure = "" if unsure_below is None else str(confidence < unsure_below).lower()
    return f"{confidence:.4f}", unsure


def csv_line(fields: Iterable[object]) -> str:
    """Return one record of RFC 4180: quoted where needed, ended by CR LF."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerow([printable(str(field)) for field in fields])
    return buffer.getvalue()


class TableWriter:
    """One output file that takes the rows of a source in order.

    ``add`` is called for each caption, then ``close`` once with the stills that were set aside.
    """

    name: str

    def __init__(self, info: SourceInfo, directory: Path) -> None:
        self.info = info
        self._file = (directory / self.name).open("w", encoding="utf-8", newline="")

    def add(self, row: Row) -> None:
        raise NotImplementedError

    def close(self, set_aside: Iterator[Row]) -> None:
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is; used when the rows ended in an error."""
        self._file.close()

    def write(self, text: str) -> None:
        self._file.write(text)


class JsonLines(TableWriter):
    name = "captions.jsonl"

    def add(self, row: Row) -> None:
        self.write(json_line(row_object(self.info, row)) + "\n")


class Csv(TableWriter):
    name = "captions.csv"

    def __init__(self, info: SourceInfo, directory: Path) -> None:
        super().__init__(info, directory)
        self.write(run_csv_header())

    def add(self, row: Row) -> None:
        timestamp = "" if row.timestamp_s is None else f"{row.timestamp_s + 0.0:.3f}"
        info = self.info
        fields = (info.key, row.frame, timestamp, row.caption, f"{row.log_prob + 0.0:.4f}")
        rating = csv_rating(row.confidence, info.unsure_below)
        self.write(csv_line((*fields, info.model, info.model_version, *rating)))


class Json(TableWriter):
    """captions.json: what is known of the source, then its rows, then the stills set aside, as a stream."""

    name = "captions.json"

    def __init__(self, info: SourceInfo, directory: Path, facts: VideoFacts) -> None:
        super().__init__(info, directory)
        self._rows = 0
        head: dict[str, object] = {
            "format": FORMAT,
            "source": info.key,
            "kind": info.kind,
            "model": info.model,
            "model_version": info.model_version,
            "fingerprint": info.fingerprint,
            "settings": info.settings,
            "unsure_below": info.unsure_below,
            **(_reading(facts) if info.kind == "video" else {}),
        }
        self.write("{\n" + "".join(f"{json_line(key)}: {json_line(value)},\n" for key, value in head.items()))
        self.write('"rows": [')

    def add(self, row: Row) -> None:
        self.write(("," if self._rows else "") + "\n" + json_line(row_object(self.info, row)))
        self._rows += 1

    def close(self, set_aside: Iterator[Row]) -> None:
        self.write('\n],\n"errors": [')
        errors = 0
        for row in set_aside:
            problem = {"frame": row.frame, "reason": row.error}
            self.write(("," if errors else "") + "\n" + json_line(problem))
            errors += 1
        self.write("\n],\n" + f'"counts": {json_line({"frames": self._rows, "errors": errors})}\n' + "}\n")
        super().close(set_aside)


def _reading(facts: VideoFacts) -> dict[str, object]:
    by = {} if facts.backend is None else {"reading": {"backend": facts.backend, "why": facts.why}}
    gaps = [{"from_s": start, "to_s": end} for start, end in facts.gaps]
    return {**by, "gaps": gaps, "undecoded_s": facts.undecoded_s}


def run_csv_header() -> str:
    """Return the first line of every captions.csv, of a source and of a run."""
    return csv_line(CSV_COLUMNS)
