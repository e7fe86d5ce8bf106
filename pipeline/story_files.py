"""From a captions.json to a story.json."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.errors import GpucaptError
from pipeline.errors import WrongUsage
from pipeline.places import input_file, output_file
from pipeline.rows import Row
from pipeline.source_info import SourceInfo
from pipeline.storage import is_s3
from pipeline.stories import outline_story


def tell_story(captions: str | Path, out: str | Path) -> str:
    """Tell the story of one source's captions, files or s3:// URLs; returns it as Markdown.

    Raises GpucaptError when ``captions`` is no captions.json, or ``out`` cannot be written; WrongUsage when
    they are the same file.
    """
    same = WrongUsage(f"the story would replace {captions}, which it is told from; name another file")
    if is_s3(str(captions)) and str(captions) == str(out):
        raise same
    with input_file(str(captions)) as source, output_file(str(out)) as target:
        if _is_same_file(source, target):
            raise same
        return _tell_story(source, target)


def _tell_story(captions: Path, out: Path) -> str:
    try:
        content: Any = json.loads(captions.read_text(encoding="utf-8"))
        info = SourceInfo(
            str(content["source"]),
            "video" if content["kind"] == "video" else "stills",
            str(content["model"]),
            str(content["model_version"]),
            str(content["fingerprint"]),
        )
        rows = list(_rows(content["rows"]))
    except OSError as error:
        raise GpucaptError(f"{captions} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GpucaptError(f"{captions} is not a captions.json of gpucapt; name one that it wrote") from error
    story = outline_story(info, rows)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out.with_name(f".{out.name}.tmp")
        unfinished.write_text(story.to_json(), encoding="utf-8")
        unfinished.replace(out)
    except OSError as error:
        raise GpucaptError(f"{out} cannot be written: {error.strerror}") from error
    return story.to_markdown()


def _is_same_file(one: Path, other: Path) -> bool:
    # Compared as text, too: '..' may lead through a folder that is yet to be made.
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def _rows(rows: list[dict[str, Any]]) -> Iterator[Row]:
    for position, row in enumerate(rows):
        timestamp = row["timestamp_s"]
        yield Row(
            position,
            row["frame"],
            None if timestamp is None else float(timestamp),
            str(row["caption"]),
            [str(word) for word in row["words"]],
            float(row["log_prob"]),
        )
