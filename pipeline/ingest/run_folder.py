"""What a run of the drop folder keeps under ``DESTINATION/.gpucapt/runs/<run>/``, for its tasks to share.

    plan.json                 what plan was asked to do, written last: without it nothing is to be done
    shards/00000.jsonl        the sources of a shard, one a line
    outcomes/00000.jsonl      what became of them: the model, then a line for each source, followed by one
                              for each of its files
    outcomes/plan.jsonl       the same for what cannot be a source, and how many files were left out

A run is named by the URL of that folder, so that one word is all that its later steps need.
A run that has nothing to do writes nothing, not even the folder; its name says so.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, TypeVar, get_args

from model.confidence import UNSURE_BELOW
from model.errors import GpucaptError
from pipeline.ingest.settle import IN_THE_FUTURE_S
from pipeline.records.outcome import Input, Outcome, Status
from pipeline.records.settings import CaptionSettings
from pipeline.records.source_info import SourceKind
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.sources.choice import Choice
from pipeline.sources.discovery import Piece, Source
from pipeline.storage.base import Entry, Storage
from pipeline.storage.open import open_storage

T = TypeVar("T")

_RUN = re.compile(
    r"(?P<destination>.+)/\.gpucapt/runs/(?P<id>[^/]+)(?:/shards/(?P<shard>\d{5})\.jsonl)?/?", re.S
)

FORMAT = 1

_EMPTY = "-empty"
"""How the name of a run ends that had nothing to do."""

_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading JSON that is not as it was written raises."""


class ModelUsed(NamedTuple):
    """What a shard was captioned with: how reports call it, the weights that fingerprints are of, and the
    confidence below which its captions are marked.
    """

    name: str
    version: str
    weights: str
    unsure_below: float = UNSURE_BELOW


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run keeps its files."""

    destination: Storage
    id: str

    @classmethod
    def parse(cls, url: str) -> tuple[RunFolder, str | None]:
        """The run that a URL names, and the name of the shard if it names one. Raises GpucaptError."""
        match = _RUN.fullmatch(url)
        if match is None:
            raise GpucaptError(f"{url} names no run; give what `gpucapt ingest plan` printed")
        return cls(open_storage(match["destination"]), match["id"]), match["shard"]

    @property
    def url(self) -> str:
        """The name of the run."""
        return f"{self.destination.url}/{self.key}"

    @property
    def empty_url(self) -> str:
        """The name of the run when it has nothing to do."""
        return self.url + _EMPTY

    @property
    def is_empty(self) -> bool:
        """Whether this is a run that had nothing to do."""
        return self.id.endswith(_EMPTY)

    @property
    def key(self) -> str:
        """Where the folder lies under DESTINATION."""
        return f".gpucapt/runs/{self.id}"

    def shard_key(self, shard: str) -> str:
        """Where the list of a shard's sources lies under DESTINATION."""
        return f"{self.key}/shards/{shard}.jsonl"

    def write_plan(self, plan: RunPlan) -> None:
        """Write plan.json: from now on the run is to be done."""
        content = json.dumps(plan.to_json(), indent=2, ensure_ascii=False) + "\n"
        self.destination.write(f"{self.key}/plan.json", content.encode())

    def read_plan(self) -> RunPlan | None:
        """The plan; None where none was written."""
        key = f"{self.key}/plan.json"
        if self.destination.stat(key) is None:
            return None
        try:
            return RunPlan.from_json(json.loads(self.destination.read(key)))
        except _DAMAGE as error:
            raise GpucaptError(
                f"{self.destination.url}/{key} is no plan of this version of gpucapt"
            ) from error

    def write_shard(self, number: int, lines: Iterable[str]) -> str:
        """Write the sources of a shard; returns its URL."""
        key = self.shard_key(f"{number:05}")
        self.destination.write(key, "".join(f"{line}\n" for line in lines).encode())
        return f"{self.destination.url}/{key}"

    def read_shard(self, shard: str) -> Iterator[Source]:
        """The sources of a shard. Raises GpucaptError when there is no such shard, or it is damaged."""
        key = self.shard_key(shard)
        if self.destination.stat(key) is None:
            raise GpucaptError(f"there is no shard {self.destination.url}/{key}; plan again")
        return self._parsed(key, source_from_json)

    def read_model(self) -> ModelUsed:
        """The model that the shards used; empty when none has ended."""
        for key in self.outcome_keys():
            head = next(self._parsed(key, _recorded), {})
            if "model" in head:
                return _model(head["model"])
        return ModelUsed("", "", "")

    def read_left_out(self) -> dict[str, int]:
        """How many files the plan left out, by the reason."""
        key = f"{self.key}/outcomes/plan.jsonl"
        if self.destination.stat(key) is None:
            return {}
        lines = self._parsed(key, _recorded)
        return next((line["left_out"] for line in lines if "left_out" in line), {})

    def outcome_keys(self) -> Iterator[str]:
        """The recorded outcomes of all shards that have ended."""
        return (entry.key for entry in self.destination.list_folder(f"{self.key}/outcomes"))

    def read_outcomes(self, key: str) -> Iterator[tuple[Outcome, Iterator[Input]]]:
        """The outcomes in a file, each with its inputs, which must be read before the next outcome.

        Raises GpucaptError when the file is damaged.
        """
        lines = Lines(self._parsed(key, _recorded))
        while (head := lines.take("outcome")) is not None:
            yield Outcome.from_fields(head), _inputs(lines)

    def _parsed(self, key: str, parse: Callable[[str], T]) -> Iterator[T]:
        """What the lines of a file say."""
        with self.destination.local_path(key) as path, path.open(encoding="utf-8") as file:
            try:
                for line in file:
                    yield parse(line)
            except _DAMAGE as error:
                raise GpucaptError(f"{self.destination.url}/{key} is damaged; plan again") from error


