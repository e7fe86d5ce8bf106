"""`make demo`: photographs and a film go in, captions, reports and stories come out, through Airflow.

Runs the real DAG `caption_frames` with the local runner, on a SQLite database of its own; nothing is started
by hand and nothing stays running. All of it lies in build/demo/; delete that folder to begin anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[2]
DAG = "caption_frames"
OTHER_FOLDERS = ("GPUCAPT_INCOMING", "GPUCAPT_DESTINATION", "GPUCAPT_QUEUE_URL")
"""Settings of a drop folder that is not the demo's."""


class Failed(Exception):
    """A step of the demo failed; the message is for people."""


class Demo:
    """The folders of the demo, and its steps."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self.captions = folder / "captions"
        self.airflow = folder / "airflow"
        self.log = folder / "demo.log"
        self.delivered = folder / "CREDITS.txt"
        self.console = console

    def run(self) -> None:
        """All steps; a second time there is nothing left to do, and it shows what is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("", encoding="utf-8")
        if not self.delivered.exists():
            self.step("Putting photographs and a film into incoming/", self.deliver)
        if not (self.airflow / "airflow.db").exists():
            self.step("Making a database for Airflow", lambda: self.execute("airflow", "db", "migrate"))
        before = self.runs()
        self.step(f"Running the DAG {DAG}", self.run_dag)
        if self.runs() == before:
            self.console.print("  nothing new has arrived in incoming/: the work is done", style="green")
        sources = list(self.sources())
        if not sources:
            raise Failed(f"the DAG succeeded, but there are no captions in {self.captions}")
        for source in sources:
            self.show(source)
        self.show_paths(sources)

    def deliver(self) -> None:
        """Drop the sample input into the folder that the DAG watches."""
        self.execute(str(Path(__file__).with_name("samples.py")), str(self.incoming))
        credits = self.execute(
            "-c", "import samples; print(samples.CREDITS)", env={"PYTHONPATH": str(Path(__file__).parent)}
        )
        self.delivered.write_text(f"The photographs in this folder:{credits}", encoding="utf-8")

    def run_dag(self) -> None:
        """One run of the DAG by `airflow dags test`, which fails unless the run's state is success."""
        conf = {"incoming": str(self.incoming), "destination": str(self.captions)}
        self.execute("airflow", "dags", "test", DAG, "-c", json.dumps(conf))

    def runs(self) -> set[Path]:
        """The runs that did something."""
        return set(self.captions.glob("runs/*/summary.json"))

    def sources(self) -> Iterator[Path]:
        """The folders of the sources that are done."""
        for manifest in sorted(self.captions.rglob("manifest.json")):
            if ".gpucapt" not in manifest.parts:
                yield manifest.parent

    def show(self, source: Path) -> None:
        """The captions of one source, and its story."""
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        for row in rows(source / "captions.jsonl"):
            when = row["timestamp_s"]
            table.add_row(str(row["frame"]) if when is None else f"{when:.1f} s", row["caption"])
        self.console.print()
        self.console.rule(f"[bold]{source.relative_to(self.captions)}", align="left")
        self.console.print(Padding(table, (1, 2)))
        story = source / "story.md"
        if story.exists():
            self.console.print(Padding(Markdown(story.read_text(encoding="utf-8")), (0, 2)))

    def show_paths(self, sources: Sequence[Path]) -> None:
        """What to open next."""
        self.console.print()
        self.console.rule("[bold]What was written", align="left")
        for source in sources:
            names = sorted(path.name for path in source.iterdir() if path.is_file())
            others = ", ".join(name for name in names if name not in ("report.html", "manifest.json"))
            # Paths are printed as they are, however narrow the terminal, so that they can be copied.
            print(f"  {shortest(source / 'report.html')}\n    and beside it {others}")
        print(f"  {shortest(self.captions / 'runs')}/\n    a summary and a table of each run")
        print(f"  {shortest(self.folder / 'archive')}/\n    the input that is done")
        if "GPUCAPT_MODEL" not in os.environ:
            self.console.print(
                "\nThe bundled captioner learned from 6,000 photographs, mostly of people and dogs,"
                " and sees these everywhere; docs/model-card.md says how good it is."
            )
        self.console.print("\nOpen a report.html in a browser. Then caption something of your own:")
        print(f"  {shortest(Path(sys.executable).with_name('gpucapt'))} caption SOURCE DESTINATION")

    def step(self, what: str, work: Any) -> None:
        """Do one step, saying what it is and how long it took."""
        started = time.monotonic()
        with self.console.status(f"{what} …"):
            work()
        self.console.print(f"[green]✓[/green] {what} [dim]({time.monotonic() - started:.0f} s)[/dim]")

    def execute(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run this environment's Python (or Airflow); its output goes to the log. Returns what it printed."""
        command = [sys.executable, *(("-m", *arguments) if arguments[0] == "airflow" else arguments)]
        start = self.log.stat().st_size
        with self.log.open("ab") as log:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**self.environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        said = self.log.read_bytes()[start:].decode(errors="replace")
        if done.returncode != 0:
            step = " ".join(arguments[:3])
            raise Failed(f"{reason(said)}\n\nThe demo failed in: {step}\nThe whole log: {shortest(self.log)}")
        return said

    def environment(self) -> dict[str, str]:
        """The caller's environment without any other Airflow or gpucapt settings that would leak in."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "_AIRFLOW", *OTHER_FOLDERS))
        }
        return {
            **kept,
            "AIRFLOW_HOME": str(self.airflow),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.airflow}/airflow.db",
            "GPUCAPT_RETRIES": "0",
            "NO_COLOR": "1",
        }


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a captions.jsonl."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def reason(said: str) -> str:
    """Why a step failed: what gpucapt gave as its reason, else the last that was said."""
    failures = re.findall(r"^\S*AirflowException: (gpucapt .*)$", said, re.MULTILINE)
    return "\n".join(failures or said.splitlines()[-25:])


def shortest(path: Path) -> str:
    """The path as one would type it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def main() -> int:
    """Run the demo in the folder given, or in build/demo."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "build" / "demo"
    try:
        Demo(folder.resolve(), Console(highlight=False)).run()
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
