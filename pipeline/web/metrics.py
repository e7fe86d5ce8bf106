"""What Prometheus is told. Each server has its own registry, so that several can live in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.web.engine import BatchStats

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_PICTURES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


disable_created_metrics()  # type: ignore[no-untyped-call]


class _Counts(Collector):
    """What is counted when somebody asks."""

    def __init__(
        self,
        running: Callable[[], int],
        waiting: Callable[[], int],
        films: Callable[[], dict[str, int]],
    ) -> None:
        self._running = running
        self._waiting = waiting
        self._films = films

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        yield GaugeMetricFamily(
            "gpucapt_requests_running", "Requests that are being answered, this one too.", self._running()
        )
        yield GaugeMetricFamily(
            "gpucapt_queue_pictures", "Pictures that wait for the model.", self._waiting()
        )
        films = GaugeMetricFamily("gpucapt_videos", "Films on the server.", labels=["status"])
        for status, count in self._films().items():
            films.add_metric([status], count)
        yield films


class Metrics:
    """Counts what happens."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "gpucapt_requests", "Requests.", ["method", "path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "gpucapt_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["method", "path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._pictures = Counter(
            "gpucapt_pictures", "Pictures and frames captioned.", ["kind"], registry=self._registry
        )
        self._batches = Histogram(
            "gpucapt_batch_pictures",
            "Pictures that went through the model together.",
            buckets=_PICTURES,
            registry=self._registry,
        )
        self._model_seconds = Histogram(
            "gpucapt_batch_seconds", "Seconds of a batch.", buckets=_SECONDS, registry=self._registry
        )
        self._waited = Histogram(
            "gpucapt_queue_seconds",
            "Seconds that the first picture of a batch waited.",
            buckets=_SECONDS,
            registry=self._registry,
        )

    def watch(
        self,
        running: Callable[[], int],
        waiting: Callable[[], int],
        films: Callable[[], dict[str, int]],
    ) -> None:
        """Tell what these say from now on."""
        self._registry.register(_Counts(running, waiting, films))

    def knows_model(self, name: str, version: str) -> None:
        """Tell which model there is."""
        info = Gauge("gpucapt_model_info", "The model.", ["name", "version"], registry=self._registry)
        info.labels(name, version).set(1)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request. ``path`` is its pattern: with names in it there would be counters without end."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(method, path).observe(seconds)

    def captioned(self, batch: BatchStats) -> None:
        """Count a batch."""
        self._pictures.labels("film" if batch.of_film else "request").inc(batch.pictures)
        self._batches.observe(batch.pictures)
        self._model_seconds.observe(batch.seconds)
        self._waited.observe(batch.waited_s)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
