"""s3://bucket/prefix, and which keys can be ours."""

from __future__ import annotations

from dataclasses import dataclass

from model.errors import GpucaptError
from pipeline.errors import BadInput, one_line

SCHEME = "s3://"
_LONGEST_KEY = 1024
"""Bytes, in every store that speaks S3."""


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and the keys in it that begin with `prefix`; the prefix is empty or ends with '/'."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Place:
        """The place that an s3:// URL names; a final '/' makes no difference. Raises GpucaptError."""
        bucket, _, path = url.removeprefix(SCHEME).partition("/")
        path = path.removesuffix("/")
        if not bucket:
            raise GpucaptError(f"{one_line(url)} names no bucket; write s3://bucket/prefix")
        if path and not is_key(path):
            raise GpucaptError(
                f"{one_line(url)}: a prefix cannot have empty parts, '.' or '..'; write s3://bucket/prefix"
            )
        return cls(bucket, f"{path}/" if path else "")

    @property
    def url(self) -> str:
        """The place as text, without a '/' at its end."""
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    def is_inside(self, other: Place) -> bool:
        """Whether this is the other place or lies below it."""
        return self.bucket == other.bucket and self.prefix.startswith(other.prefix)

    def full(self, key: str) -> str:
        """The key in the bucket. Raises BadInput for keys that no folder on disk could have either."""
        if not is_key(key):
            raise BadInput(f"{key!r} cannot be the name of an object in {self.url}")
        full = self.prefix + key
        if len(full.encode()) > _LONGEST_KEY:
            raise BadInput(f"cannot write {self.url}/{key}: the name is too long")
        return full


def is_key(key: str) -> bool:
    """Whether a key's parts are names: the rest cannot lead to a file on disk, or leads elsewhere."""
    return not any(part in ("", ".", "..") for part in key.split("/")) and "\0" not in key


def fits_xml(key: str) -> bool:
    """Whether a key can be written in XML at all."""
    return all(char in "\t\n\r" or (char >= " " and char not in "\ufffe\uffff") for char in key)
