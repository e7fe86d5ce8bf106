"""The registry of models at ``GPUCAPT_MODELS``, a folder or a prefix of an object store.

    <name>/<version>/config.json, vocabulary.json, model.safetensors   the checkpoint
    <name>/<version>/version.json       what it is: see `Version`; written last, never changed
    <name>/<version>/evaluations/…      scores that it got, each for one dataset, split and search
    champion.json                       which version jobs use: see `Champions`

A version never changes: its files are compared with the digests in version.json when it is used. What changes
is champion.json alone, by conditional writes, so that of several promotions at once exactly one wins.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from model.checkpoint import CONFIG, TENSORS, VOCABULARY, read_config
from model.errors import GpucaptError
from pipeline.errors import BadInput, StorageUnavailable
from pipeline.runtime.clock import now
from pipeline.runtime.config import tuning
from pipeline.runtime.temp_folders import ScratchFolder
from pipeline.storage.base import Storage, sha256
from pipeline.storage.open import open_storage

T = TypeVar("T")

_log = logging.getLogger("gpucapt")

CHECKPOINT_FILES = (CONFIG, VOCABULARY, TENSORS)
VERSION, CHAMPION = "version.json", "champion.json"
RESERVED = ("bundled", "champion")
"""Names that mean something else where a model is asked for."""
FORMAT = 1

_CLAIM = ".registering"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_WHICH = re.compile(rf"(?P<name>{_PART})(?:/(?P<version>{_PART}))?")
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading JSON that is not as it was written raises."""


@dataclass(frozen=True, slots=True)
class Version:
    """What version.json says of a model."""

    name: str
    version: str
    files: dict[str, dict[str, Any]]
    """Each file of the checkpoint with its ``size`` and ``sha256``."""
    registered_at: str
    origin: str = ""
    """Where the checkpoint lay."""
    code_version: str = ""
    """The gpucapt that it was trained by, or registered by where its training did not say."""
    dataset: dict[str, Any] = field(default_factory=dict)
    """``name`` and ``fingerprint`` of what it was trained on."""
    recipe: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """What else its training says."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The scores that it was registered with."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """What these are of: dataset, split, search; what `gpucapt evaluate` writes to scores.json."""

    @property
    def id(self) -> str:
        """``name/version``, by which commands take it."""
        return f"{self.name}/{self.version}"

    @property
    def weights(self) -> str:
        """The first 12 hex digits of the SHA-256 of its tensors, as of a checkpoint without a registry."""
        return str(self.files[TENSORS]["sha256"])[:12]

    def to_json(self) -> bytes:
        """The content of version.json."""
        return _json({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Version:
        """The inverse of ``to_json``. Raises one of _DAMAGE."""
        _expect_format(fields)
        known = {name: value for name, value in fields.items() if name in cls.__dataclass_fields__}
        made = cls(**known)
        digests = [str(made.files[name]["sha256"]) for name in CHECKPOINT_FILES]
        if not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests):
            raise ValueError("no digest")
        parse_id(made.id)
        return made


@dataclass(frozen=True, slots=True)
class Promotion:
    """One version that became, or was, the champion."""

    name: str
    version: str
    promoted_at: str
    why: str = ""

    @property
    def id(self) -> str:
        """``name/version``."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Champions:
    """What champion.json says: the champion, those before it, those rolled back; the latest first."""

    champion: Promotion | None = None
    previous: tuple[Promotion, ...] = ()
    withdrawn: tuple[Promotion, ...] = ()
    etag: str | None = None
    """Of the object that was read; None where there was none."""

    def promoted(self, version: Version, why: str) -> Champions:
        """With another champion; the one there is becomes the latest of the previous ones."""
        made = Promotion(version.name, version.version, now(), why)
        before = () if self.champion is None else (self.champion,)
        return replace(self, champion=made, previous=(*before, *self.previous))

    def rolled_back(self) -> Champions:
        """With the latest previous champion in the place of the one there is."""
        assert self.champion is not None and self.previous
        back, *rest = self.previous
        withdrawn = (self.champion, *self.withdrawn)
        return replace(self, champion=back, previous=tuple(rest), withdrawn=withdrawn)

    def to_json(self) -> bytes:
        """The content of champion.json."""
        content = asdict(self)
        del content["etag"]
        return _json({"format": FORMAT, **content})

    @classmethod
    def from_fields(cls, fields: dict[str, Any], etag: str) -> Champions:
        """The inverse of ``to_json``. Raises one of _DAMAGE."""
        _expect_format(fields)
        lists = {name: tuple(_promotion(one) for one in fields[name]) for name in ("previous", "withdrawn")}
        return cls(_promotion(fields["champion"]), **lists, etag=etag)


