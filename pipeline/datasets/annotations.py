"""Captions of pictures, as data sets publish them: Karpathy's JSON, COCO's JSON, CSV, Flickr's own.

Which of them a file is, its content tells:

- **Karpathy**: a JSON object with `images`, each with `filename`, `split`, `sentences` (and `filepath`);
  `restval` counts as train.
- **COCO**: a JSON object with `images` (`id`, `file_name`) and `annotations` (`image_id`, `caption`). Of
  several files each is the split that its name says (`captions_train2017.json`), and its pictures lie in the
  folder of that name (`train2017/`) where there is one.
- **CSV**: a first line with `image` and `caption`, and perhaps `split`; a row a caption, so that a picture
  has several. Separated by commas, semicolons, tabs or bars. Rows that are cut short, as Flickr30k has one,
  are left out as long as they are few.
- **Flickr**: lines of `picture.jpg#0`, a tab and a caption, as Flickr8k and Flickr30k are given out. Lists of
  pictures beside it (`Flickr_8k.trainImages.txt`, `…devImages…`, `…testImages…`) are the splits.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from model.errors import GpucaptError
from model.words import DEFAULT_TOKENIZER, Tokenizer, tokenize

SPLITS = ("train", "val", "test")

_SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLIT_NAMES["dev"], _SPLIT_NAMES["test"] = "val", "test"
_COCO_FILE = re.compile(r"captions_((train|val|test)\w*)")
_FLICKR_LINE = re.compile(r"(?P<image>[^\t\n]+)#\d+\t(?P<caption>.*)")
_FLICKR_LISTS = {"train": "train", "dev": "val", "test": "test"}
_IMAGE_COLUMNS = ("image", "image_name", "filename", "file_name", "image_path")
_CAPTION_COLUMNS = ("caption", "comment", "text")
_MOST_CUT_SHORT = 0.01
"""Of the rows of a table: more of them, and it is no table of that kind."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Example:
    """A picture's name below the folder of pictures, its split and its captions in words."""

    image: str
    split: str | None
    """None where the data set makes no splits."""
    captions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Annotations:
    """What annotation files say: the data set's name and its examples."""

    dataset: str
    examples: tuple[Example, ...]


def read_annotations(paths: Sequence[Path], tokenizer: Tokenizer = DEFAULT_TOKENIZER) -> Annotations:
    """Read annotation files. Only COCO's may be several.

    Raises:
        GpucaptError: a file is not there, or of none of the kinds that are known, or says what cannot be.
    """
    texts = [(path, _read_text(path)) for path in paths]
    if len(texts) == 1 and not texts[0][1].lstrip().startswith(("{", "[")):
        return (_from_flickr if _FLICKR_LINE.match(texts[0][1]) else _from_csv)(*texts[0], tokenizer)
    contents = [(path, _parse(path, text)) for path, text in texts]
    if len(contents) == 1 and _is_karpathys(contents[0][1]):
        return _from_karpathy(*contents[0], tokenizer)
    for path, content in contents:
        _check_coco(path, content)
    return Annotations("coco", tuple(_from_coco(contents, tokenizer)))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise GpucaptError(f"{path}: there is no such dataset file.") from error
    except UnicodeDecodeError as error:
        raise GpucaptError(
            f"{path} is not a dataset: it is no text in UTF-8 (byte {error.start}). Save it as UTF-8."
        ) from error
    except OSError as error:
        raise GpucaptError(f"{path} cannot be read: {error.strerror}.") from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise GpucaptError(f"{path} is not a dataset: it is not valid JSON ({error}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise GpucaptError(
            f"{path} is not a dataset: it has no list `images`. Karpathy's JSON, COCO's captions_*.json"
            " and CSV with the columns image,caption are known."
        )
    return content


def _is_karpathys(content: dict[str, Any]) -> bool:
    return "annotations" not in content


def _from_karpathy(path: Path, content: dict[str, Any], tokenizer: Tokenizer) -> Annotations:
    try:
        examples = tuple(_karpathys_example(path, image, tokenizer) for image in content["images"])
    except (KeyError, TypeError, AttributeError) as error:
        raise GpucaptError(
            f"{path} is not a dataset in Karpathy's JSON format ({type(error).__name__}: {error})."
        ) from error
    return Annotations(as_file_name(str(content.get("dataset", path.stem))), examples)


def _karpathys_example(path: Path, image: dict[str, Any], tokenizer: Tokenizer) -> Example:
    name = "/".join(filter(None, (image.get("filepath"), image["filename"])))
    split = _split(path, name, image.get("split"))
    return Example(name, split, tuple(tuple(_words(one, tokenizer)) for one in image["sentences"]))


def _words(sentence: dict[str, Any], tokenizer: Tokenizer) -> list[str]:
    tokens = sentence.get("tokens")
    return tokenize(sentence["raw"] if tokens is None else " ".join(tokens), tokenizer)


def _split(path: Path, image: str, name: str | None) -> str | None:
    if not name:
        return None
    split = _SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise GpucaptError(
            f"{path}: picture {image!r} is in an unknown split {name!r}; there are train, val and test."
        )
    return split


def _check_coco(path: Path, content: dict[str, Any]) -> None:
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise GpucaptError(f"{path} is not one of several files of COCO: it has no list `annotations`.")
    if annotations and not (isinstance(annotations[0], dict) and "caption" in annotations[0]):
        raise GpucaptError(f"{path} has COCO's annotations without captions; take its captions_*.json.")


