"""The application: the paths, and what every request goes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from pipeline.web.engine import Engine
from pipeline.web.errors import add_handlers, unavailable
from pipeline.web.limits import Limits
from pipeline.web.metrics import Metrics
from pipeline.web.middleware import Guard, Rules
from pipeline.web.routes.captions import captions_router, loaded
from pipeline.web.routes.stories import providers, stories_router
from pipeline.web.routes.videos import videos_router
from pipeline.web.schemas import Health, LimitsInfo, ModelInfo, Models, Ready, failures
from pipeline.web.video_jobs import Films

PAGE = Path(__file__).parent / "page"
SHARED = Path(__file__).parents[1] / "templates" / "drawing.js"
"""What the page has in common with reports."""

_ABOUT = """Captions for pictures and films, and stories told from them.

Every error is `{"error": {"code": …, "message": …}}`: a code for programs, a line for people."""


_TOKEN = Depends(HTTPBearer(auto_error=False, description="Where the server was given a token."))
"""For the document; the guard is who looks."""


@dataclass(frozen=True, slots=True)
class Site:
    """What an application is made of."""

    engine: Engine
    limits: Limits
    rules: Rules
    metrics: Metrics = field(default_factory=Metrics)
    decoders: int = 2
    """Threads that decode pictures, and as many that decode films."""


def make_app(site: Site) -> FastAPI:
    """The application. While it runs it works on films; its engine is the caller's to start and to stop."""
    pool = ThreadPoolExecutor(site.decoders, thread_name_prefix="decode")
    films = Films(site.engine, site.limits, site.decoders)
    site.metrics.watch(lambda: site.rules.running, lambda: site.engine.waiting, films.counts)
    site.metrics.knows_model(site.engine.model.name, site.engine.model.version)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        films.start()
        yield
        await asyncio.to_thread(films.stop)
        pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="gpucapt",
        version="1",
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # their scripts would come from another host
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(Guard, rules=site.rules, metrics=site.metrics, json_bytes=site.limits.json_bytes)
        ],
    )
    add_handlers(app)
    app.include_router(_state_router(site))
    for router in (
        captions_router(site.engine, site.limits, pool),
        videos_router(site.engine, films, site.limits),
        stories_router(site.limits, films.captions_of),
    ):
        app.include_router(router, dependencies=[_TOKEN])
    _add_page(app)
    return app


def _state_router(site: Site) -> APIRouter:
    router = APIRouter(tags=["server"])
    engine = site.engine

    @router.get("/health", summary="Whether the process answers")
    async def health() -> Health:
        return Health()

    @router.get("/ready", summary="Whether the model is loaded", responses=failures(503))
    async def ready() -> Ready:
        if site.rules.ending:
            raise unavailable("ending", "the server is ending")
        loaded(engine)
        return Ready(model=engine.model.name, model_version=engine.model.version)

    @router.get(
        "/v1/models",
        summary="Models, story tellers and limits",
        responses=failures(401),
        dependencies=[_TOKEN],
    )
    async def models() -> Models:
        loading = engine.model
        model = ModelInfo(name=loading.name, version=loading.version, unsure_below=loading.unsure_below)
        limits = LimitsInfo.model_validate(site.limits.told())
        return Models(models=[model], providers=providers(), limits=limits)

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses=failures(401),
        dependencies=[_TOKEN],
    )
    async def metrics() -> Response:
        return Response(site.metrics.text(), media_type=site.metrics.content_type)

    return router


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/page/drawing.js", include_in_schema=False)
    async def shared() -> FileResponse:
        return FileResponse(SHARED)

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
