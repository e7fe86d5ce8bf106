"""What the operators of all runners share: their arguments, and what an exit code means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from airflow.sdk import XComArg
from airflow.sdk.exceptions import AirflowException, AirflowFailException

Arguments = Sequence[str] | XComArg | Callable[..., list[str]]
Gpus = Literal["none", "one", "all"]

WRONG_USAGE = 2
"""The exit code of wrong usage, which no further try mends."""
SECONDS_TO_STOP = 20.0
"""How long a command that is asked to end may take, before it is killed."""


def failure(arguments: Sequence[str], code: int, said: str) -> Exception:
    """The error of a task whose command ended with ``code``; ``said`` is the last line it had to say."""
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    message = f"gpucapt {' '.join(arguments[:2])} {ended}" + (f": {said}" if said else "")
    return AirflowFailException(message) if code == WRONG_USAGE else AirflowException(message)
