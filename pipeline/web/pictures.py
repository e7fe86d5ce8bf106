"""From the bytes of an upload, or an object that a client may name, to a picture that the model takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from model.errors import GpucaptError
from pipeline.errors import BadInput
from pipeline.media.images import NotAPicture, TooManyPixels, decode_still, still_size
from pipeline.storage.base import Entry, Storage
from pipeline.storage.open import is_s3, open_object
from pipeline.storage.s3.uri import Place
from pipeline.web.errors import RequestFailed, too_large
from pipeline.web.limits import Limits

if TYPE_CHECKING:
    from model.captioner import Captioner
    from pipeline.captioning.messages import Picture


def prepared(data: bytes, name: str, captioner: Captioner, limits: Limits) -> Picture:
    """A picture as the model takes it.

    Raises RequestFailed: 415 for what is no picture, 422 for one that is damaged or has too many pixels.
    """
    try:
        if not data:
            raise BadInput(f"{name}: the file is empty")
        width, height = still_size(data, name)
        if math.prod((width, height)) > limits.image_pixels:
            raise RequestFailed(
                422,
                "too_many_pixels",
                f"{name} has {width} × {height} pixels; at most {limits.image_pixels / 1e6:g} million are"
                " allowed",
            )
        return captioner.prepare(decode_still(data, name, whole=captioner.prepare.whole))
    except NotAPicture as error:
        raise RequestFailed(415, "unsupported_image", str(error)) from error
    except TooManyPixels as error:
        raise RequestFailed(422, "too_many_pixels", str(error)) from error
    except BadInput as error:
        raise RequestFailed(422, "unreadable_image", str(error)) from error


def named_object(uri: str, limits: Limits, most_bytes: int) -> tuple[Storage, Entry]:
    """The object that a client names.

    Raises RequestFailed: 403 unless the operator allowed objects there, 404 where there is none, 413 for one
    that is too large.
    """
    if not is_s3(uri):
        raise RequestFailed(422, "unsupported_uri", "a uri must be s3://bucket/key; upload other files")
    try:
        place = Place.parse(uri)
    except GpucaptError as error:
        raise RequestFailed(422, "unsupported_uri", str(error)) from error
    if not any(place.is_inside(allowed) and place != allowed for allowed in limits.allowed):
        raise RequestFailed(403, "uri_not_allowed", f"this server reads no objects at {uri}")
    storage, key = open_object(uri)
    entry = storage.stat(key)
    if entry is None:
        raise RequestFailed(404, "not_found", f"{uri}: there is no such object")
    if entry.size > most_bytes:
        raise too_large(uri, most_bytes)
    return storage, entry
