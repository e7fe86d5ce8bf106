"""### A new captioner when there is a new dataset, put to use when it is better

Trains on **data**, evaluates what comes of it, and compares it with the champion, the model that captions are
made with, on the same pictures. The better one is the champion afterwards.

| task | what it does |
|---|---|
| `due` | waits until **data** is whole; skips the run when this dataset has been judged already |
| `train` | trains by the recipe, on all GPUs; tried again, it goes on after its last whole epoch |
| `evaluate` | scores the captions of the split's pictures |
| `judge` | compares with the champion; registers and promotes the new model if it is better by `least_gain` |
| `promoted` | is green when there is a new champion, which is an event of the asset `gpucapt_champion` |
| `kept` | is green when the champion stays |

One of the last two is green and says why, in its log and as its result (XCom); the other is skipped. **That
the champion stays is no failure.** `gpucapt rollback` undoes a promotion.

A run woken by the clock trains only when there is something new, the dataset or a field of the form: it is
the safety net for runs that failed. A run triggered by hand always trains. (Where nobody announces datasets,
because `gpucapt preprocess` was run by hand, nothing tells, and every run trains.)

**Configuration** is read from the environment of the scheduler and the workers (`docs/operate.md` lists all
of it):

- `GPUCAPT_DATA`, `GPUCAPT_TRAININGS`, `GPUCAPT_MODELS`: the dataset, a folder for what training runs leave,
  and the registry of models. With all three set the DAG runs when there is a new dataset and on its schedule;
  without, it runs when triggered.
- `GPUCAPT_RETRAIN_SCHEDULE`: a cron expression or preset; `none` for new datasets only. Default: `@weekly`.
- `GPUCAPT_RECIPE`, `GPUCAPT_INIT_FROM`, `GPUCAPT_NAME`, `GPUCAPT_METRIC`, `GPUCAPT_LEAST_GAIN`,
  `GPUCAPT_SPLIT`, `GPUCAPT_BEAM_SIZE`: what fills the form. Any other option of `gpucapt train` can be set
  the same way.
- `GPUCAPT_RUNNER`, `GPUCAPT_COMMAND`, `GPUCAPT_GPU_POOL`, `GPUCAPT_RETRIES`, `GPUCAPT_RETRY_DELAY`: as for
  `caption_frames`.
- `GPUCAPT_TRAINING_GPUS`: how many slots of the pool training takes, and how many GPUs its pod. Default: 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Context, Param, PokeReturnValue, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

import arrivals
from assets import CHAMPION, DATASET, SECONDS_BETWEEN_LOOKS, TRAINS, is_written, newest_dataset
from forms import WHERE, answer, beam_size, number, options, place, retries
from runners import runner
from worker_environment import setting

METRICS = ["CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "BLEU-3", "BLEU-2", "BLEU-1"]
SPLITS = ["test", "val"]
JUDGED = "judged"


def form() -> dict[str, Param]:
    """The fields of the trigger form."""
    return {
        "data": place("DATA", "Dataset", f"{WHERE}: what `preprocess_hdf5` wrote."),
        "trainings": place("TRAININGS", "Trainings", f"{WHERE}; each run makes a folder in it."),
        "recipe": Param(
            setting("RECIPE"),
            type=["null", "string"],
            title="Recipe",
            description_md="A YAML file, or its URL. Empty: as `GPUCAPT_RECIPE` says, else the defaults.",
        ),
        "options": Param(
            {},
            type=["null", "object"],
            propertyNames={"pattern": "^[a-z][a-z0-9_]*$"},
            additionalProperties={"type": ["string", "number", "boolean"]},
            title="Other than in the recipe",
            description_md='Fields of the recipe, such as `{"decoder": "transformer", "epochs": 20}`.',
        ),
        "init_from": Param(
            setting("INIT_FROM"),
            type=["null", "string"],
            title="Begin with",
            description_md="A checkpoint or registered model, `champion` or `bundled`, whose weights "
            "training begins with. Empty: as `GPUCAPT_INIT_FROM` says, else it begins anew.",
        ),
        "name": Param(
            setting("NAME") or "gpucapt",
            type="string",
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
            title="Name",
            description_md="What the model is registered as.",
        ),
        "split": Param(
            setting("SPLIT") or SPLITS[0],
            type="string",
            enum=SPLITS,
            title="Split",
            description_md="The pictures that the models are compared on.",
        ),
        "beam_size": beam_size(),
        "metric": Param(
            setting("METRIC") or METRICS[0],
            type="string",
            enum=METRICS,
            title="Score",
            description_md="What they are compared by.",
        ),
        "least_gain": Param(
            number("LEAST_GAIN", 0.0),
            type="number",
            title="Least gain",
            description_md="By how much the new model must be better, such as 0.01; below 0: may be worse.",
        ),
    }


def run_name(context: Context) -> str:
    """What this run's folder and its version of the model are called: the same for every try."""
    run = context["dag_run"]
    digest = hashlib.sha256(run.run_id.encode()).hexdigest()[:6]
    return f"{run.run_after.astimezone(UTC):%Y%m%dT%H%M%S}-{digest}"


