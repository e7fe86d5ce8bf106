"""Several things measured in turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to time: `run` does `amount` of work. What `run` has to prepare first, it may do untimed by
    returning the seconds itself."""

    name: str
    amount: float
    run: Callable[[], float | None]


@dataclass(frozen=True, slots=True)
class Rates:
    """Work a second of each contender, round by round."""

    of: dict[str, list[float]]

    def median(self, name: str) -> float:
        """The usual rate of a contender."""
        return statistics.median(self.of[name])

    def ratios(self, name: str, other: str) -> list[float]:
        """How many times faster `name` was than `other`, in each round."""
        return [a / b for a, b in zip(self.of[name], self.of[other], strict=True)]


def in_turns(contenders: Sequence[Contender], rounds: int) -> Rates:
    """Run every contender once a round, each round beginning with another one."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            rate = contender.amount / seconds(contender.run)
            rates[contender.name].append(rate)
            print(f"  round {number + 1}: {contender.name} {rate:.4g}/s", file=sys.stderr, flush=True)
    return Rates(rates)


def seconds(run: Callable[[], float | None]) -> float:
    """How long a call takes, by its own account if it gives one."""
    gc.collect()
    started = time.perf_counter()
    own = run()
    return time.perf_counter() - started if own is None else own
