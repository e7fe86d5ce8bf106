"""POST /v1/captions: pictures in, captions out."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.confidence import confidence
from pipeline.web.engine import Engine, EngineStopped, QueueFull
from pipeline.web.errors import RequestFailed, as_failed, busy, in_words, unavailable
from pipeline.web.limits import Limits
from pipeline.web.multipart import Form, Room, UploadedStill, UploadSink, read_form
from pipeline.web.pictures import named_object, prepared
from pipeline.web.schemas import Captions, failures

if TYPE_CHECKING:
    from model.captioner import Caption, Captioner
    from pipeline.captioning.messages import Picture

_MOST_BEAMS, _MOST_WORDS = 10, 100


class CaptionOptions(BaseModel):
    """The form's other fields."""

    model_config = ConfigDict(extra="forbid")

    beam_size: Annotated[int, Field(ge=1, le=_MOST_BEAMS, description="Hypotheses of the search.")] = 5
    max_length: Annotated[int, Field(ge=1, le=_MOST_WORDS, description="Words, at most.")] = 40
    alternatives: Annotated[
        int, Field(ge=0, lt=_MOST_BEAMS, description="Other captions of the beam to tell; below beam_size.")
    ] = 0
    attention: Annotated[bool, Field(description="Whether to tell where each word looked.")] = False

    @model_validator(mode="after")
    def _fits_beam(self) -> CaptionOptions:
        if self.alternatives >= self.beam_size:
            raise ValueError("alternatives must be less than beam_size: a beam holds no more captions")
        return self


@dataclass(frozen=True, slots=True)
class _Image:
    """A picture of a request: what to call it, and it or what is wrong with it."""

    name: str
    picture: Picture | None = None
    failed: RequestFailed | None = None


def captions_router(engine: Engine, limits: Limits, pool: Executor) -> APIRouter:
    """The path, with ``pool`` decoding."""
    router = APIRouter(tags=["captions"])
    room = Room(limits.held_bytes)

    @router.post(
        "/v1/captions",
        summary="Caption pictures",
        response_model=Captions,
        responses={**failures(400, 401, 403, 404, 408, 413, 415, 422, 429, 503), 200: _example()},
        openapi_extra={"requestBody": _body()},
    )
    async def caption_images(request: Request) -> Response:
        """Caption up to so many pictures as `/v1/models` says, uploaded or named by s3:// URI.

        A picture that cannot be used costs itself alone; where none can be, the status is the first one's.
        """
        captioner = loaded(engine)
        if not engine.has_room():
            raise busy("too many pictures wait already")
        with room.taken(request, limits.request_bytes):
            form = await read_form(
                request, lambda field, name: _still(field, name, limits), most_bytes=limits.request_bytes
            )
            uris = form.fields.pop("uris", [])
            options = _options(form)
            _check_count(len(form.files) + len(uris), limits)
            images = await _all_prepared(form, uris, captioner, limits, pool)
        found = await _captions(engine, [one.picture for one in images if one.picture is not None], options)
        if not found:
            assert images[0].failed is not None
            raise images[0].failed
        captions = iter(found)
        told = [
            {"image": one.name, **one.failed.content}
            if one.failed is not None
            else {"image": one.name, **_told(next(captions), options)}
            for one in images
        ]
        return JSONResponse(
            {"model": engine.model.name, "model_version": engine.model.version, "captions": told}
        )

    return router


def loaded(engine: Engine) -> Captioner:
    """The model. Raises RequestFailed while it is loading."""
    if engine.captioner is None:
        raise unavailable("loading", "the model is being loaded; try again in some seconds")
    return engine.captioner


def _check_count(count: int, limits: Limits) -> None:
    if count == 0:
        raise RequestFailed(422, "invalid_request", "there is no picture: send some as images")
    if count > limits.images:
        raise RequestFailed(413, "too_many_images", f"at most {limits.images} pictures in one request")


def _still(field: str, name: str, limits: Limits) -> UploadSink:
    if field != "images":
        raise RequestFailed(422, "invalid_request", f"there is no field for files named {field!r}: images is")
    return UploadedStill(name, limits.image_bytes)