def training(context: Context) -> str:
    """The folder of this run's training."""
    return f"{context['params']['trainings'].rstrip('/')}/{run_name(context)}"


def checkpoint(context: Context) -> str:
    """What training made."""
    printed = context["ti"].xcom_pull(task_ids="train")
    return str(answer("train", printed, checkpoint=str)["checkpoint"])


def recipe_options(fields: Mapping[str, Any] | None) -> list[str]:
    """Fields of a recipe as options of `gpucapt train`."""
    found = []
    for name, value in (fields or {}).items():
        dashed = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{dashed}" if value else f"--no-{dashed}")
        else:
            found.append(f"--{dashed}={value}")
    return found


def train_arguments(context: Context, jinja_env: object) -> list[str]:
    """``gpucapt train …``, which goes on with what an earlier try has left."""
    params: Mapping[str, Any] = context["params"]
    given = [*options(params, "recipe", "init_from", "name"), *recipe_options(params["options"])]
    return ["train", *given, "--resume", "--", params["data"], training(context)]


def evaluate_arguments(context: Context, jinja_env: object) -> list[str]:
    """``gpucapt evaluate …`` for what was trained."""
    params: Mapping[str, Any] = context["params"]
    out = f"--out={training(context)}/{params['split']}"
    return [
        "evaluate",
        *options(params, "split", "beam_size"),
        out,
        "--",
        checkpoint(context),
        params["data"],
    ]


def judge_arguments(context: Context, jinja_env: object) -> list[str]:
    """``gpucapt promote …``, if it is better."""
    params: Mapping[str, Any] = context["params"]
    given = [
        f"--version={run_name(context)}",
        f"--if-better={params['data']}",
        f"--evaluation={training(context)}/{params['split']}",
    ]
    given += options(params, "name", "split", "beam_size", "metric", "least_gain")
    return ["promote", *given, "--", checkpoint(context)]


def schedule() -> arrivals.Schedule:
    """When there is a new dataset, and on a schedule, only where it is known what to do then."""
    if not (setting("DATA") and setting("TRAININGS") and setting("MODELS")):
        return None
    return arrivals.by(arrivals.clock("RETRAIN_SCHEDULE", "@weekly"), [DATASET], "GPUCAPT_RETRAIN_SCHEDULE")


with DAG(
    dag_id=TRAINS,
    dag_display_name="Retrain the captioner",
    description="Trains on a new dataset and promotes what is better than the champion",
    doc_md=__doc__,
    schedule=schedule(),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=form(),
    default_args=retries(),
    tags=["gpucapt"],
) as dag:
    where = runner()

    @task.sensor(
        mode="reschedule",
        poke_interval=SECONDS_BETWEEN_LOOKS,
        inlets=[DATASET],
        doc_md="Waits until the dataset is whole; skips the run when nothing is new.",
    )
    def due() -> PokeReturnValue:
        context = get_current_context()
        if setting("MODELS") is None:
            raise AirflowFailException("GPUCAPT_MODELS is not set: there is no champion to compare with")
        if is_written(context["ti"]):
            return PokeReturnValue(is_done=False)
        fingerprint = newest_dataset(context["inlet_events"]).get("fingerprint")
        offer = {"fingerprint": fingerprint, "params": dict(context["params"])}
        by_hand = context["dag_run"].run_type == "manual"
        if not by_hand and fingerprint and context["asset_state_store"][DATASET].get(JUDGED) == offer:
            raise AirflowSkipException(f"nothing new: dataset {fingerprint} was judged with these settings")
        return PokeReturnValue(is_done=True, xcom_value=offer)

    offer = due()
    train = where.task("train", train_arguments, gpu="all", doc_md="Trains, or goes on with it.")
    evaluate = where.task("evaluate", evaluate_arguments, gpu=True, doc_md="Scores the new model.")
    judge = where.task("judge", judge_arguments, gpu=True, doc_md="Promotes the new model if it is better.")

    def verdict(printed: Any, wanted: bool, offer: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `judge` printed; skips the task for the other outcome."""
        found = answer("promote", printed, promoted=bool, version=str, champion=str, why=str)
        # A try whose worker died after the promotion leaves the next one nothing to promote.
        if (found["promoted"] or found["version"] == found["champion"]) is not wanted:
            raise AirflowSkipException(found["why"])
        get_current_context()["asset_state_store"][DATASET].set(JUDGED, dict(offer))
        return found

    @task(inlets=[DATASET], outlets=[CHAMPION], doc_md="Green when there is a new champion.")
    def promoted(printed: Any, offer: Any) -> str:
        found = verdict(printed, True, offer)
        get_current_context()["outlet_events"][CHAMPION].extra = dict(found)
        return str(found["why"])

    @task(inlets=[DATASET], doc_md="Green when the champion stays.")
    def kept(printed: Any, offer: Any) -> str:
        return str(verdict(printed, False, offer)["why"])

    offer >> train >> evaluate >> judge
    promoted(judge.output, offer)
    kept(judge.output, offer)
