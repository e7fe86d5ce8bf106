"""dataset.html: what a dataset consists of, in one file that asks nothing of the network.

Counts, caption lengths, what each threshold makes of the vocabulary, the most common words, pictures with
their captions, and pictures of different splits that look the same.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from model.words import join
from pipeline.datasets.plan import DatasetPlan
from pipeline.datasets.split_writer import Kept
from pipeline.reports.text import printable

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.datasets.near_duplicates import Pair

NAME = "dataset.html"
MARKS = frozenset({PAD, UNKNOWN, START, END})

_THRESHOLDS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20)
_SAMPLES = 12
"""Pictures of each split that are shown."""
_MOST_COMMON = 60
_MOST_PAIRS = 24
_MOST_LISTED = 100
_LONGEST_BAR = 30
"""Captions with more words than that are counted together."""
_THUMBNAIL = 192  # pixels


@dataclass(frozen=True, slots=True)
class WordStatistics:
    """What the captions of one split say."""

    captions: int
    lengths: Counter[int]
    counts: Counter[str]

    @classmethod
    def of(cls, some: Kept) -> WordStatistics:
        """Count all captions of a split, those too that are not among the `captions_per_image` of each."""
        said = [caption for example in some.examples for caption in example.captions]
        counts = Counter(word for caption in said for word in caption)
        return cls(len(said), Counter(map(len, said)), counts)

    @property
    def tokens(self) -> int:
        """Words, counted as often as they are said."""
        return self.counts.total()

    @property
    def mean_length(self) -> float:
        """Words a caption."""
        return self.tokens / max(1, self.captions)

    def known(self, words: set[str] | frozenset[str]) -> float:
        """The share of what is said that these words cover."""
        return sum(count for word, count in self.counts.items() if word in words) / max(1, self.tokens)


def write_report(
    path: Path,
    plan: DatasetPlan,
    kept: Mapping[str, Kept],
    vocabulary: Vocabulary,
    skipped: Sequence[tuple[str, str]],
    fingerprint: str,
) -> int:
    """Write the page; → how many pairs of near-duplicates it shows or counts."""
    import h5py

    said = {split: WordStatistics.of(some) for split, some in kept.items()}
    files = {split: h5py.File(some.path, "r", locking=False) for split, some in kept.items()}
    try:
        pairs = _confirmed(kept, files)
        page = _template().render(
            title=plan.dataset,
            style=_style(),
            style_hash=_digest(_style()),
            base=plan.base,
            fingerprint=fingerprint,
            settings=plan.settings.of_result(),
            given_vocabulary=plan.vocabulary is not None,
            words=sum(word not in MARKS for word in vocabulary.words),
            splits=_splits(kept, said, vocabulary),
            lengths=_lengths(said),
            thresholds=_thresholds(said, plan.settings.min_word_freq),
            common=_common(said["train"], vocabulary),
            samples=_samples(kept, files, plan.settings.seed),
            pairs=[_shown(pair, kept, files) for pair in pairs[:_MOST_PAIRS]],
            pair_count=len(pairs),
            skipped=[(printable(name), printable(why)) for name, why in skipped[:_MOST_LISTED]],
            skipped_count=len(skipped),
            captionless=plan.captionless,
        )
    finally:
        for file in files.values():
            file.close()
    path.write_text(page, encoding="utf-8", errors="replace")
    return len(pairs)


def _confirmed(kept: Mapping[str, Kept], files: Mapping[str, h5py.File]) -> list[Pair]:
    """Pairs whose hashes are close and whose pictures are alike."""
    from pipeline.datasets.near_duplicates import LEAST_ALIKE, alike, suspected

    def picture(where: tuple[str, int]) -> NDArray[np.uint8]:
        return _picture(files, *where)

    found = suspected({split: [row.dhash for row in some.rows] for split, some in kept.items()})
    return [pair for pair in found if alike(picture(pair.first), picture(pair.second)) >= LEAST_ALIKE]


def _picture(files: Mapping[str, h5py.File], split: str, position: int) -> NDArray[np.uint8]:
    from pipeline.datasets.hdf5_layout import DATASET

    picture: NDArray[np.uint8] = files[split][DATASET][position]
    return picture


def _splits(
    kept: Mapping[str, Kept], said: Mapping[str, WordStatistics], vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    known = frozenset(vocabulary.index)
    return [
        {
            "name": split,
            "pictures": len(some.rows),
            "captions": said[split].captions,
            "mean": said[split].mean_length,
            "longest": max(said[split].lengths),
            "known": said[split].known(known),
        }
        for split, some in kept.items()
    ]


def _lengths(said: Mapping[str, WordStatistics]) -> list[dict[str, Any]]:
    """For each length the share of all captions that have it, and how many that are."""
    total: Counter[int] = Counter()
    for words in said.values():
        total += words.lengths
    last = min(max(total), _LONGEST_BAR + 1)
    bars = {length: total[length] for length in range(1, last + 1)}
    if last > _LONGEST_BAR:
        bars[last] = sum(count for length, count in total.items() if length >= last)
    most = max(bars.values())
    return [
        {
            "label": f"{length} or more" if length > _LONGEST_BAR else str(length),
            "count": count,
            "height": count / most,
            "share": count / total.total(),
        }
        for length, count in bars.items()
    ]


def _thresholds(said: Mapping[str, WordStatistics], chosen: int) -> list[dict[str, Any]]:
    """What would be known if words had to be more frequent than this in the train split."""
    rows = []
    for least in sorted({*_THRESHOLDS, chosen}):
        words = {word for word, count in said["train"].counts.items() if count > least}
        known = {split: some.known(words) for split, some in said.items()}
        rows.append({"least": least, "words": len(words), "known": known, "chosen": least == chosen})
    return rows


def _common(words: WordStatistics, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    common = words.counts.most_common(_MOST_COMMON)
    most = common[0][1] if common else 1
    return [
        {"word": word, "count": count, "width": count / most, "known": word in vocabulary.index}
        for word, count in common
    ]


def _samples(kept: Mapping[str, Kept], files: Mapping[str, h5py.File], seed: int) -> list[dict[str, Any]]:
    samples = []
    for split, some in kept.items():
        chooser = random.Random(f"{seed}/{split}/samples")
        for position in sorted(chooser.sample(range(len(some.rows)), min(_SAMPLES, len(some.rows)))):
            samples.append(_shown_one((split, position), kept, files))
    return samples


def _shown(pair: Pair, kept: Mapping[str, Kept], files: Mapping[str, h5py.File]) -> dict[str, Any]:
    return {"sides": [_shown_one(side, kept, files) for side in (pair.first, pair.second)], "bits": pair.bits}


def _shown_one(
    where: tuple[str, int], kept: Mapping[str, Kept], files: Mapping[str, h5py.File]
) -> dict[str, Any]:
    import numpy as np

    from pipeline.media.images import thumbnail

    split, position = where
    example = kept[split].examples[position]
    picture = np.ascontiguousarray(_picture(files, split, position).transpose(1, 2, 0))
    jpeg = base64.b64encode(thumbnail(picture, width=_THUMBNAIL)).decode()
    return {
        "split": split,
        "name": printable(example.image),
        "jpeg": jpeg,
        "captions": [join(words) for words in example.captions],
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("dataset.html.j2")


@cache
def _style() -> str:
    """The looks of all our pages, and what this one has beside them."""
    folder = resources.files("pipeline") / "templates"
    return "".join((folder / name).read_text(encoding="utf-8") for name in ("report.css", "dataset.css"))


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
