"""### Captions for what arrives in a folder

Looks at **incoming**, captions every video and every folder of still frames that is there, and writes
captions, reports and stories to **destination**. Finished inputs move to `archive/<run>/`, those that cannot
be used to `failed/<run>/`, each with a `.error.json` that says why.

| task | what it does |
|---|---|
| `plan` | lists incoming, takes away what is done, and cuts the rest into shards |
| `shards` | hands the shards on, one to each `caption` task |
| `caption` | captions one shard; the only task that wants a GPU |
| `captioned` | waits until every shard has ended, well or not |
| `finish` | merges, writes the run's summary and table, moves the inputs |
| `outcome` | fails when one of the tasks above failed, so that the run does; otherwise it is skipped |

**A bad input is not a failure**: it is set aside with its reason, and the run succeeds. `caption` is red
only when the work itself broke (no memory, no disk, no GPU), after that shard alone was tried again.
`finish` runs all the same, so that good work is not held up, and what the broken shard had to do stays in
incoming. Mend the cause and run the DAG again: it goes on after the last frames that were saved. Running it
again is always safe: what is done is not done twice.

**Configuration** is read from the environment of the scheduler and the workers (`docs/operate.md` lists all
of it):

- `GPUCAPT_INCOMING`, `GPUCAPT_DESTINATION`: folders or `s3://bucket/prefix`. With both set the DAG runs on
  its schedule; without, it runs when triggered, and the form asks for them.
- `GPUCAPT_SCHEDULE`: a cron expression or preset such as `@hourly`; `none` to run only when triggered.
  Default: every ten minutes.
- `GPUCAPT_QUEUE_URL`: an SQS queue that the bucket tells of new objects. A message wakes the DAG within
  seconds; what it says is not read. The schedule stays, as the safety net. The triggerer needs the AWS
  variables, or `GPUCAPT_AWS_CONN_ID`, the name of an Airflow connection.
- `GPUCAPT_EVERY`, `GPUCAPT_MAX_FRAMES`, `GPUCAPT_BEAM_SIZE`, `GPUCAPT_MODEL`, `GPUCAPT_STORY`,
  `GPUCAPT_EXCLUDE`, `GPUCAPT_INCLUDE` (patterns, parted by commas): what the trigger form is filled with.
  Any other option of `gpucapt ingest` can be set the same way.
- `GPUCAPT_MODELS`: the registry, a folder or `s3://bucket/prefix`, whose champion is used where no model is
  named. It is looked up once, by `plan`: a run uses one version from end to end.
- `GPUCAPT_RUNNER`: where the command lines run. `local` (the default) is a process beside the Airflow worker,
  `docker` a container, `kubernetes` a pod.
- `GPUCAPT_COMMAND`: how the local runner starts gpucapt. Default: the one in Airflow's own environment.
- `GPUCAPT_GPU_POOL`: the Airflow pool of the `caption` tasks, one slot a GPU. Make it with
  `airflow pools set gpu 2 GPUs`, then set `GPUCAPT_GPU_POOL=gpu`. Without it they are in the default pool,
  and the local runner captions one shard at a time.
- `GPUCAPT_RETRIES`: how often a failed task is tried again, after half a minute, one, two … Default: 2.
- `GPUCAPT_RETRY_DELAY`: how many seconds the first of them waits. Default: 30.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Context, Param, TriggerRule, task
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException

import arrivals
from forms import WHERE, answer, beam_size, number, options, patterns, place, retries
from runners import runner
from worker_environment import setting

STORIES = ["outline", "openai", "none"]


def form() -> dict[str, Param]:
    """The fields of the trigger form: defaults from the environment, values checked before a run is made."""
    return {
        "incoming": place("INCOMING", "Incoming", f"{WHERE} with videos and folders of still frames."),
        "destination": place("DESTINATION", "Destination", f"{WHERE} for captions, reports and stories."),
        "every": Param(
            number("EVERY", None if setting("FPS") or setting("SCENES") else 1.0),
            type=["null", "number"],
            exclusiveMinimum=0,
            title="Seconds between frames",
            description_md="Of a video, take one frame every so many seconds. "
            "Empty: as `GPUCAPT_FPS` or `GPUCAPT_SCENES` say, or every second.",
        ),
        "max_frames": Param(
            number("MAX_FRAMES", None, int),
            type=["null", "integer"],
            minimum=1,
            title="Most frames of a source",
            description_md="Stop after so many frames of a video or a folder. Empty: all of them.",
        ),
        "beam_size": beam_size(),
        "model": Param(
            setting("MODEL"),
            type=["null", "string"],
            title="Model",
            description_md="A checkpoint (a folder or `s3://bucket/prefix`) or a registered model "
            "(`name/version`). Empty: as `GPUCAPT_MODEL` says, else the champion of `GPUCAPT_MODELS`, else "
            "the bundled model.",
        ),
        "story": Param(
            setting("STORY") or STORIES[0],
            type="string",
            enum=STORIES,
            title="Story",
            description_md="What writes the story of each source.",
        ),
        "exclude": patterns(
            "EXCLUDE",
            "Leave out",
            "Names of files and folders that stay in incoming, as in a `.gitignore`, one a line: `drafts/`, "
            "`*_proxy.mp4`. What a NAS or an editor leaves behind (`@eaDir`, …) is left out anyway. "
            "Empty: as `GPUCAPT_EXCLUDE` says.",
        ),
        "include": patterns(
            "INCLUDE",
            "Take nevertheless",
            "Names that are taken though the field above, or by its name the default, leaves them out, one a "
            "line. Empty: as `GPUCAPT_INCLUDE` says.",
        ),
    }


def plan_arguments(context: Context, jinja_env: object) -> list[str]:
    """``gpucapt ingest plan …`` for the parameters of this run. Each value is one argument."""
    params: Mapping[str, Any] = context["params"]
    given = options(params, "every", "max_frames", "beam_size", "model", "story", "exclude", "include")
    # What woke this run may have arrived a second ago, and nothing may come to wake another one.
    given += ["--wait", f"--most-shards={conf.getint('core', 'max_map_length', fallback=1024)}"]
    return ["ingest", "plan", *given, "--", params["incoming"], params["destination"]]


def finish_arguments(context: Context, jinja_env: object) -> list[str]:
    """``gpucapt ingest finish …`` for the run that plan began."""
    return ["ingest", "finish", "--", parsed(context["ti"].xcom_pull(task_ids="plan"))["run"]]


def parsed(plan: object) -> Mapping[str, Any]:
    """What plan printed last: ``{"run": …, "shards": [URI, …]}``."""
    return answer("ingest plan", plan, run=str, shards=list)


def schedule() -> arrivals.Schedule:
    """On a schedule, or by event, only where it is known what to do then."""
    queue_url = setting("QUEUE_URL")
    if not (setting("INCOMING") and setting("DESTINATION")):
        if queue_url:
            raise ValueError(
                "GPUCAPT_QUEUE_URL only wakes the DAG; GPUCAPT_INCOMING and GPUCAPT_DESTINATION "
                "must say what it shall do then"
            )
        return None
    return arrivals.schedule(arrivals.clock("SCHEDULE", "*/10 * * * *"), queue_url, setting("AWS_CONN_ID"))


with DAG(
    dag_id="caption_frames",
    dag_display_name="Caption frames",
    description="Captions, reports and stories for the videos and stills that arrive in a folder",
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

    plan = where.task("plan", plan_arguments, doc_md="Lists incoming and cuts what is to do into shards.")

    @task(doc_md="Turns the plan into one list of arguments for each `caption` task.")
    def shards(plan: Any) -> list[list[str]]:
        return [["ingest", "shard", "--", uri] for uri in parsed(plan)["shards"]]

    # Nothing to do is an empty list: Airflow skips `caption`, and the run goes on to `finish`.
    command_lines = shards(plan.output)
    caption = where.mapped(
        "caption", command_lines, gpu=True, do_xcom_push=False, doc_md="Captions the sources of one shard."
    )

    # `finish` wants a plan that succeeded, and shards that ended in whatever way; no single rule says that.
    captioned = EmptyOperator(task_id="captioned", trigger_rule=TriggerRule.ALL_DONE)
    finish = where.task("finish", finish_arguments, doc_md="Merges, writes, moves the inputs.")

    @task(trigger_rule=TriggerRule.ONE_FAILED, retries=0, doc_md="Fails when something failed.")
    def outcome() -> None:
        raise AirflowFailException("a task of this run failed; its log says why")

    plan >> command_lines >> caption >> captioned
    [command_lines, captioned] >> finish
    # Airflow judges a run by its last tasks alone, and `finish` succeeds beside a shard that failed.
    [plan, command_lines, caption, finish] >> outcome()
