"""Stories as files: what they are told from, story.json itself, story.md; local or in an object store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.confidence import UNSURE_BELOW
from model.errors import GpucaptError
from pipeline.errors import WrongUsage, one_line
from pipeline.records.natural_order import natural_key
from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.storage.open import is_s3
from pipeline.storage.staging import input_file, output_file
from pipeline.stories import Material, Story, material_of, start_story

_FORMATS = (1, 2)
"""Of captions.json, that can be read."""

LARGEST_STORY_BYTES = 32 << 20

TEXT_SOURCE = "text"
"""What a story calls a text that it was begun with, in place of a source key."""


def tell_story(captions: str | Path, out: str | Path) -> str:
    """Tell the outline story of one source's captions, files or s3:// URLs; returns it as Markdown.

    Raises GpucaptError when ``captions`` is no captions.json, or ``out`` cannot be written; WrongUsage when
    they are the same file.
    """
    with new_story(str(captions), str(out)) as (material, keep):
        return keep(start_story(material)).to_markdown()


@contextmanager
def new_story(
    source: str, out: str, picture: Callable[[str], Material] | None = None
) -> Iterator[tuple[Material, Callable[[Story], Story]]]:
    """What to tell a story from, and what keeps it in ``out``.

    Args:
        source: a captions.json, or a picture where ``picture`` is given.
        out: where the story is to be written. It must be another file; that is found out before any work.
        picture: captions a picture.
    """
    same = WrongUsage(f"the story would replace {source}, which it is told from; name another file")
    if is_s3(source) and source == out:
        raise same
    if picture is not None and not source.lower().endswith(".json"):
        material = picture(source)
        with output_file(out) as target:
            if not is_s3(source) and _is_same_file(Path(source), target):
                raise same
            yield material, lambda story: _write(story, target)
        return
    with input_file(source) as read, output_file(out) as target:
        if _is_same_file(read, target):
            raise same
        yield _captions(read), lambda story: _write(story, target)


def read_story(place: str) -> Story:
    """The story in a story.json. Raises GpucaptError where it is none."""
    with input_file(place) as path:
        try:
            if path.stat().st_size > LARGEST_STORY_BYTES:
                raise GpucaptError(f"{place} is too large to be a story")
            return Story.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise GpucaptError(f"{place} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, GpucaptError) as error:
            said = "it is no text" if isinstance(error, UnicodeDecodeError) else str(error)
            raise GpucaptError(f"{place}: {said}") from error


def write_story(story: Story, place: str) -> Story:
    """Write a story.json, whole or not at all; returns the story."""
    with output_file(place) as target:
        return _write(story, target)


def write_markdown(story: Story, place: str) -> None:
    """Write a story as Markdown."""
    with output_file(place) as target:
        _write_text(target, story.to_markdown())


def require_another(markdown: str | None, *others: str | None) -> None:
    """Raise WrongUsage where the Markdown would replace what the story is told from, or the story itself."""
    for other in others:
        if is_same_file(markdown, other):
            raise WrongUsage(f"the Markdown would replace {other}; name another file")


def is_same_file(place: str | None, other: str | None) -> bool:
    """Whether two paths or URLs name the same file; never where one of them is None."""
    if place is None or other is None or is_s3(place) != is_s3(other):
        return False
    return place == other or (not is_s3(other) and _is_same_file(Path(place), Path(other)))


def text_material(text: str) -> Material:
    """A text as material, titled by its first words."""
    words = text.split()
    title = " ".join(words[:6]).strip(",;:.!?")
    return Material(f"{title}…" if len(words) > 6 else title, TEXT_SOURCE, text=text)


def _captions(path: Path) -> Material:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format", 1) not in _FORMATS:
            raise GpucaptError(f"{path} was written by a later version of gpucapt; bring this one up to date")
        info = SourceInfo(
            str(content["source"]),
            "video" if content["kind"] == "video" else "stills",
            str(content["model"]),
            str(content["model_version"]),
            str(content["fingerprint"]),
            unsure_below=float(content.get("unsure_below", UNSURE_BELOW)),
        )
        if not 0 <= info.unsure_below <= 1:
            raise ValueError("no confidence")
        rows = list(_rows(content["rows"]))
        if info.kind == "stills":
            rows.sort(key=lambda row: natural_key(str(row.frame)))
        return material_of(info, rows)
    except OSError as error:
        raise GpucaptError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GpucaptError(f"{path} is not a captions.json of gpucapt; name one that it wrote") from error


def _write(story: Story, out: Path) -> Story:
    _write_text(out, story.to_json())
    return story


def _write_text(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out.with_name(f".{out.name}.tmp")
        unfinished.write_bytes(text.encode(errors="replace"))
        unfinished.replace(out)
    except OSError as error:
        raise GpucaptError(f"{one_line(str(out))} cannot be written: {error.strerror}") from error


def _is_same_file(one: Path, other: Path) -> bool:
    # Compared as text, too: '..' may lead through a folder that is yet to be made.
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def _rows(rows: list[dict[str, Any]]) -> Iterator[Row]:
    for position, row in enumerate(rows):
        timestamp, end = row["timestamp_s"], row.get("end_s")
        yield Row(
            position,
            row["frame"],
            None if timestamp is None else float(timestamp),
            str(row["caption"]),
            [str(word) for word in row["words"]],
            float(row["log_prob"]),
            end_s=None if end is None else float(end),
        )
