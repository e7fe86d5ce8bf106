"""Numbers in names count as numbers, whatever else is in the names."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.natural_order import natural_key

TEXTS = st.text(alphabet=string.ascii_letters + "-_. /é大🐕\ud800", max_size=4)
NUMBERS = st.integers(min_value=0, max_value=10**30)


@pytest.mark.parametrize(
    "names",
    [
        ["img1.jpg", "img2.jpg", "img10.jpg", "img100.jpg"],
        ["1.png", "2.png", "10.png", "a1.png"],
        ["DSC9.JPG", "dsc10.jpg", "DSC11.JPG"],
        ["a-1-2.jpg", "a-1-10.jpg", "a-2-1.jpg"],
        ["IMG_20260131_9.jpg", "IMG_20260131_10.jpg", "IMG_20260201_1.jpg"],
        ["a.jpg", "a1.jpg", "a1b.jpg", "a2.jpg", "ab.jpg"],
        ["Bild 9.jpg", "bild 010.jpg", "Bild 11.jpg"],
        ["9", "10", "99999999999999999999", "100000000000000000000"],
    ],
)
def test_names_as_people_number_them(names: list[str]) -> None:
    mixed = names[::-1]
    mixed.sort(key=natural_key)
    assert mixed == names


@given(TEXTS, NUMBERS, NUMBERS, TEXTS)
def test_names_that_differ_in_one_number_sort_by_it(before: str, one: int, other: int, after: str) -> None:
    first, second = (natural_key(f"{before}{number}{after}") for number in (one, other))
    assert (first < second) == (one < other) and (first == second) == (one == other)


@given(TEXTS, NUMBERS, st.integers(min_value=0, max_value=5))
def test_zeros_before_a_number_and_case_make_no_difference(text: str, number: int, zeros: int) -> None:
    name = f"{text}{number}.jpg"
    assert natural_key(f"{text}{'0' * zeros}{number}.jpg") == natural_key(name)
    if text.isascii():
        assert natural_key(name.upper()) == natural_key(name.lower())


@given(st.lists(st.text(alphabet="aB0129.-é", max_size=6), max_size=8))
def test_it_is_the_order_of_texts_and_numbers_in_turn(names: list[str]) -> None:
    def parts(name: str) -> list[tuple[bytes, int]]:
        """Each character alone, and each number as a digit of that value."""
        found = re.findall(r"[0-9]+|[^0-9]", name.casefold())
        return [(b"0", int(part)) if part.isdecimal() else (part.encode(), 0) for part in found]

    assert sorted(names, key=natural_key) == sorted(names, key=parts)
