"""What every request goes through: who may ask, from where, and which headers the answers carry."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.web.errors import RequestFailed, as_failed, too_large, unavailable
from pipeline.web.metrics import Metrics

_OPEN_PATHS = frozenset({"/", "/health", "/ready", "/openapi.json"})
"""The page itself is nobody's secret; it asks for the token and sends it along."""
_OPEN_PREFIX = "/page/"
_FORMS = frozenset({"/v1/captions", "/v1/videos"})

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For answers that are no page: should a browser be made to show one, it shows text."""


@dataclass(slots=True)
class Rules:
    """Who may ask what."""

    token: str | None = None
    hosts: frozenset[str] | None = None
    """By which names the server may be called; None is any.

    A page elsewhere can make its own name point here, and a browser then lets it read the answers of a server
    that only this machine can reach. So a server without a token that listens here alone knows its names.
    """
    ending: bool = False
    """Whether the server takes nothing new."""
    running: int = 0
    """Requests that are being answered."""
    _open: frozenset[str] = field(default=_OPEN_PATHS)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raises RequestFailed for what is not allowed."""
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            raise RequestFailed(403, "unknown_host", "this server does not go by that name; use localhost")
        if method not in ("GET", "HEAD") and self.token is None and _is_of_another_site(headers):
            raise RequestFailed(403, "cross_site", "pages of other sites may not use this server")
        if self.ending and method == "POST":
            raise unavailable("ending", "the server is ending")
        if self.token is None or path in self._open or path.startswith(_OPEN_PREFIX):
            return
        kind, _, token = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(token.strip().encode("latin-1"), self.token.encode())
        if kind.lower() != "bearer" or not is_right:
            raise RequestFailed(
                401,
                "unauthorized",
                "the token is missing or wrong; send it as Authorization: Bearer …",
                headers={"WWW-Authenticate": "Bearer"},
            )


class Guard:
    """The middleware that keeps the rules."""

    def __init__(self, app: ASGIApp, rules: Rules, metrics: Metrics, json_bytes: int) -> None:
        self._app = app
        self._rules = rules
        self._metrics = metrics
        self._json_bytes = json_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        is_page = path == "/" or path.startswith(_OPEN_PREFIX)

        status = 0
        began = time.monotonic()

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), is_page=is_page)
                if self._rules.ending:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        self._rules.running += 1
        try:
            headers = Headers(scope=scope)
            self._rules.check(scope["method"], path, headers)
            if scope["method"] == "HEAD":  # answered as GET; the server leaves the body away
                scope = {**scope, "method": "GET"}
            await self._app(scope, self._limited(path, receive, headers), with_headers)
        except Exception as error:
            failed = as_failed(error)  # which also logs what nobody foresaw
            if status:
                raise
            await failed.response()(scope, receive, with_headers)
        finally:
            self._rules.running -= 1
            self._metrics.answered(_method(scope), _pattern(scope), status, time.monotonic() - began)

    def _limited(self, path: str, receive: Receive, headers: Headers) -> Receive:
        """What reads a body up to the limit of those of JSON; forms are counted by who reads them.

        Raises RequestFailed, at once where the client says how much will come.
        """
        if path in _FORMS:
            return receive
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._json_bytes:
            raise too_large("the request", self._json_bytes)
        left = self._json_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise too_large("the request", self._json_bytes)
            return message

        return limited


def _add_headers(headers: MutableHeaders, *, is_page: bool) -> None:
    always: Iterable[tuple[str, str]] = (
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Frame-Options", "DENY"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Content-Security-Policy", _PAGE_POLICY if is_page else _POLICY),
        ("Permissions-Policy", "camera=(self), microphone=(), geolocation=()"),
        ("Cache-Control", "no-cache" if is_page else "no-store"),
    )
    for name, value in always:
        headers.setdefault(name, value)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _pattern(scope: Scope) -> str:
    """The path as the router knows it, without what clients put into it."""
    pattern = getattr(scope.get("route"), "path", None)
    if isinstance(pattern, str):
        return pattern
    return _OPEN_PREFIX if scope["path"].startswith(_OPEN_PREFIX) else "other"


def _is_of_another_site(headers: Headers) -> bool:
    """Whether a browser sends this for a page of another site, which no token keeps from doing so.

    What pages are served by plain HTTP from another machine than one's own says less of its origin.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    name = header.rpartition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]
    return name.lower()
