"""The patterns of .gitignore, as people give them to name files and folders under SOURCE.

Written here because of what libraries for .gitignore do with a single pattern of a command line: they take
``#recycle`` for a comment, pass over what is no pattern without a word, and stop at line breaks in names.
"""

from __future__ import annotations

import re

from model.errors import GpucaptError

_MOST_DEPTHS = 3
"""With each more, to compare a deep path takes many times as long."""


class Pattern:
    """One pattern; case counts.

    Without a slash, except for one at its end, it is compared with the name of each file and folder, at any
    depth; with one, with the path from SOURCE on. A slash at its end: folders alone. ``*``, ``?`` and
    ``[a-z]`` stand for characters of one name, ``**`` as a whole part for any number of folders; ``\\`` takes
    the next character as it is.
    """

    def __init__(self, text: str) -> None:
        """Raises GpucaptError, in one line, for what is no pattern."""
        self.text = text
        self._is_of_folders = text.endswith("/")
        try:
            self._path = re.compile(_path(text), re.DOTALL)
        except (ValueError, re.error) as error:
            raise GpucaptError(f"{text!r} is no pattern of names: {error}") from None

    def names(self, path: str, *, is_folder: bool) -> bool:
        """Whether the pattern names this file or folder itself; what lies in such a folder it does not."""
        return (is_folder or not self._is_of_folders) and self._path.fullmatch(path) is not None


def _path(text: str) -> str:
    """The regular expression for the paths that a pattern names. Raises ValueError."""
    if text.startswith("!"):
        raise ValueError("it cannot begin with '!'; where the name does, write \\!")
    if "\0" in text:
        raise ValueError("no name holds a NUL")
    body = text.removesuffix("/")
    *folders, name = body.removeprefix("/").split("/")
    if "" in (*folders, name):
        raise ValueError("a part of it is empty")
    if {".", ".."}.intersection((*folders, name)):
        raise ValueError("it must not have '.' or '..' among its parts")
    if "/" not in body:
        folders = ["**"]
        name = "*" if name == "**" else name
    folders = [
        part for part, before in zip(folders, ["", *folders], strict=False) if {part, before} != {"**"}
    ]
    if [*folders, name].count("**") > _MOST_DEPTHS:
        raise ValueError(f"it has '**' more than {_MOST_DEPTHS} times")
    found = "".join("(?:[^/]+/)*" if part == "**" else f"{_name(part)}/" for part in folders)
    return found + (".+" if name == "**" else _name(name))


def _name(text: str) -> str:
    """The regular expression for one name. Raises ValueError.

    What stands between two stars is looked for where it first fits, and nowhere else: nothing is missed by
    that, and many stars cost no more than one.
    """
    pieces = [""]
    """What stands before, between and behind the stars."""
    at = 0
    while at < len(text):
        character, at = text[at], at + 1
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "[^/]"
        elif character == "[":
            end = text.find("]", at + (2 if text[at : at + 1] in ("!", "^") else 1))
            if end < 0:
                raise ValueError("a '[' has no ']'; for the character itself write \\[")
            pieces[-1] += _one_of(text[at:end])
            at = end + 1
        else:
            if character == "\\":
                if at == len(text):
                    raise ValueError("nothing follows the last '\\'")
                character, at = text[at], at + 1
            pieces[-1] += re.escape(character)
    first, *middle = pieces
    if not middle:
        return first
    last = middle.pop()
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle if piece) + f"[^/]*{last}"


def _one_of(text: str) -> str:
    """What stands in brackets: ``abc``, ``a-z``, ``!abc``."""
    negated = text[0] in "!^"
    ends = re.sub(r"(.)-(.)|(.)", _escaped, text[negated:], flags=re.DOTALL)
    return f"(?!/)[{'^' if negated else ''}{ends}]"


def _escaped(match: re.Match[str]) -> str:
    one, other, alone = match.groups()
    return re.escape(alone) if alone is not None else f"{re.escape(one)}-{re.escape(other)}"