class Lines:
    """Lines of an outcomes file, with a look at the next one."""

    def __init__(self, lines: Iterator[dict[str, dict[str, Any]]]) -> None:
        self._lines = lines
        self._next = next(lines, None)

    def take(self, kind: str) -> dict[str, Any] | None:
        """The next line if it is of this kind; an outcome is found behind inputs that nobody read."""
        while kind == "outcome" and self._next is not None and kind not in self._next:
            self._next = next(self._lines, None)
        if self._next is None or kind not in self._next:
            return None
        found = self._next[kind]
        self._next = next(self._lines, None)
        return found


def _inputs(lines: Lines) -> Iterator[Input]:
    while (line := lines.take("input")) is not None:
        yield Input(**line)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What the tasks of a run must know. Times are seconds since the epoch."""

    incoming: str
    archive: str
    failed: str
    planned_at: float
    settle_s: float
    shards: int
    settings: CaptionSettings
    growing: tuple[str, ...] = ()
    """Files that grew while the plan was made."""
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    @property
    def choice(self) -> Choice:
        """Which files of incoming are meant."""
        return Choice(self.exclude, self.include)

    def to_json(self) -> dict[str, object]:
        """The plan as JSON types."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "settings"}
        if not (self.exclude or self.include):  # workers of earlier versions take no patterns
            del fields["exclude"], fields["include"]
        return {"format": FORMAT, **fields, "settings": self.settings.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> RunPlan:
        """The inverse of ``to_json``."""
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        settings = CaptionSettings.from_json(fields["settings"])
        lists = {name: tuple(fields.get(name, ())) for name in ("growing", "exclude", "include")}
        plan = cls(**{**fields, "settings": settings, **lists})
        _expect_text(*plan.exclude, *plan.include)
        _expect_text(plan.incoming, plan.archive, plan.failed)
        _expect_numbers(plan.settle_s, plan.shards)
        datetime.fromtimestamp(plan.planned_at, UTC)
        return plan

    def is_settled(self, entry: Entry) -> bool:
        """Whether a file was left alone for long enough, when the plan was made.

        A time that lies well in the future says nothing about when the file was written.
        """
        is_old = entry.modified <= self.planned_at - self.settle_s
        says_nothing = entry.modified > time.time() + IN_THE_FUTURE_S
        return (is_old or says_nothing) and entry.key not in self.growing


class Recorder:
    """Collects the outcomes of a shard, and records them when all are there."""

    def __init__(self) -> None:
        self._scratch = ScratchFolder()
        self._path = self._scratch.path / "outcomes.jsonl"
        self._file = self._path.open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def add(self, outcome: Outcome, inputs: Iterable[Input]) -> None:
        """Take in one outcome."""
        if outcome.status == "already done":
            # By an earlier try at this shard, as a rule: for the run it makes no difference which try it was.
            outcome = replace(outcome, status="captioned")
        with self._lock:
            self._file.write(json.dumps({"outcome": outcome.to_fields()}) + "\n")
            for one in inputs:
                self._file.write(json.dumps({"input": asdict(one)}) + "\n")

    def about(self, model: ModelUsed) -> None:
        """Say, before the first outcome, which model is used."""
        self._file.write(json.dumps({"model": model._asdict()}) + "\n")

    def leave_out(self, counts: dict[str, int]) -> None:
        """Say how many files were left out, by the reason."""
        self._file.write(json.dumps({"left_out": counts}) + "\n")

    def record(self, folder: RunFolder, name: str) -> None:
        """Put the outcomes where finish finds them: all of them or none."""
        self._file.flush()
        folder.destination.upload(self._path, f"{folder.key}/outcomes/{name}.jsonl")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._scratch.remove()


def source_to_json(source: Source) -> str:
    """A source as one line."""
    fields = asdict(source)
    if fields["entry"] is not None:
        del fields["entry"]["may_be_archived"]  # it was looked at
    return json.dumps(fields)


def source_from_json(line: str) -> Source:
    """The inverse of ``source_to_json``."""
    fields = json.loads(line)
    entry, piece = fields.pop("entry"), fields.pop("piece", None)
    source = Source(
        **fields,
        entry=None if entry is None else Entry(**entry),
        piece=None if piece is None else Piece(**piece),
    )
    if source.kind not in get_args(SourceKind) or (source.kind == "video" and source.entry is None):
        raise ValueError("no source")
    _expect_text(source.key, source.path)
    if source.entry is not None:
        _expect_text(source.entry.key, source.entry.etag)
        _expect_numbers(source.entry.size, source.entry.modified)
    if source.piece is not None:
        _expect_piece(source.piece.index, source.piece.of)
        _expect_text(source.piece.after, source.piece.upto or "")
    return source


def _recorded(line: str) -> dict[str, dict[str, Any]]:
    """A line of an outcomes file. Raises one of _DAMAGE when it is not as Recorder wrote it."""
    fields: dict[str, dict[str, Any]] = json.loads(line)
    [(kind, content)] = fields.items()
    if kind == "model":
        model = _model(content)
        _expect_text(model.name, model.version, model.weights)
    elif kind == "left_out":
        _expect_text(*content)
        _expect_numbers(*content.values())
    elif kind == "input":
        one = Input(**content)
        _expect_text(one.key, one.etag, one.name, one.error or "")
        _expect_numbers(one.size, one.modified)
    elif kind == "outcome":
        outcome = Outcome.from_fields(content)
        _expect_text(outcome.key, outcome.reason or "", outcome.untold or "")
        _expect_numbers(outcome.undecoded_s)
        if outcome.status not in get_args(Status) or not isinstance(outcome.frames, int):
            raise ValueError("no outcome")
        if outcome.piece is not None:
            _expect_piece(outcome.piece.index, outcome.piece.of)
            _expect_text(outcome.piece.fingerprint)
            _expect_numbers(outcome.piece.rows)
            if outcome.piece.kind not in get_args(SourceKind):
                raise ValueError("a piece of nothing")
    else:
        raise ValueError(f"a line about {kind}")
    return fields


def _model(fields: dict[str, Any]) -> ModelUsed:
    # Before there were registries the version always was what the weights are known by.
    weights = fields.get("weights", fields["version"])
    return ModelUsed(
        fields["name"], fields["version"], weights, float(fields.get("unsure_below", UNSURE_BELOW))
    )


def _expect_text(*values: object) -> None:
    if not all(isinstance(value, str) for value in values):
        raise TypeError("expected text")


def _expect_numbers(*values: object) -> None:
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError("expected numbers")


def _expect_piece(index: object, of: object) -> None:
    if not (isinstance(index, int) and isinstance(of, int) and 0 <= index < of):
        raise ValueError("no piece")
