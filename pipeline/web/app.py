"""The application: the paths, and what every request goes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from pipeline.web.answers import Health, LimitsInfo, ModelInfo, Models, Ready, failures
from pipeline.web.captions import captions_router, loaded
from pipeline.web.engine import Engine
from pipeline.web.errors import add_handlers
from pipeline.web.guard import Guard, Rules
from pipeline.web.limits import Limits

PAGE = Path(__file__).parent / "page"

_ABOUT = """Captions for pictures and films, and stories told from them.

Every error is `{"error": {"code": …, "message": …}}`: a code for programs, a line for people."""


@dataclass(frozen=True, slots=True)
class Site:
    """What an application is made of."""

    engine: Engine
    limits: Limits
    rules: Rules
    decoders: int = 2
    """Threads that decode pictures."""


def make_app(site: Site) -> FastAPI:
    """The application; its engine is the caller's to start and to stop."""
    pool = ThreadPoolExecutor(site.decoders, thread_name_prefix="decode")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="gpucapt",
        version="1",
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # their scripts would come from another host
        redoc_url=None,
        middleware=[Middleware(Guard, rules=site.rules)],
    )
    add_handlers(app)
    app.include_router(_state_router(site))
    app.include_router(captions_router(site.engine, site.limits, pool))
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
        loaded(engine)
        return Ready(model=engine.model.name, model_version=engine.model.version)

    @router.get("/v1/models", summary="Models, story tellers and limits", responses=failures(401))
    async def models() -> Models:
        model = ModelInfo(name=engine.model.name, version=engine.model.version)
        limits = LimitsInfo.model_validate(site.limits.told())
        return Models(models=[model], providers=["outline"], limits=limits)

    return router


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
