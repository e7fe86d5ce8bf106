"""What `gpucapt preprocess` is about to do: which pictures, in which splits, with which settings."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from model.errors import GpucaptError
from model.vocabulary import Vocabulary
from model.words import DEFAULT_TOKENIZER, Tokenizer
from pipeline.datasets.annotations import SPLITS, Example, in_folders
from pipeline.datasets.picture_sources import PictureFolder
from pipeline.datasets.splits import missing_splits, with_splits
from pipeline.runtime.cpu_limits import available_cores

_VERSION = 1
"""Of how inputs become outputs: with another one, what is there already is not the same."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Settings of `gpucapt preprocess`; the defaults are the earlier captioners'."""

    captions_per_image: int = 5
    min_word_freq: int = 5
    max_length: int = 50
    image_size: int = 256
    tokenizer: Tokenizer = DEFAULT_TOKENIZER
    """By which the captions were made words."""
    splits: tuple[float, float, float] | None = None
    """Shares of train, val, test for new splits; None: the data set's own, where it has some."""
    seed: int = 123
    workers: int = field(default_factory=available_cores)
    threads: int = 1
    """Of each worker: more than one is for pictures that take long to arrive."""
    max_bad: int = 100

    def __post_init__(self) -> None:
        least = {"captions_per_image": 1, "max_length": 1, "image_size": 1, "workers": 1, "threads": 1}
        least |= {"min_word_freq": 0, "max_bad": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise GpucaptError(
                    f"{name.replace('_', '-')} must be at least {value}, not {getattr(self, name)}"
                )

        if self.tokenizer not in get_args(Tokenizer):
            known = " or ".join(get_args(Tokenizer))
            raise GpucaptError(f"tokenizer must be {known}, not {self.tokenizer!r}")

    def of_result(self) -> dict[str, Any]:
        """The settings that change the result, as JSON types."""
        result = asdict(self)
        for name in ("workers", "threads", "max_bad"):
            del result[name]
        return result


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """What is to be done."""

    dataset: str
    images: str
    settings: Preprocessing
    vocabulary: Vocabulary | None
    """One that is given; None: that of the train split."""
    splits: dict[str, list[Example]]
    """By split in the order of SPLITS; only those that have a picture."""
    captionless: int
    """Pictures without a caption of 1 to `max_length` words."""
    inputs: str
    """A digest of all that goes in, and of the files' state: the same, and there is nothing to do."""

    @property
    def base(self) -> str:
        """What the names of the files end with."""
        settings = self.settings
        return (
            f"{self.dataset}_{settings.captions_per_image}_cap_per_img_{settings.min_word_freq}_min_word_freq"
        )

    @property
    def count(self) -> int:
        """Pictures of all splits."""
        return sum(map(len, self.splits.values()))


def plan(
    dataset: str,
    examples: Sequence[Example],
    images: str,
    settings: Preprocessing,
    vocabulary: Vocabulary | None = None,
) -> DatasetPlan:
    """Look at what there is. Raises GpucaptError where nothing can be trained on it."""
    folder = PictureFolder(images)
    slashed = [replace(one, image=folder.with_slashes(one.image)) for one in examples]
    turned = sum(old.image != new.image for old, new in zip(examples, slashed, strict=True))
    if turned:
        log.info("%d names of pictures are written as on Windows", turned)
    found = in_folders(slashed, folder.has_folders(example.image for example in slashed))
    named = [Example(folder.relative(one.image), one.split, one.captions) for one in found]
    usable = [kept for kept in (_usable(one, settings.max_length) for one in named) if kept]
    parted = with_splits(usable, settings.splits, settings.seed)
    splits = {split: [one for one in parted if one.split == split] for split in SPLITS}
    if not splits["train"]:
        raise GpucaptError(f"Dataset {dataset!r} has no captioned picture in its train split.")
    missing = missing_splits(parted)
    if missing:
        log.warning("%s: %s", dataset, missing)
    told = [
        _VERSION,
        dataset,
        # What came of the tokenizer are the words below; those of earlier versions stay the same.
        {name: value for name, value in settings.of_result().items() if name != "tokenizer"},
        vocabulary and list(vocabulary.words),
        [(one.image, one.split, one.captions) for one in parted],
        folder.states(one.image for one in parted),
    ]
    inputs = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    there = {split: some for split, some in splits.items() if some}
    return DatasetPlan(dataset, images, settings, vocabulary, there, len(named) - len(usable), inputs)


def _usable(example: Example, max_length: int) -> Example | None:
    captions = tuple(c for c in example.captions if 0 < len(c) <= max_length)
    return Example(example.image, example.split, captions) if captions else None
