"""Numbers and times as people say them."""

from __future__ import annotations

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_TENS = {30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety"}


def number(value: int) -> str:
    """Return small whole numbers as words ("seven", "twenty-five"), from a hundred on as digits ("1,200")."""
    if 0 <= value <= 20:
        return _ONES[value]
    if value < 100:
        tens, ones = value // 10 * 10, value % 10
        word = "twenty" if tens == 20 else _TENS[tens]
        return f"{word}-{_ONES[ones]}" if ones else word
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Return a length of time as people say it: "ten seconds", "about a minute and a half", "half an hour".

    Words that sound exact are used only within a few per cent of the truth; else "about" comes first.
    """
    if seconds < 1.5:
        return "a second" if seconds >= 0.75 else "a moment"
    rounded, words = _nearest(seconds)
    exact = abs(seconds - rounded) <= max(0.25, 0.02 * rounded)
    return words if exact else f"about {words}"


def _nearest(seconds: float) -> tuple[float, str]:
    if seconds < 20.5:
        return round(seconds), f"{number(round(seconds))} seconds"
    if seconds < 52.5:
        tidy = round(seconds / 5) * 5
        return tidy, "half a minute" if tidy == 30 else f"{number(tidy)} seconds"
    if seconds < 57.5 * 60:
        return _minutes(seconds)
    return _hours(seconds)


def _minutes(seconds: float) -> tuple[float, str]:
    minutes = seconds / 60
    if minutes < 4.75:
        halves = max(round(minutes * 2), 2)
        return halves * 30, _halves(halves, "a minute", "minutes")
    tidy = round(minutes) if minutes < 20.5 else round(minutes / 5) * 5
    special = {30: "half an hour", 45: "three quarters of an hour"}
    return tidy * 60, special.get(tidy, f"{number(tidy)} minutes")


def _hours(seconds: float) -> tuple[float, str]:
    hours = seconds / 3600
    if hours < 4.75:
        halves = max(round(hours * 2), 2)
        return halves * 1800, _halves(halves, "an hour", "hours")
    return round(hours) * 3600, f"{number(round(hours))} hours"


def _halves(halves: int, one: str, many: str) -> str:
    whole, half = divmod(halves, 2)
    if whole == 1:
        return f"{one} and a half" if half else one
    return f"{number(whole)} and a half {many}" if half else f"{number(whole)} {many}"
