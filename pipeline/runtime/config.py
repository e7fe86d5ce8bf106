"""Settings for operators that no result depends on; each is read from ``GPUCAPT_<NAME>`` alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import WrongUsage
from pipeline.runtime.sizes import parse_size

_LONGEST_S = 10.0**6
"""Some days; what is infinite, or beyond what clocks can count, is no time to wait."""

Size = Annotated[int, BeforeValidator(parse_size)]


class Tuning(BaseSettings):
    """How to deal with storage, machine and clients. Times are seconds, sizes are bytes."""

    model_config = SettingsConfigDict(env_prefix="GPUCAPT_", env_ignore_empty=True, extra="ignore")

    s3_deadline: float = Field(default=300.0, gt=0, le=_LONGEST_S)
    """How long a request that fails for a passing reason is tried again."""
    s3_first_deadline: float = Field(default=10.0, gt=0, le=_LONGEST_S)
    """The same before the endpoint has answered at all: then its address is wrong, as a rule."""
    s3_connect_timeout: float = Field(default=10.0, gt=0, le=_LONGEST_S)
    s3_read_timeout: float = Field(default=60.0, gt=0, le=_LONGEST_S)
    """How long to wait for the next byte of an answer."""
    s3_connections: int = Field(default=64, ge=1)
    """Connections that are kept open."""
    s3_transfers: int = Field(default=8, ge=1)
    """Pieces of one file that are on their way at the same time."""
    s3_piece_size: Annotated[int, BeforeValidator(partial(parse_size, least=64 << 10))] = 8 << 20
    """How much of a large object one request fetches."""
    s3_part_size: Annotated[int, BeforeValidator(partial(parse_size, least=5 << 20))] = 16 << 20
    """Files larger than this are uploaded in parts of this size."""
    s3_verify: bool = True
    """Compare what is read with the object's checksum; for stores whose ETags look like MD5 but are not."""
    spool: Path | None = None
    """Where films of remote storage are kept while they are read; None is the folder for temporary files."""
    spool_size: Size = 20 * 10**9
    """How much of them is kept at most by one worker (and never more than half of what the disk has free)."""
    cache: Path | None = None
    """Where models from remote storage are kept; None is gpucapt's folder in the user's cache."""
    models: str | None = None
    """The registry of models: a folder or a prefix of an object store; None is none."""
    serve_image_size: Size = 20 * 10**6
    """The largest picture that the server takes."""
    serve_image_pixels: int = Field(default=50_000_000, gt=0)
    serve_images: int = Field(default=16, ge=1)
    """Pictures in one request."""
    serve_video_size: Size = 500 * 10**6
    """The largest film that the server takes."""
    serve_video_seconds: float = Field(default=600.0, gt=0, le=_LONGEST_S)
    serve_text_length: int = Field(default=20_000, ge=1, le=20_000)
    """Characters of a text that a story is told from."""
    serve_queue: int = Field(default=64, ge=1)
    """Pictures that wait for the model; who comes then is told to come again."""
    serve_videos: int = Field(default=4, ge=1)
    """Films that wait or are being captioned."""
    serve_keep: float = Field(default=3600.0, gt=0, le=_LONGEST_S)
    """How long what came of a film can be fetched from the server."""
    serve_grace: float = Field(default=30.0, ge=0, le=_LONGEST_S)
    """How long a server that is to end goes on with what it has begun."""
    serve_allow: str | None = None
    """Prefixes of object stores that clients may name objects below, separated by commas."""
    decode_timeout: float = Field(default=120.0, ge=1, le=_LONGEST_S)
    """How long a decoder may stand still in a file before it is taken to hang."""
    lease: float = Field(default=60.0, ge=1, le=_LONGEST_S)
    """For how long a source stays with a worker that is not heard of."""


def tuning() -> Tuning:
    """The settings as the environment has them now. Raises WrongUsage for what makes no sense."""
    try:
        return Tuning()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "GPUCAPT_" + "_".join(map(str, wrong["loc"])).upper()
        why = f"it {wrong['ctx']['error']}" if wrong["type"] == "value_error" else wrong["msg"].lower()
        raise WrongUsage(f"{name} is {wrong['input']!r}: {why}") from error
