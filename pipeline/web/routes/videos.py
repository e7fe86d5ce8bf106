"""/v1/videos: films in, captions as they come, files in the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import BadInput
from pipeline.media.decoder import FrameDecoder
from pipeline.records.settings import CaptionSettings
from pipeline.web.engine import Engine
from pipeline.web.errors import RequestFailed, in_words
from pipeline.web.limits import Limits
from pipeline.web.multipart import FilmSink, Form, UploadSink, read_form
from pipeline.web.pictures import named_object
from pipeline.web.routes.captions import loaded
from pipeline.web.routes.stories import providers
from pipeline.web.schemas import Accepted, Video, failures
from pipeline.web.video_jobs import Film, Films, selection_of

_MEDIA_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown; charset=utf-8",
    ".srt": "application/x-subrip",
    ".vtt": "text/vtt; charset=utf-8",
}


class VideoOptions(BaseModel):
    """The form's other fields. Which frames: one of every, fps and scenes."""

    model_config = ConfigDict(extra="forbid")

    every: Annotated[
        float | None,
        Field(
            ge=0.01, le=3600, allow_inf_nan=False, description="A frame each so many seconds; 1 if none says"
        ),
    ] = None
    fps: Annotated[float | None, Field(gt=0, le=100, allow_inf_nan=False, description="Frames a second.")] = (
        None
    )
    scenes: Annotated[bool, Field(description="A frame of each scene.")] = False
    max_frames: Annotated[int | None, Field(ge=1, le=1_000_000, description="Frames, at most.")] = None
    story: Annotated[str, Field(max_length=50, description="Who tells the story: a provider, or none.")] = (
        "outline"
    )


def videos_router(engine: Engine, films: Films, limits: Limits) -> APIRouter:
    """The paths."""
    router = APIRouter(prefix="/v1/videos", tags=["videos"])

    @router.post(
        "",
        status_code=202,
        summary="Caption a film",
        response_model=Accepted,
        responses={**failures(400, 401, 403, 404, 408, 413, 415, 422, 429, 503), 202: _links()},
        openapi_extra={"requestBody": _body()},
    )
    async def caption_video(request: Request) -> Response:
        """Begin to caption a film, uploaded or named by an s3:// URI; ask for it by its id then."""
        loaded(engine)
        film = films.begin()
        try:
            form = await _received(request, film, limits)
            film.settings = _settings(_options(form), engine, limits)
            await asyncio.to_thread(_check, film, form.fields.get("uri", [None])[0], limits)
        except BaseException:
            films.drop(film)
            raise
        films.submit(film)
        return JSONResponse(
            {"id": film.id, "status": "queued"}, 202, headers={"Location": f"/v1/videos/{film.id}"}
        )

    @router.get("/{id}", summary="How far a film is", response_model=Video, responses=failures(401, 404, 422))
    async def video_state(
        id: str, after: Annotated[int, Query(ge=0, le=10**9, description="Captions that are known.")] = 0
    ) -> Response:
        return JSONResponse(films.find(id).told(after))

    @router.get(
        "/{id}/files/{name}",
        summary="A file that came of a film",
        response_class=FileResponse,
        responses=failures(401, 404),
    )
    async def video_file(id: str, name: str) -> Response:
        film = films.find(id)
        if name not in film.files:
            raise RequestFailed(404, "not_found", "there is no such file of that film")
        kind = _MEDIA_TYPES[Path(name).suffix]
        return FileResponse(film.outputs / name, media_type=kind, filename=name)

    @router.delete(
        "/{id}",
        status_code=204,
        summary="Cancel a film, or forget it",
        responses=failures(401, 404),
        response_class=Response,
    )
    async def forget_video(id: str) -> Response:
        await asyncio.to_thread(films.drop, films.find(id))
        return Response(status_code=204)

    return router


async def _received(request: Request, film: Film, limits: Limits) -> Form:
    """Read the form; a film in it goes to the state folder."""
    path = film.folder / "in" / "upload"
    with path.open("xb") as file:

        def open_file(field: str, name: str) -> UploadSink:
            if field != "video":
                raise RequestFailed(422, "invalid_request", f"there is no field for files named {field!r}")
            if film.path is not None:
                raise RequestFailed(422, "invalid_request", "send one film at a time")
            film.path = path
            return FilmSink(name, limits.video_bytes, file)

        most = limits.video_bytes + (64 << 10)
        form = await read_form(request, open_file, most_bytes=most, in_thread=True)
    if (film.path is None) == ("uri" not in form.fields):
        raise RequestFailed(422, "invalid_request", "send a film as video, or name one by uri")
    return form


def _options(form: Form) -> VideoOptions:
    given = form.single({*VideoOptions.model_fields, "uri"})
    given.pop("uri", None)
    try:
        options = VideoOptions.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        raise RequestFailed(422, "invalid_request", in_words(error.errors())) from error
    if options.story not in (*providers(), "none"):
        raise RequestFailed(422, "unknown_provider", f"nobody called {options.story!r} tells stories here")
    return options


def _settings(options: VideoOptions, engine: Engine, limits: Limits) -> CaptionSettings:
    selection = selection_of(
        options.every, options.fps, options.scenes, options.max_frames, limits.video_seconds
    )
    return CaptionSettings(selection, precision=engine.precision, story=options.story)


def _check(film: Film, uri: str | None, limits: Limits) -> None:
    """Give the film its name by what it is, and see how long it is. Raises RequestFailed."""
    path = film.folder / "in" / "upload"
    if uri is not None:
        storage, entry = named_object(uri, limits, limits.video_bytes)
        path.unlink()
        storage.download(entry, path)
    with path.open("rb") as file:
        extension = _extension(file.read(512))
    if extension is None:
        raise RequestFailed(415, "unsupported_video", "not a film, or of a kind that cannot be read")
    film.path = path.rename(path.with_name(f"film{extension}"))
    try:
        with FrameDecoder() as decoder:
            film.seconds = decoder.seconds(film.path)
    except BadInput as error:
        message = str(error).removeprefix(f"{film.path.name}: ")
        raise RequestFailed(422, "unreadable_video", message) from error
    if film.seconds > limits.video_seconds:
        raise RequestFailed(
            422,
            "too_long",
            f"the film lasts {film.seconds:.0f} seconds; {limits.video_seconds:g} are allowed",
        )


def _extension(head: bytes) -> str | None:
    """What a film is by its first bytes. Playlists, which name other files, are none."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return ".mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return ".webm" if b"webm" in head[:64] else ".mkv"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return ".avi"
    if head.startswith(b"G") and head[188:189] == b"G":
        return ".ts"
    if head.startswith((b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")):
        return ".mpg"
    return next((extension for mark, extension in _MARKS.items() if head.startswith(mark)), None)


_MARKS = {
    b"FLV": ".flv",
    b"OggS": ".ogv",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ".wmv",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01": ".mxf",
}


def _links() -> dict[str, Any]:
    id_of_answer = {"id": "$response.body#/id"}
    names = ("video_state", "forget_video")
    return {"links": {name: {"operationId": name, "parameters": id_of_answer} for name in names}}


def _body() -> dict[str, Any]:
    """The form, which is read by hand, for the OpenAPI document."""
    properties = {
        "video": {"type": "string", "format": "binary", "description": "A film: MP4, WebM, MKV, AVI, …"},
        "uri": {
            "type": "string",
            "description": "A film in an object store instead, below a prefix that the operator allowed.",
            "examples": ["s3://bucket/prefix/film.mp4"],
        },
        **VideoOptions.model_json_schema()["properties"],
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
