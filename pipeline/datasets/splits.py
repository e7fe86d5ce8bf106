"""Which picture is for training, which for validation, which for the test, where a data set does not say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from pipeline.datasets.annotations import SPLITS, Example
from pipeline.errors import WrongUsage

DEFAULT_SHARES = (0.8, 0.1, 0.1)


def parse_shares(text: str) -> tuple[float, float, float]:
    """The shares of train, val and test in "0.8,0.1,0.1". Raises WrongUsage for what are no shares of 1."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError as error:
        raise WrongUsage(f"splits are three shares, as in 0.8,0.1,0.1, not {text!r}") from error
    if not (train > 0 and val >= 0 and test >= 0 and abs(train + val + test - 1) < 1e-6):
        raise WrongUsage(f"the shares of the splits must add up to 1, with some for train; {text!r} do not")
    return train, val, test


def with_splits(
    examples: Sequence[Example], shares: tuple[float, float, float] | None, seed: int
) -> list[Example]:
    """Examples that all have a split: their own, or by `shares` where they have none.

    `shares` given means new splits for all of them; None means `DEFAULT_SHARES` for those without.

    A picture's split depends on its name and the seed alone. So pictures that come later leave the others
    where they are: what a model was trained on never becomes what the next one is tested with.
    """
    fixed = [example for example in examples if shares is None and example.split is not None]
    parted = shares or DEFAULT_SHARES
    places = {
        example.image: _place(example.image, seed)
        for example in examples
        if shares is not None or example.split is None
    }
    splits = {image: _split_at(place, parted) for image, place in places.items()}
    if not fixed:
        _fill_empty(splits, places, parted)
    return [replace(example, split=splits.get(example.image, example.split)) for example in examples]


def _place(image: str, seed: int) -> float:
    """A number of [0, 1) that belongs to the name, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{image}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7]) / 2**56


def _split_at(place: float, shares: tuple[float, float, float]) -> str:
    if place < shares[0]:
        return "train"
    return "val" if place < shares[0] + shares[1] else "test"


def _fill_empty(splits: dict[str, str], places: dict[str, float], shares: Sequence[float]) -> None:
    """Give a split that chance left empty (as happens with a dozen pictures) one picture of the largest."""
    for split, share in zip(SPLITS, shares, strict=True):
        there = list(splits.values())
        if share > 0 and split not in there and len(there) >= len(SPLITS):
            largest = max(SPLITS, key=there.count)
            splits[max((i for i in splits if splits[i] == largest), key=places.__getitem__)] = split


def missing_splits(examples: Sequence[Example]) -> str | None:
    """One line about the splits that have no picture, and what that means; None when all three have some."""
    there = {example.split for example in examples}
    missing = [split for split in SPLITS if split not in there]
    if not missing:
        return None
    needed = {"train": "to learn from", "val": "to choose the best epoch by", "test": "to evaluate with"}
    what = " and ".join(f"no {split} split ({needed[split]})" for split in missing)
    return f"there is {what}; --splits 0.8,0.1,0.1 makes all three anew"