class Registry:
    """The models in one place."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def url(self) -> str:
        """How to name it to people."""
        return self.storage.url

    @classmethod
    def configured(cls) -> Registry | None:
        """The one at ``GPUCAPT_MODELS``; None where that is not set."""
        place = tuning().models
        return None if place is None else cls(open_storage(place))

    @classmethod
    def required(cls) -> Registry:
        """The one at ``GPUCAPT_MODELS``. Raises GpucaptError where that is not set."""
        found = cls.configured()
        if found is None:
            raise GpucaptError("there is no registry; set GPUCAPT_MODELS to a folder or s3://bucket/prefix")
        return found

    def folder(self, version: Version) -> str:
        """The path or URL of a version's checkpoint."""
        return f"{self.url}/{version.id}"

    # Versions

    def find(self, name: str, version: str) -> Version | None:
        """A version; None where there is none. Raises GpucaptError where its version.json is damaged."""
        key = f"{name}/{version}/{VERSION}"
        if self.storage.stat(key) is None:
            return None
        found = self._read(key, lambda fields, etag: Version.from_fields(fields))
        if found.id != f"{name}/{version}":
            raise GpucaptError(f"{self.url}/{key} is of another version, {found.id}; register it anew")
        return found

    def versions(self, name: str | None = None) -> Iterator[Version]:
        """All versions, or those of one name; what is damaged is told in the log and left out."""
        for entry in self.storage.list("" if name is None else f"{name}/"):
            if entry.name == VERSION and entry.key.count("/") == 2:
                try:
                    found = self.find(*entry.key.split("/")[:2])
                except StorageUnavailable:
                    raise
                except GpucaptError as error:
                    _log.warning("%s", error)
                else:
                    if found is not None:
                        yield found

    def whole(self, version: Version) -> Version:
        """The version, if its files are there with their sizes. Raises GpucaptError, in one line."""
        for name in CHECKPOINT_FILES:
            there = self.storage.stat(f"{version.id}/{name}")
            if there is None or there.size != version.files[name]["size"]:
                what = "is missing" if there is None else "is not as it was registered"
                raise GpucaptError(
                    f"the model {version.id} in {self.url} is damaged: its {name} {what};"
                    " choose another version, or roll back with `gpucapt rollback`"
                )
        return version

    def register(self, checkpoint: Path, version: Version) -> Version:
        """Copy a checkpoint into the registry; what is there already with the same content stays.

        Raises GpucaptError where something else has this name and version.
        """
        there = self.find(version.name, version.version)
        if there is not None:
            return self.whole(self._same(there, version, checkpoint))
        claim, mine = f"{version.id}/{_CLAIM}", _json(version.files)
        if self.storage.create(claim, mine) is None and self._content(claim) not in (mine, None):
            raise GpucaptError(
                f"something else is being registered as {version.id}; name another --version"
                f" (or remove {self.url}/{version.id}, if that was broken off)"
            )
        self._upload(checkpoint, version)
        if self.storage.create(f"{version.id}/{VERSION}", version.to_json()) is None:
            there = self.find(version.name, version.version)
            version = version if there is None else self._same(there, version, checkpoint)
        self.storage.delete(claim)
        return version

    def _upload(self, checkpoint: Path, version: Version) -> None:
        # A copy of our own: on disk an upload may share its bytes with the file, which others may change.
        with ScratchFolder(tuning().spool, setting="GPUCAPT_SPOOL") as scratch:
            for name in CHECKPOINT_FILES:
                copied = Path(shutil.copyfile(checkpoint / name, scratch / name))
                if sha256(copied) != version.files[name]["sha256"]:
                    raise GpucaptError(f"{checkpoint / name} changed while it was registered; try again")
                self.storage.upload(copied, f"{version.id}/{name}")

    def _same(self, there: Version, wanted: Version, checkpoint: Path) -> Version:
        """What is there, if it is the same model: a training that is resumed may tell of itself otherwise."""
        different = [name for name in CHECKPOINT_FILES if there.files[name] != wanted.files[name]]
        if different == [CONFIG]:
            theirs, ours = self._content(f"{there.id}/{CONFIG}"), (checkpoint / CONFIG).read_bytes()
            different = [] if theirs and _but_training(theirs) == _but_training(ours) else different
        if different:
            raise GpucaptError(
                f"{there.id} is registered already, with other content; name another --version"
            )
        return there

    def _content(self, key: str) -> bytes | None:
        try:
            return self.storage.read(key)
        except StorageUnavailable:
            raise
        except BadInput:  # it is gone: whoever made it has finished
            return None

    def keep_evaluation(self, version: Version, key: str, facts: Mapping[str, Any]) -> None:
        """Keep what an evaluation of a version found, so that it need not be done again."""
        self.storage.write(f"{version.id}/evaluations/{key}.json", _json(facts))

    def evaluation(self, version: Version, key: str) -> dict[str, Any] | None:
        """What ``keep_evaluation`` kept; None where there is nothing that can be read."""
        name = f"{version.id}/evaluations/{key}.json"
        if self.storage.stat(name) is None:
            return None
        content = self._content(name)
        try:
            found = json.loads(content or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    # The champion

    def champions(self) -> Champions:
        """Who is champion and was before. Raises GpucaptError where champion.json is damaged."""
        if self.storage.stat(CHAMPION) is None:
            return Champions()
        return self._read(CHAMPION, Champions.from_fields)

    def crown(self, champions: Champions) -> None:
        """Make this what champion.json says. Raises GpucaptError where that has changed meanwhile."""
        content = champions.to_json()
        if champions.etag is None:
            made = self.storage.create(CHAMPION, content)
        else:
            made = self.storage.replace(CHAMPION, content, champions.etag)
        if made is None:
            winner = self.champions().champion
            raise GpucaptError(
                f"another promotion came first: the champion is {winner.id if winner else 'none'} now,"
                " and nothing was changed; try again, to be compared with that one"
            )

    def _read(self, key: str, parse: Callable[[dict[str, Any], str], T]) -> T:
        where = f"{self.url}/{key}"
        for _ in range(5):
            entry = self.storage.stat(key)
            if entry is None:
                break
            try:
                return parse(json.loads(self.storage.read(key, etag=entry.etag)), entry.etag)
            except _DAMAGE as error:
                raise GpucaptError(
                    f"{where} is damaged ({type(error).__name__}: {error}); restore it,"
                    " or name the model to use with --model"
                ) from error
            except BadInput:
                if self.storage.stat(key) == entry:
                    raise
        raise GpucaptError(f"{where} cannot be read: it keeps changing, or is gone; try again")


def new_version(
    checkpoint: Path, name: str | None, version: str | None, *, origin: str, code_version: str
) -> Version:
    """What version.json is to say of a checkpoint; by default its own name, and the digest of its weights.

    Raises GpucaptError where it is none, or a name is not fit for one.
    """
    config = read_config(checkpoint)
    files = {
        one: {"size": (checkpoint / one).stat().st_size, "sha256": sha256(checkpoint / one)}
        for one in CHECKPOINT_FILES
    }
    name = name or str(config.get("name") or checkpoint.name)
    version = version or str(files[TENSORS]["sha256"])[:12]
    _check_name(name, "--name")
    _check_name(version, "--version")
    training = dict(config.get("training") or {})
    dataset = {
        key: value
        for key, value in (
            ("name", training.pop("dataset", None)),
            ("fingerprint", training.pop("dataset_fingerprint", None)),
        )
        if value is not None
    }
    return Version(
        name,
        version,
        files,
        now(),
        origin,
        str(training.pop("code_version", None) or code_version),
        dataset,
        dict(training.pop("recipe", None) or {}),
        training,
    )


def parse_id(text: str) -> tuple[str, str | None] | None:
    """The name and the version, if any, that ``name`` or ``name/version`` gives; None for other text."""
    match = _WHICH.fullmatch(text)
    return None if match is None or text in RESERVED else (match["name"], match["version"])


def _but_training(config: bytes) -> object:
    try:
        return {name: value for name, value in json.loads(config).items() if name != "training"}
    except _DAMAGE:
        return config


def _check_name(name: str, option: str) -> None:
    if not re.fullmatch(_PART, name) or name in RESERVED:
        raise GpucaptError(
            f"{name!r} cannot be used here; {option} takes letters, digits, '.', '_' and '-', at most 100"
        )


def _promotion(fields: Mapping[str, Any]) -> Promotion:
    made = Promotion(**fields)
    found = parse_id(made.id)
    if found is None or found[1] is None:
        raise ValueError(f"{made.id!r} is no version")
    return made


def _expect_format(fields: Mapping[str, Any]) -> None:
    if fields["format"] != FORMAT:
        raise ValueError(f"format {fields['format']!r} is not known here")


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
