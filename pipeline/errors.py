"""What can be wrong with an input."""

from __future__ import annotations

import unicodedata

from model.errors import GpucaptError


class BadInput(GpucaptError):
    """This one input cannot be used.

    It is set aside with the message as its reason, and the run goes on with the others. The message
    names the input and says what is wrong with it; whatever the input is called, it stays one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Archived(BadInput):
    """This input is out of reach until somebody restores it: it is left where it is, for a later run."""


class StorageUnavailable(GpucaptError):
    """The storage itself does not answer, or refuses us as a whole: it is no input's fault.

    It ends the run, which can be repeated later; no source is set aside for it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class WrongUsage(GpucaptError):
    """What was asked for, or set, cannot be meant: the command line ends with 2 instead of 1."""


def one_line(text: str) -> str:
    """Text as one line of a terminal: what controls it or cannot be seen (such as changes of the
    direction of writing), line ends and stray bytes become escapes."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _ESCAPED else char
        for char in text
    )


_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
