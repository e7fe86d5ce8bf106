"""### A dataset for training, made anew when its pictures or captions change

Reads captions (**dataset**) and pictures (**images**) and writes them to **data** as training wants them:
HDF5 and JSON. When that gives another dataset than before, `retrain_captioner` is told.

| task | what it does |
|---|---|
| `unused` | waits until no training reads what is in **data** |
| `preprocess` | writes the dataset; when nothing has changed it is done quickly |
| `announce` | a new dataset is an event of the asset `gpucapt_dataset`; skipped when there is nothing new |

What is new is told by content: the captions, the pictures and the settings make a fingerprint. So it does no
harm to run this often, nor twice. Pictures that are broken or missing are left out and listed, up to
`max_bad` of them; beyond that the run fails and the old dataset stays. `dataset.html` in **data** shows what
became of it all.

**Configuration** is read from the environment of the scheduler and the workers (`docs/operate.md` lists all
of it):

- `GPUCAPT_DATASET`, `GPUCAPT_IMAGES`, `GPUCAPT_DATA`: what fills the form. With all three set the DAG runs on
  its schedule; without, it runs when triggered. Only what is written to `GPUCAPT_DATA` is announced.
- `GPUCAPT_PREPROCESS_SCHEDULE`: a cron expression or preset; `none` to run only when triggered. Default:
  `@daily`.
- `GPUCAPT_DATASET_QUEUE_URL`: an SQS queue that the bucket tells of a new captions file, so that a run begins
  within seconds. Send that file last: it says which pictures there should be.
- `GPUCAPT_MIN_WORD_FREQ`, `GPUCAPT_CAPTIONS_PER_IMAGE`, `GPUCAPT_IMAGE_SIZE`, `GPUCAPT_MAX_BAD` and every
  other option of `gpucapt preprocess`.
- `GPUCAPT_RUNNER`, `GPUCAPT_COMMAND`, `GPUCAPT_RETRIES`, `GPUCAPT_RETRY_DELAY`: as for `caption_frames`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Context, Param, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

import arrivals
from assets import DATASET, MAKES_DATASETS, SECONDS_BETWEEN_LOOKS, is_read, newest_dataset
from forms import ONE_FILE, WHERE, answer, number, options, place, retries
from runners import runner
from worker_environment import setting


def form() -> dict[str, Param]:
    """The fields of the trigger form."""
    return {
        "dataset": place(
            "DATASET",
            "Captions",
            f"{ONE_FILE}: a JSON file as Karpathy's or COCO's (or the folder of COCO's files), or a CSV "
            "with `image,caption`.",
        ),
        "images": place("IMAGES", "Pictures", f"{WHERE} with the pictures that the captions name."),
        "data": place("DATA", "Dataset for training", f"{WHERE} for HDF5, JSON and a report."),
        "min_word_freq": Param(
            number("MIN_WORD_FREQ", 5, int),
            type="integer",
            minimum=0,
            title="Least frequent words",
            description_md="Words that the training captions have more often than this are learned.",
        ),
        "captions_per_image": Param(
            number("CAPTIONS_PER_IMAGE", 5, int),
            type="integer",
            minimum=1,
            title="Captions a picture",
            description_md="Of more, so many are drawn; of fewer, some are taken twice.",
        ),
        "image_size": Param(
            number("IMAGE_SIZE", 256, int),
            type="integer",
            minimum=32,
            title="Size of pictures",
            description_md="The side of the square that they are brought to, in pixels.",
        ),
        "max_bad": Param(
            number("MAX_BAD", 100, int),
            type="integer",
            minimum=0,
            title="Most bad pictures",
            description_md="So many may be broken or missing; with more the run fails.",
        ),
    }


def preprocess_arguments(context: Context, jinja_env: object) -> list[str]:
    """``gpucapt preprocess …`` for the parameters of this run."""
    params: Mapping[str, Any] = context["params"]
    given = options(params, "min_word_freq", "captions_per_image", "image_size", "max_bad")
    return ["preprocess", *given, "--", params["dataset"], params["images"], params["data"]]


def schedule() -> arrivals.Schedule:
    """On a schedule, or by event, only where it is known what to do then."""
    queue_url = setting("DATASET_QUEUE_URL")
    if not (setting("DATASET") and setting("IMAGES") and setting("DATA")):
        if queue_url:
            raise ValueError(
                "GPUCAPT_DATASET_QUEUE_URL only wakes the DAG; GPUCAPT_DATASET, GPUCAPT_IMAGES "
                "and GPUCAPT_DATA must say what it shall do then"
            )
        return None
    return arrivals.schedule(
        arrivals.clock("PREPROCESS_SCHEDULE", "@daily"),
        queue_url,
        setting("AWS_CONN_ID"),
        asset="gpucapt_captioned",
        clock_setting="GPUCAPT_PREPROCESS_SCHEDULE",
        queue_setting="GPUCAPT_DATASET_QUEUE_URL",
    )


with DAG(
    dag_id=MAKES_DATASETS,
    dag_display_name="Preprocess to HDF5",
    description="A dataset for training from captioned pictures, made anew when they change",
    doc_md=__doc__,
    schedule=schedule(),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=form(),
    default_args=retries(),
    tags=["gpucapt"],
) as dag:

    @task.sensor(
        mode="reschedule",
        poke_interval=SECONDS_BETWEEN_LOOKS,
        doc_md="Waits until no training reads the dataset.",
    )
    def unused() -> bool:
        return not is_read(get_current_context()["ti"])

    preprocess = runner().task("preprocess", preprocess_arguments, doc_md="Writes the dataset.")

    @task(inlets=[DATASET], outlets=[DATASET], doc_md="Says that there is a new dataset, if there is.")
    def announce(printed: Any) -> str:
        context = get_current_context()
        found = answer("preprocess", printed, dataset=str, fingerprint=str)
        data, announced = context["params"]["data"], setting("DATA")
        if announced not in (None, data):
            raise AirflowSkipException(f"{data} is not GPUCAPT_DATA, {announced}: nobody waits for it")
        # Compared with what was announced, not with what `preprocess` calls changed: a run that died in
        # between has changed the dataset and told nobody.
        if newest_dataset(context["inlet_events"]).get("fingerprint") == found["fingerprint"]:
            raise AirflowSkipException(f"nothing new: the dataset is {found['fingerprint']} as before")
        context["outlet_events"][DATASET].extra = dict(found)
        return f"new dataset {found['fingerprint']} at {found['dataset']}"

    unused() >> preprocess
    announce(preprocess.output)
