"""Whether decoding gets on, told from outside: a decoder may hang for ever in a damaged file."""

from __future__ import annotations


class Pulse:
    """Counts the steps of reading in this process."""

    beats = 0

    def beat(self) -> None:
        """A packet has been read, or a frame decoded."""
        self.beats += 1


PULSE = Pulse()
