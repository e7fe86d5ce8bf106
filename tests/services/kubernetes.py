"""As much of Kubernetes' API as a pod's life needs, since no cluster runs here: pods are made, run, end, go.

What a pod's container "does" is said by the test: its exit code and its log.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Pod = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"

CONFIGURATION = """
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url}"}}}}]
users: [{{name: test, user: {{token: none}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


@dataclass
class Cluster:
    """What happened in it. ``ends`` says of a pod how its first container ends: exit code and log."""

    ends: Callable[[Pod], tuple[int, str]]
    url: str = ""
    made: list[Pod] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)

    def configuration(self, path: Path) -> Path:
        """The file by which clients find it."""
        path.write_text(CONFIGURATION.format(url=self.url), encoding="utf-8")
        return path

    def seen(self, name: str) -> Pod | None:
        """A pod as it is now: it waits at the first look, runs at the next two, then ends."""
        pod = next((pod for pod in self.made if pod["metadata"]["name"] == name), None)
        if pod is None or name in self.deleted:
            return None
        self.looks[name] = look = self.looks.get(name, 0) + 1
        code, said = self.ends(pod)
        ended = {"terminated": {"exitCode": code, "message": said, "startedAt": NOW, "finishedAt": NOW}}
        running = {"running": {"startedAt": NOW}}
        state, phase = (
            ({"waiting": {"reason": "ContainerCreating"}}, "Pending")
            if look == 1
            else (running, "Running")
            if look < 4
            else (ended, "Failed" if code else "Succeeded")
        )
        statuses = [
            {
                "name": part["name"],
                "state": state,
                "ready": False,
                "restartCount": 0,
                "image": "",
                "imageID": "",
            }
            for part in pod["spec"]["containers"]
        ]
        return {**pod, "status": {"phase": phase, "containerStatuses": statuses, "startTime": NOW}}


@contextmanager
def running_cluster(ends: Callable[[Pod], tuple[int, str]]) -> Iterator[Cluster]:
    """An API server on this machine."""
    cluster = Cluster(ends)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

        def answer(self, found: Any, status: int = 200) -> None:
            data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(found, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

        def pod(self) -> tuple[str, str]:
            parts = urlsplit(self.path).path.partition("/pods/")[2].split("/")
            return parts[0], "/".join(parts[1:])

        def do_POST(self) -> None:
            pod = self.body()
            pod["metadata"]["uid"] = f"uid-{len(cluster.made)}"
            cluster.made.append(pod)
            self.answer(pod, 201)

        def do_PATCH(self) -> None:
            self.body()
            self.do_GET()

        def do_GET(self) -> None:
            name, part = self.pod()
            if not name:
                kind = "EventList" if "events" in self.path else "PodList"
                watched = "true" in parse_qs(urlsplit(self.path).query).get("watch", [])
                version = "events.k8s.io/v1" if "events.k8s.io" in self.path else "v1"
                empty = {
                    "kind": kind,
                    "apiVersion": version,
                    "metadata": {"resourceVersion": "1"},
                    "items": [],
                }
                self.answer("" if watched else empty)
                return
            found = cluster.seen(name)
            if found is None:
                self.answer({"kind": "Status", "status": "Failure", "code": 404}, 404)
            else:
                self.answer(f"{NOW} {cluster.ends(found)[1]}\n" if part == "log" else found)

        def do_DELETE(self) -> None:
            self.body()
            cluster.deleted.append(self.pod()[0])
            self.answer({"kind": "Status", "status": "Success"})

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield cluster
        finally:
            server.shutdown()
            thread.join()
