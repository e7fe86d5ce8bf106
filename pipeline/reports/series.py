"""Confidence over the whole source, kept in a bounded number of steps for the plot."""

from __future__ import annotations

from dataclasses import dataclass

MOST_STEPS = 800


@dataclass(slots=True)
class _Step:
    x: float
    count: int
    total: float
    low: float
    high: float


class Series:
    """Values in the order of x; when there are too many, neighbours are joined into one step, two by two."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._per_step = 1

    def add(self, x: float, value: float) -> None:
        """Take the next value, at ``x``."""
        last = self._steps[-1] if self._steps else None
        if last is None or last.count >= self._per_step:
            self._steps.append(_Step(x, 1, value, value, value))
        else:
            last.count += 1
            last.total += value
            last.low, last.high = min(last.low, value), max(last.high, value)
        if len(self._steps) > MOST_STEPS:
            self._join_pairs()

    def points(self) -> list[list[float]]:
        """Return each step as ``[x, mean, lowest, highest]``."""
        return [
            [round(step.x, 3), round(step.total / step.count, 3), round(step.low, 3), round(step.high, 3)]
            for step in self._steps
        ]

    def _join_pairs(self) -> None:
        # All steps but the last are full, so joined ones all stand for the same number of values.
        joined: list[_Step] = []
        for index in range(0, len(self._steps) - 1, 2):
            one, two = self._steps[index], self._steps[index + 1]
            total, low, high = one.total + two.total, min(one.low, two.low), max(one.high, two.high)
            joined.append(_Step(one.x, one.count + two.count, total, low, high))
        if len(self._steps) % 2:
            joined.append(self._steps[-1])
        self._steps = joined
        self._per_step *= 2
