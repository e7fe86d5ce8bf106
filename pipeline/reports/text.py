"""Text as the output files hold it: always valid UTF-8, always valid JSON."""

from __future__ import annotations

import json
import re

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_WHITE_SPACE = re.compile(r"\s+")

# Valid inside JSON, but line breaks to Python's splitlines(), to JavaScript and to many editors.
_LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}

# In a script element a '<' could begin "</script" or "<!--", whatever the JSON means by it.
_MARKUP = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def printable(text: str) -> str:
    """Return ``text`` with what UTF-8 cannot hold (file names of undecodable bytes) replaced by U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATES.sub("\ufffd", text)


def single_spaced(text: str) -> str:
    """Return ``text`` with every run of white space, line breaks included, as one space."""
    return _WHITE_SPACE.sub(" ", text).strip()


def json_line(value: object) -> str:
    """Return ``value`` as JSON on one line, readable where UTF-8 can hold it, escaped where it cannot."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isascii():
        return text
    if _LONE_SURROGATES.search(text):
        text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.translate(_LINE_BREAKS)


def script_json(value: object) -> str:
    """Return ``value`` as JSON that is safe inside an HTML script element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_MARKUP)


def duration(seconds: float) -> str:
    """Return a length of time as tables show it: ``0.8 s``, ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 0.05:
        return "less than 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minute} min"
    return f"{minutes} min {second} s" if minutes else f"{second} s"