def _options(form: Form) -> CaptionOptions:
    try:
        return CaptionOptions.model_validate(form.single(set(CaptionOptions.model_fields)))
    except ValidationError as error:
        raise RequestFailed(422, "invalid_request", in_words(error.errors())) from error


async def _all_prepared(
    form: Form, uris: list[str], captioner: Captioner, limits: Limits, pool: Executor
) -> list[_Image]:
    loop = asyncio.get_running_loop()

    async def upload(still: UploadedStill) -> _Image:
        if still.failed is not None:
            return _Image(still.name, failed=still.failed)
        return await loop.run_in_executor(pool, _decoded, still, captioner, limits)

    stills = [upload(still) for still in form.files if isinstance(still, UploadedStill)]
    objects = [loop.run_in_executor(pool, _fetched, uri, captioner, limits) for uri in uris]
    return list(await asyncio.gather(*stills, *objects))


def _decoded(still: UploadedStill, captioner: Captioner, limits: Limits) -> _Image:
    data, still.data = bytes(still.data), bytearray()
    try:
        return _Image(still.name, prepared(data, still.name or "the picture", captioner, limits))
    except Exception as error:
        return _Image(still.name, failed=as_failed(error))


def _fetched(uri: str, captioner: Captioner, limits: Limits) -> _Image:
    try:
        storage, entry = named_object(uri, limits, limits.image_bytes)
        data = storage.read(entry.key, etag=entry.etag)
        return _Image(uri, prepared(data, uri, captioner, limits))
    except Exception as error:
        return _Image(uri, failed=as_failed(error))


async def _captions(engine: Engine, pictures: list[Picture], options: CaptionOptions) -> list[Caption]:
    if not pictures:
        return []
    try:
        future = engine.caption(
            pictures,
            beam_size=options.beam_size,
            max_length=options.max_length,
            alternatives=options.alternatives,
        )
        found = await asyncio.wrap_future(future)
    except QueueFull as error:
        raise busy("too many pictures wait already") from error
    except EngineStopped as error:
        raise unavailable("ending", str(error)) from error
    if not all(math.isfinite(caption.log_prob) for caption in found):
        raise RequestFailed(
            500, "internal_error", "the model computes no finite numbers; use --precision fp32"
        )
    return found


def _told(caption: Caption, options: CaptionOptions) -> Mapping[str, Any]:
    told: dict[str, Any] = {
        "caption": caption.text,
        "words": list(caption.words),
        "log_prob": round(caption.log_prob, 4),
        "probability": math.exp(caption.log_prob),
        "confidence": round(confidence(caption.log_prob, len(caption.words)), 4),
        "alternatives": [
            {
                "caption": other.text,
                "log_prob": round(other.log_prob, 4),
                "probability": math.exp(other.log_prob),
            }
            for other in caption.alternatives
        ],
    }
    if options.attention:
        _, rows, columns = caption.attention.shape
        maps = [base64.b64encode(one.tobytes()).decode("ascii") for one in caption.attention]
        told["attention"] = {"rows": rows, "columns": columns, "maps": maps}
    return told


def _example() -> dict[str, Any]:
    caption = {
        "image": "beach.jpg",
        "caption": "a dog runs on the beach",
        "words": ["a", "dog", "runs", "on", "the", "beach"],
        "log_prob": -5.2831,
        "probability": 0.005077,
        "confidence": 0.4701,
        "alternatives": [],
    }
    failed = {
        "image": "notes.txt",
        "error": {"code": "unsupported_image", "message": "notes.txt: not a picture"},
    }
    answer = {"model": "captions", "model_version": "98e25c390b0a", "captions": [caption, failed]}
    return {"content": {"application/json": {"example": answer}}}


def _body() -> dict[str, Any]:
    """The form, which is read by hand, for the OpenAPI document."""
    options = CaptionOptions.model_json_schema()["properties"]
    picture = {"type": "string", "format": "binary"}
    properties = {
        "images": {"type": "array", "items": picture, "description": "Pictures: JPEG, PNG, WebP, …"},
        "uris": {
            "type": "array",
            "items": {"type": "string", "examples": ["s3://bucket/prefix/picture.jpg"]},
            "description": "Pictures in an object store, below prefixes that the operator allowed.",
        },
        **options,
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
