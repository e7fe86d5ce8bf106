"""What a task knows of its environment: settings for the scheduler, and what is handed on to gpucapt."""

from __future__ import annotations

import os
import re
from fractions import Fraction

from airflow.sdk import Connection


def setting(name: str) -> str | None:
    """``GPUCAPT_<NAME>``, or None where it is not set or empty."""
    return os.environ.get(f"GPUCAPT_{name}") or None


def settings_in(name: str) -> list[str]:
    """The parts of a setting that is a list, separated by commas."""
    return [part for part in (text.strip() for text in (setting(name) or "").split(",")) if part]


SIZE = re.compile(r"([0-9]{1,40}(?:\.[0-9]{1,40})?) *(?:([kmgtpe])(i?)(b?)|b)?", re.ASCII | re.IGNORECASE)


def bytes_in(name: str, default: str) -> int:
    """A setting that is a size such as ``512M`` or ``8G``, in bytes.

    It means what it means to gpucapt; the DAGs cannot import its ``parse_size`` (pipeline/runtime/sizes.py).
    """
    text = setting(name) or default
    match = SIZE.fullmatch(text.strip())
    if match is not None:
        number, prefix, binary, byte = match.groups()
        power = "KMGTPE".index(prefix.upper()) + 1 if prefix else 0
        size = int(Fraction(number) * (1000 if byte and not binary else 1024) ** power)
        if 1 <= size < 1 << 63:
            return size
    raise ValueError(
        f"GPUCAPT_{name} is {text!r}; it must be a size such as 512M or 2GB, at least 1 and below 8E: bytes,"
        " or a number with K, M, G or T (powers of 1024) or KB, MB, GB or TB (powers of 1000)"
    )


def whole_number(name: str, default: int) -> int:
    """A setting that is a whole number above 0."""
    text = setting(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"GPUCAPT_{name} is {text!r}; it must be a whole number above 0")
    return int(text)


SCHEDULERS_OWN = re.compile(
    r"GPUCAPT_(RUNNER|COMMAND|IMAGE|GPUS|GPU_POOL|TRAINING_GPUS|SHM_SIZE|SCHEDULE|QUEUE_URL|AWS_CONN_ID|STORY_CONN_ID"
    r"|RETRIES|RETRY_DELAY|INCOMING|DESTINATION|DATASET|IMAGES|DATA|TRAININGS|DATASET_QUEUE_URL"
    r"|PREPROCESS_SCHEDULE|RETRAIN_SCHEDULE|RESULT_FILE|DOCKER_.*|KUBERNETES_.*)"
)
"""Settings that say how tasks are run; gpucapt itself has no use for them."""


SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|CREDENTIALS)(_|$)")


OPENAI = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"}
"""What stories by a language model are told with, beside the settings of gpucapt."""


def handed_on() -> dict[str, str]:
    """What a container gets of this process's environment: gpucapt's settings, access to S3 and OpenAI."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if (name.startswith(("AWS_", "GPUCAPT_")) or name in OPENAI)
        and value
        and not SCHEDULERS_OWN.fullmatch(name)
    }


def story_access() -> dict[str, str]:
    """Settings for stories by a language model, out of the connection that ``GPUCAPT_STORY_CONN_ID`` names.

    Its password is the key, its host the endpoint's URL. To be called while a task runs: connections may come
    from a secrets backend. Raises AirflowNotFoundException where there is none of that name.
    """
    name = setting("STORY_CONN_ID")
    if name is None:
        return {}
    found = Connection.get(name)
    access = {"GPUCAPT_STORY_BASE_URL": found.host, "GPUCAPT_STORY_API_KEY": found.password}
    return {name: value for name, value in access.items() if value}