def _from_coco(contents: Sequence[tuple[Path, dict[str, Any]]], tokenizer: Tokenizer) -> Iterator[Example]:
    for path, content in contents:
        named = _COCO_FILE.match(path.name)
        if named is None and len(contents) > 1:
            raise GpucaptError(
                f"{path}: of several files of COCO each needs its split in its name, as"
                " captions_train2017.json."
            )
        folder = named[1] if named else ""
        split = named[2] if named and len(contents) > 1 else None
        try:
            captions: dict[Any, list[tuple[str, ...]]] = {}
            for annotation in content["annotations"]:
                words = tuple(tokenize(annotation["caption"], tokenizer))
                captions.setdefault(annotation["image_id"], []).append(words)
            for image in content["images"]:
                yield Example(
                    _in_folder(folder, image["file_name"]), split, tuple(captions.get(image["id"], ()))
                )
        except (KeyError, TypeError, AttributeError) as error:
            raise GpucaptError(
                f"{path} is not a dataset in COCO's format ({type(error).__name__}: {error})."
            ) from error


def _in_folder(folder: str, name: str) -> str:
    """A name below the folder that a file of COCO speaks of, where it does not begin with it itself."""
    if not folder or PurePosixPath(name.replace("\\", "/")).parts[:1] == (folder,):
        return name
    return f"{folder}/{name}"


def _from_csv(path: Path, text: str, tokenizer: Tokenizer) -> Annotations:
    first = text.partition("\n")[0]
    separator = max(",;\t|", key=first.count)
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        skipinitialspace=True,
        # Between bars nobody quotes: a caption that begins with a quotation mark would swallow the next ones.
        quoting=csv.QUOTE_NONE if separator == "|" else csv.QUOTE_MINIMAL,
    )
    captions: dict[str, list[tuple[str, ...]]] = {}
    splits: dict[str, str | None] = {}
    cut_short: list[str] = []
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        image_at, caption_at = _column(header, _IMAGE_COLUMNS), _column(header, _CAPTION_COLUMNS)
        split_at = _column(header, ("split",))
        if image_at is None or caption_at is None:
            raise GpucaptError(
                f"{path} is not a dataset: it is neither JSON nor CSV whose first line names the columns"
                " image and caption."
            )
        for row in rows:
            if not any(row):
                continue
            if len(row) > len(header) and caption_at == len(header) - 1:
                row[caption_at:] = [separator.join(row[caption_at:])]  # a caption with commas, not quoted
            wrong = (
                f"{path}, line {rows.line_num}: {len(header)} columns are named, this row has {len(row)};"
                " quote captions that contain the separator."
            )
            if len(row) < len(header):
                cut_short.append(wrong)
                continue
            if len(row) != len(header) or not row[image_at].strip():
                raise GpucaptError(wrong)
            name = row[image_at].strip()
            captions.setdefault(name, []).append(tuple(tokenize(row[caption_at], tokenizer)))
            split = _split(path, name, row[split_at]) if split_at is not None else None
            if splits.setdefault(name, split) != split:
                raise GpucaptError(
                    f"{path}, line {rows.line_num}: picture {name!r} is in two splits,"
                    f" {splits[name] or 'none'} and {split or 'none'}."
                )
    except csv.Error as error:
        raise GpucaptError(f"{path}, line {rows.line_num}: not valid CSV ({error}).") from error
    _bear_few(cut_short, sum(map(len, captions.values())))
    examples = tuple(Example(name, splits[name], tuple(said)) for name, said in captions.items())
    return Annotations(as_file_name(path.stem), examples)


def _from_flickr(path: Path, text: str, tokenizer: Tokenizer) -> Annotations:
    captions: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        match = _FLICKR_LINE.fullmatch(line)
        if match:
            captions.setdefault(match["image"], []).append(tuple(tokenize(match["caption"], tokenizer)))
        elif line.strip():
            raise GpucaptError(f"{path}, line {number}: this is no picture.jpg#0, a tab and a caption.")
    splits = {
        name.strip(): split
        for kind, split in _FLICKR_LISTS.items()
        for listed in sorted(path.parent.glob(f"*.{kind}Images.txt"))
        for name in _read_text(listed).split("\n")
    }
    # Those that no list names belong to no split; who uses the lists leaves them out (91 in Flickr8k).
    named = [name for name in captions if name in splits] or list(captions)
    examples = tuple(Example(name, splits.get(name), tuple(captions[name])) for name in named)
    return Annotations(as_file_name(path.name.partition(".")[0]), examples)


def _bear_few(cut_short: Sequence[str], whole: int) -> None:
    """Rows with too few columns cost themselves alone, unless they are many."""
    if len(cut_short) > _MOST_CUT_SHORT * whole:
        raise GpucaptError(cut_short[0])
    if cut_short:
        log.warning("left out %d rows that are cut short; the first: %s", len(cut_short), cut_short[0])


def _column(header: Sequence[str], names: Iterable[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def as_file_name(name: str) -> str:
    """A data set's name becomes part of file names."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "dataset"


def in_folders(examples: Sequence[Example], has_folder: dict[str, bool]) -> list[Example]:
    """Drop the folder that the annotations name where all pictures lie together.

    Args:
        has_folder: of the first part of the names (`val2014` of `val2014/x.jpg`) whether it is there.
    """
    moved = []
    for example in examples:
        folder, _, rest = example.image.partition("/")
        moved.append(replace(example, image=rest) if rest and has_folder.get(folder) is False else example)
    return moved
