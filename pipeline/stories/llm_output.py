"""What a language model answers, made a turn of a story; or found to be of no use."""

from __future__ import annotations

import re
import unicodedata
import zlib

_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHTS_BEFORE = re.compile(r"\A.*</(think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
_OPENS_THOUGHTS = ("<think>", "<thinking>", "<reasoning>")
_PREAMBLE = re.compile(
    r"\A(sure|certainly|of course|here(?: is|'s|’s))\b[^\n]{0,100}:[ \t]*\n+", re.IGNORECASE
)
_TITLE = re.compile(r"\A(?:#+[ \t]+[^\n]*|\*\*[^\n*]{1,100}\*\*|title:[^\n]*)[ \t]*\n+", re.IGNORECASE)
_FENCES = re.compile(r"^[ \t]*```[^\n]*$", re.MULTILINE)
_HEADINGS = re.compile(r"^#+[ \t]+", re.MULTILINE)
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]]*(?=\s|\Z)|[。！？]")

_LEAST_WORDS = 3
_LEAST_LETTERS = 0.5
_REPETITIVE = 5.0
"""How much more than so a story never shrinks when it is compressed: prose does by 1.5 to 2.5."""
_LONG_ENOUGH = 200


def story_text(answer: str, *, cut_off: bool) -> str:
    """Return what an answer tells, without title or markup; one that was cut off ends with a sentence."""
    text = _THOUGHTS.sub("", answer.replace("\r\n", "\n"))
    text = _THOUGHTS_BEFORE.sub("", text)  # where a chat template has opened them
    text = _TITLE.sub("", _PREAMBLE.sub("", _FENCES.sub("", without_controls(text)).lstrip()))
    text = _EMPHASIS.sub(r"\1", _STRONG.sub(r"\2", _HEADINGS.sub("", text)))
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    text = "\n\n".join(part for part in paragraphs if part)
    return _whole_sentences(text) if cut_off else text


def without_controls(text: str) -> str:
    """Return a text without what a terminal might obey."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))


def problem_with(text: str, before: tuple[str, ...]) -> str | None:
    """Return what makes a text no turn of a story, in a few words; None where it may be one."""
    if not text:
        return "answered nothing"
    letters = sum(unicodedata.category(char)[0] in "LM" for char in text)
    visible = sum(not char.isspace() for char in text)
    if letters < _LEAST_LETTERS * visible or "\ufffd\ufffd" in text:
        return "answered nonsense"
    # Some languages are written without spaces.
    if len(text.split()) < _LEAST_WORDS and letters < 4 * _LEAST_WORDS:
        return "answered next to nothing"
    packed = text.encode()
    if len(packed) >= _LONG_ENOUGH and len(packed) / len(zlib.compress(packed, 9)) > _REPETITIVE:
        return "says the same again and again"
    if text in before:
        return "repeats an earlier turn"
    return None


class Listening:
    """Passes on what comes of an answer, except thoughts that it may begin with."""

    def __init__(self) -> None:
        self._waiting: str | None = ""

    def hear(self, piece: str) -> str:
        """Return what of the answer can be told by now."""
        if self._waiting is None:
            return piece
        self._waiting += piece
        text = self._waiting.lstrip()
        if any(opening.startswith(text[: len(opening)].lower()) for opening in _OPENS_THOUGHTS):
            text = _THOUGHTS.sub("", text).lstrip() if _closed(text) else ""
        if text:
            self._waiting = None
        return text


def _closed(text: str) -> bool:
    return any(f"</{opening[1:]}" in text.lower() for opening in _OPENS_THOUGHTS)


def _whole_sentences(text: str) -> str:
    """A text that was cut off, up to its last sentence; where that leaves little, with an ellipsis."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if ends and ends[-1] >= 0.4 * len(text):
        return text[: ends[-1]].rstrip()
    return f"{text.rstrip(' ,;:-–')}…" if text else text
