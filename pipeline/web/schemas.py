"""The server's answers, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field


class Error(BaseModel):
    """What is wrong."""

    code: Annotated[str, Field(description="For programs.", examples=["too_large"])]
    message: Annotated[str, Field(description="For people, one line.")]


class Failure(BaseModel):
    """The body of every answer that is an error."""

    error: Error


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The model is loaded."""

    status: Literal["ready"] = "ready"
    model: str
    model_version: str


class ModelInfo(BaseModel):
    """A model that captions."""

    name: str
    version: str
    unsure_below: Annotated[float, Field(description="Captions of lower confidence are marked on the page.")]
    default: bool = True


class LimitsInfo(BaseModel):
    """What the server takes at most; bytes, seconds, characters."""

    image_bytes: int
    image_pixels: int
    images: Annotated[int, Field(description="In one request.")]
    video_bytes: int
    video_seconds: float
    text_length: int


class Models(BaseModel):
    """What the server works with."""

    models: list[ModelInfo]
    providers: Annotated[list[str], Field(description="Who tells stories.", examples=[["outline"]])]
    limits: LimitsInfo


class AlternativeCaption(BaseModel):
    """What the search would have said next."""

    caption: str
    log_prob: float
    probability: float


class Attention(BaseModel):
    """Where the decoder looked at each word."""

    rows: int
    columns: int
    maps: Annotated[
        list[str],
        Field(description="For each word base64 of rows × columns bytes, the strongest of a word at 255."),
    ]


class CaptionedImage(BaseModel):
    """A picture and its caption."""

    image: Annotated[str, Field(description="The file's name as it was sent, or the uri.")]
    caption: str
    words: list[str]
    log_prob: Annotated[float, Field(description="Natural logarithm of the caption's probability.")]
    probability: Annotated[float, Field(description="Of exactly this caption; small for long ones.")]
    confidence: Annotated[float, Field(description="Geometric mean of the words' probabilities, 0 to 1.")]
    alternatives: list[AlternativeCaption] = []
    attention: Attention | None = None


class FailedImage(BaseModel):
    """A picture that got no caption."""

    image: str
    error: Error


class Captions(BaseModel):
    """Captions in the order of the pictures: first the uploads, then the uris."""

    model: str
    model_version: str
    captions: list[CaptionedImage | FailedImage]


class VideoProgress(BaseModel):
    """How far it is."""

    frames: Annotated[int, Field(description="Captioned so far.")]
    fraction: Annotated[float | None, Field(description="0 to 1; null while nobody can tell.")]


class VideoCaption(BaseModel):
    """A frame of a film and its caption."""

    timestamp_s: float | None
    end_s: Annotated[float | None, Field(description="Where the scene ends that it stands for.")] = None
    caption: str
    log_prob: float
    confidence: float


class Video(BaseModel):
    """A film, and what became of it so far."""

    id: str
    status: Literal["queued", "running", "done", "failed"]
    progress: VideoProgress
    captions: list[VideoCaption]
    files: Annotated[dict[str, str], Field(description="Where to fetch what came of it, by name.")]
    error: Error | None = None
    story_error: Annotated[str | None, Field(description="Why it has no story; it has its captions.")] = None


class Accepted(BaseModel):
    """A film that waits for its turn."""

    id: str
    status: Literal["queued"] = "queued"


class StoryTurn(BaseModel):
    """One piece of a story."""

    kind: str
    provider: str
    text: str
    prompt: str | None = None
    model: str | None = None


class StoryAnswer(BaseModel):
    """A story with its turns: story.json, which the next request takes as it is."""

    model_config = {"extra": "allow"}

    title: str
    source: str
    turns: list[StoryTurn]


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a path, for the OpenAPI document."""
    meanings = {
        400: "The request breaks off",
        401: "The token is missing or wrong",
        403: "Not allowed here",
        404: "There is no such thing",
        408: "The request does not come",
        409: "Not possible as things are",
        413: "Too large",
        415: "Not of a kind that is taken",
        422: "Cannot be used",
        429: "Too much to do; come again after Retry-After seconds",
        502: "Whoever tells stories fails",
        503: "Not yet, or no more",
    }
    return {status: {"model": Failure, "description": meanings[status]} for status in statuses}
