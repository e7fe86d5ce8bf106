"""How sure the model was of a caption, as one number that captions of all lengths share."""

from __future__ import annotations

import math

UNSURE_BELOW = 0.3
"""Captions of lower confidence are marked, where a checkpoint does not say: look at these first."""


def confidence(log_prob: float, word_count: int) -> float:
    """Return the geometric mean of the probabilities of the caption's words and of its end, between 0 and 1.

    ``log_prob`` is the natural logarithm of the whole caption's probability, which shrinks with every word;
    the mean over ``word_count + 1`` steps (the end of the caption is predicted too) does not.
    """
    return min(1.0, math.exp(log_prob / (word_count + 1)))
