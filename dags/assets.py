"""What the DAGs tell each other, that a dataset or a model is new, and how they keep apart.

A dataset is rewritten where it lies. So `preprocess_hdf5` waits while `retrain_captioner` works on it, and
the other way round.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset

DATASET = Asset("gpucapt_dataset")
"""Each event of it is a new dataset at ``GPUCAPT_DATA``; its extra is what `gpucapt preprocess` printed."""

CHAMPION = Asset("gpucapt_champion")
"""Each event of it is a new champion; its extra is what `gpucapt promote` printed."""

MAKES_DATASETS, TRAINS = "preprocess_hdf5", "retrain_captioner"

SECONDS_BETWEEN_LOOKS = 15
NOT_BEGUN = ["scheduled", "queued", "running", "up_for_reschedule", "up_for_retry"]


def newest_dataset(inlet_events: Any) -> dict[str, Any]:
    """What was printed for the dataset that was announced last; nothing where none was."""
    events = inlet_events[DATASET].ascending(False).limit(1)
    return dict(events[0].extra or {}) if len(events) else {}


def is_written(ti: Any) -> bool:
    """Whether a run works on the dataset."""
    return bool(ti.get_dr_count(MAKES_DATASETS, states=["running"]))


def is_read(ti: Any) -> bool:
    """Whether a run trains on the dataset: it is past its first task, which waits for the others."""
    at_work = ti.get_dr_count(TRAINS, states=["running"])
    return bool(at_work) and at_work > ti.get_ti_count(TRAINS, task_ids=["due"], states=NOT_BEGUN)
