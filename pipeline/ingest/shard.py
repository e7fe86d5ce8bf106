"""`gpucapt ingest shard`: caption the sources of one shard, and record what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from model.errors import GpucaptError
from pipeline.ingest.run_folder import ModelUsed, Recorder, RunFolder
from pipeline.records.outcome import Outcome, PieceDone
from pipeline.records.settings import Resources
from pipeline.sources.discovery import Source
from pipeline.storage.base import Storage
from pipeline.storage.open import open_storage


def run_shard(url: str, resources: Resources, progress: str = "auto") -> str:
    """Caption the sources of a shard and record what became of each; returns what to tell people.

    Raises GpucaptError when the shard as a whole cannot be done; it can be tried again.
    """
    from pipeline.captioning.job import Job
    from pipeline.captioning.job_spec import Order
    from pipeline.models.resolve import resolve_model
    from pipeline.runtime.progress import Progress, shown
    from pipeline.runtime.signals import stopped_by_signals

    folder, shard = RunFolder.parse(url)
    plan = folder.read_plan()
    if shard is None or plan is None:
        raise GpucaptError(f"{url} names no shard; give one of those that `gpucapt ingest plan` printed")
    incoming = open_storage(plan.incoming)
    counts = Progress()
    with Recorder() as recorder:
        order = Order(
            incoming,
            folder.destination,
            _still_there(folder.read_shard(shard), incoming, recorder),
            plan.settings,
            resources,
            keep_missing=True,
            films=f"{plan.archive}/{folder.id}",
            is_settled=plan.is_settled,
            choice=plan.choice,
        )
        job = Job(order, resolve_model(plan.settings.model), recorder, counts)
        recorder.about(
            ModelUsed(job.model.name, job.model.version, job.model.weights, job.model.unsure_below)
        )
        with stopped_by_signals(job.stop), shown(counts, progress):
            job.run()
        recorder.record(folder, shard)
    return f"{counts.sources} sources, {counts.frames} frames, {counts.set_aside} set aside"


def _still_there(sources: Iterable[Source], incoming: Storage, recorder: Recorder) -> Iterator[Source]:
    """The sources that are as they were planned; others are for the next round."""
    for source in sources:
        if source.entry is not None and incoming.stat(source.entry.key) != source.entry:
            piece = source.piece
            of = None if piece is None else PieceDone(piece.index, piece.of, source.kind)
            reason = "it changed since it was planned"
            recorder.add(Outcome(source.key, "left", reason=reason, piece=of), ())
        else:
            yield source
