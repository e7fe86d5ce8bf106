"""What the DAGs have in common: fields of the trigger form, and how they become options of a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from worker_environment import setting, settings_in

PLACE = r"^(s3://[A-Za-z0-9][A-Za-z0-9._-]*(/|$)|file:///|/)"
WHERE = "A folder (absolute path) or `s3://bucket/prefix`"
ONE_FILE = "A file (absolute path) or `s3://bucket/key`"


def number(name: str, default: float | None, kind: type[int] | type[float] = float) -> float | None:
    """A setting that is a number."""
    text = setting(name)
    if text is None:
        return default
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"GPUCAPT_{name} is {text!r}; it must be a number") from None


def place(name: str, title: str, description: str) -> Param:
    """A file or folder; without a default the trigger form insists on a value."""
    default: dict[str, Any] = {"default": given} if (given := setting(name)) else {}
    return Param(**default, type="string", pattern=PLACE, title=title, description_md=description)


def beam_size() -> Param:
    """How wide captions are searched for."""
    return Param(
        number("BEAM_SIZE", 5, int),
        type="integer",
        minimum=1,
        maximum=50,
        title="Beam size",
        description_md="Sentences kept in view while a caption is written: 1 is fast, 5 is good.",
    )


def patterns(name: str, title: str, description: str) -> Param:
    """Patterns of names, one a line of the form, which may be empty; in the setting parted by commas."""
    return Param(
        settings_in(name) or None,
        type=["null", "array"],
        items={"type": "string"},
        title=title,
        description_md=description,
    )


def retries() -> dict[str, Any]:
    """The default arguments of a DAG whose tasks may all be run again."""
    return {
        "retries": number("RETRIES", 2, int),
        "retry_delay": timedelta(seconds=number("RETRY_DELAY", 30.0) or 0),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
    }


def options(params: Mapping[str, Any], *names: str) -> list[str]:
    """``--name=value`` for each of these fields that is not empty, and each of its values where it is a list.

    Each is one argument.
    """
    return [
        f"--{name.replace('_', '-')}={value}"
        for name in names
        for value in (params[name] if isinstance(params[name], list) else [params[name]])
        if value not in (None, "")
    ]


def answer(command: str, printed: object, **wanted: type) -> Mapping[str, Any]:
    """What a command printed last, a JSON object with these fields. Some runners hand it on parsed."""
    try:
        found = json.loads(printed) if isinstance(printed, str) else printed
        if isinstance(found, Mapping) and all(isinstance(found[name], kind) for name, kind in wanted.items()):
            return found
    except (ValueError, KeyError):
        pass
    fields = ", ".join(wanted)
    raise AirflowFailException(
        f"the last line of `gpucapt {command}` is not JSON with {fields}: {str(printed)[:200]!r}"
    )
