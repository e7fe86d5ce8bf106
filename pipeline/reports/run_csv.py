"""A run's captions.csv: the rows of all its sources, also of those that earlier versions captioned."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from typing import IO, BinaryIO

from model.confidence import UNSURE_BELOW, confidence
from model.errors import GpucaptError
from pipeline.errors import BadInput
from pipeline.reports.tables import CSV_COLUMNS, FORMAT_1_COLUMNS, csv_line, csv_rating, run_csv_header
from pipeline.storage.base import Storage

Record = dict[str, str]


class UnsureLimits:
    """Below which confidence the captions of earlier versions are unsure, as their captions.json says.

    Each model's version is looked up once: a destination may hold very many sources, but few models.
    """

    def __init__(self, destination: Storage) -> None:
        self._destination = destination
        self._known: dict[tuple[str, str], float] = {}

    def of(self, record: Record) -> float | None:
        """The limit for a row; None where the file that would tell it is gone or damaged."""
        model = record["model"], record["model_version"]
        if model not in self._known:
            limit = self._read(f"{record['source']}/captions.json")
            if limit is None:
                return None
            self._known[model] = limit
        return self._known[model]

    def _read(self, key: str) -> float | None:
        try:
            with self._destination.local_path(key) as path, path.open(encoding="utf-8") as document:
                return _unsure_below(document)
        except (BadInput, OSError, ValueError, TypeError):
            return None


def append_to_run_csv(captions_csv: BinaryIO, run_csv: IO[bytes], limits: UnsureLimits) -> None:
    """Copy the records of one source's captions.csv, without its header, to the end of a run's.

    Rows of format 1 get their confidence. Columns that a later version added are left out. Raises
    GpucaptError when the file is none that gpucapt wrote.
    """
    header = captions_csv.readline()
    if header == run_csv_header().encode():
        shutil.copyfileobj(captions_csv, run_csv)
        return
    columns = header.decode(errors="replace").rstrip("\r\n").split(",")
    if tuple(columns[: len(FORMAT_1_COLUMNS)]) != FORMAT_1_COLUMNS:
        raise GpucaptError(f"{captions_csv.name}: not a captions.csv of gpucapt; remove it and run again")
    try:
        for record in _records(captions_csv, columns):
            if "confidence" not in record:
                record["confidence"], record["unsure"] = _rating(record, limits)
            run_csv.write(csv_line(record.get(column, "") for column in CSV_COLUMNS).encode())
    except (ValueError, csv.Error) as error:
        name = captions_csv.name
        raise GpucaptError(f"{name}: damaged ({error}); remove its folder and run again") from error


def _records(captions_csv: BinaryIO, columns: list[str]) -> Iterator[Record]:
    with io.TextIOWrapper(captions_csv, encoding="utf-8", newline="") as text:
        for fields in csv.reader(text, strict=True):
            yield dict(zip(columns, fields, strict=True))


def _rating(record: Record, limits: UnsureLimits) -> tuple[str, str]:
    """The columns that format 1 did not have.

    Its captions are words with one blank between each two, and no word has a blank in it.
    """
    caption = record["caption"]
    words = caption.count(" ") + 1 if caption else 0
    return csv_rating(round(confidence(float(record["log_prob"]), words), 4), limits.of(record))


def _unsure_below(document: IO[str]) -> float:
    """The limit that a captions.json says, of which only what comes before the rows is read."""
    head = ""
    for line in document:
        if line.startswith('"rows": ['):
            return float(json.loads(f'{head}"rows": []}}').get("unsure_below", UNSURE_BELOW))
        head += line
    raise ValueError("no captions.json")
