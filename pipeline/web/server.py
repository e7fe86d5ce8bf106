"""`gpucapt serve`: one process with one model, from its command line to its end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn
from fastapi import FastAPI

from model.checkpoint import read_config
from model.errors import GpucaptError
from pipeline.models.resolve import resolve_model
from pipeline.records.settings import Resources
from pipeline.runtime.config import tuning
from pipeline.web.app import Site, make_app
from pipeline.web.engine import Engine
from pipeline.web.limits import Limits
from pipeline.web.metrics import Metrics
from pipeline.web.middleware import Rules

_log = logging.getLogger("gpucapt")

_LOOK_S = 0.05
_GRACE_S = 5.0
"""How long the model's thread may go on with the batch that it is in the middle of."""
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", ""})


@dataclass(frozen=True, slots=True)
class Serving:
    """What `gpucapt serve` was asked to do."""

    host: str
    port: int
    token: str | None
    model: str | None
    precision: str
    resources: Resources

    def run(self) -> None:
        """Serve until a signal ends it. Raises GpucaptError where it cannot begin or load the model."""
        limits = Limits.of(tuning())
        model = resolve_model(self.model)
        read_config(model.directory)
        rules = Rules(self.token, self._names())
        metrics = Metrics()
        engine = Engine(
            model,
            self.resources,
            precision=self.precision,
            limit=limits.queue,
            watch=metrics.captioned,
        )
        app = make_app(Site(engine, limits, rules, metrics, self.resources.workers))
        with _listening(self.host, self.port) as sock:
            print(f"gpucapt: listening on {_url(sock)}", file=sys.stderr, flush=True)
            if self.token is None and not _is_loopback(sock.getsockname()[0]):
                _log.warning("whoever reaches this address can use the server; set GPUCAPT_SERVE_TOKEN")
            _log_as_we_do()
            engine.start()
            server = _Server(_config(app), engine, rules, limits.grace_s)
            server.run(sockets=[sock])
        engine.stop(_GRACE_S)
        if engine.error is not None:
            raise engine.error

    def _names(self) -> frozenset[str] | None:
        """By which names the server may be called; see Rules."""
        try:
            local = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            local = self.host == "localhost"
        return _LOCAL_NAMES | {self.host.lower()} if local and self.token is None else None


class _Server(uvicorn.Server):
    """Ends in order: what has begun is answered, what is new is refused, for as long as the grace lasts."""

    def __init__(self, config: uvicorn.Config, engine: Engine, rules: Rules, grace_s: float) -> None:
        super().__init__(config)
        self._engine = engine
        self._rules = rules
        self._grace_s = grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._task = asyncio.create_task(self._watch())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but without sending itself the signal again in the end: this ends as it should."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in uvicorn.server.HANDLED_SIGNALS
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets what has begun end, the second does not."""
        if self._rules.ending:
            self.should_exit = self.force_exit = True
        self._rules.ending = True

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        until = None
        while not self.should_exit:
            await asyncio.sleep(_LOOK_S)
            if self._engine.error is not None:
                self.should_exit = True
            if self._rules.ending:
                until = loop.time() + self._grace_s if until is None else until
                idle = self._rules.running == 0 and self._engine.waiting == 0
                self.should_exit = self.should_exit or idle or loop.time() > until


def _log_as_we_do() -> None:
    """Let libraries log in our form; what is wrong with a form is told to the client that sent it."""
    for handler in _log.handlers:
        logging.getLogger("uvicorn").addHandler(handler)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )


def _listening(host: str, port: int) -> socket.socket:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(1024)
        except OSError:
            sock.close()
            raise
        return sock
    except OSError as error:
        reason = error.strerror or str(error)
        raise GpucaptError(f"cannot listen on {host} port {port}: {reason}; choose another --port") from error


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
