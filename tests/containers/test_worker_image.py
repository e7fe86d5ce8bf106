"""The worker image: built from its Dockerfile, run by Docker's own client against a real object store."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import re
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from docker.types import DeviceRequest, Mount

from pipeline.records.frame_selection import Selection
from tests.containers.conftest import LEFT_TO_PIP, keys, upload
from tests.media import write_video
from tests.pipeline.jobs import caption as caption_here
from tests.pipeline.jobs import captions, write_stills
from tests.pipeline.web.pictures import picture, send
from tests.services.engine import PACKAGES, REPOSITORY, Engine, base_image
from tests.services.s3 import S3Server, wait_for

if TYPE_CHECKING:
    from docker.models.containers import Container

pytestmark = pytest.mark.slow

OPTIONS = [
    "--precision=fp32",
    "--beam-size=2",
    "--max-length=8",
    "--batch-size=4",
    "--workers=2",
    "--model=/model",
]
READ_ONLY = {"read_only": True, "tmpfs": {"/tmp": "size=256m"}}


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs in two folders."""
    source = tmp_path_factory.mktemp("stills") / "in"
    write_stills(source / "first", 6)
    return write_stills(source / "second", 7, first=40).parent


@pytest.fixture(scope="module")
def expected(
    stills: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """What the job says of them without any container."""
    out = tmp_path_factory.mktemp("expected")
    assert caption_here(stills, out, tiny_model) == 0
    return {key: captions(out, key) for key in ("first", "second")}


class Worker:
    """Runs the image as an operator would."""

    def __init__(self, engine: Engine, image: str, server: S3Server, model: Path) -> None:
        self.started: list[Container] = []
        self._engine = engine
        self._image = image
        self._server = server
        self._model = model

    def start(self, *arguments: str, **options: Any) -> Container:
        """A container that runs ``gpucapt`` with these arguments, in the background."""
        container = self._engine.client.containers.run(
            self._image,
            list(arguments),
            detach=True,
            network_mode="host",
            environment=self._server.variables(OMP_NUM_THREADS="1"),
            volumes={str(self._model): {"bind": "/model", "mode": "ro"}},
            **options,
        )
        self.started.append(container)
        return container

    def run(self, *arguments: str, **options: Any) -> tuple[int, str]:
        """The exit code and all that was printed."""
        container = self.start(*arguments, **options)
        code = container.wait()["StatusCode"]
        return code, container.logs().decode()


@pytest.fixture
def worker(engine: Engine, worker_image: str, s3_server: S3Server, tiny_model: Path) -> Iterator[Worker]:
    found = Worker(engine, worker_image, s3_server, tiny_model)
    yield found
    for container in found.started:
        container.remove(force=True)


def captions_in(server: S3Server, bucket: str, key: str) -> dict[str, str]:
    body = server.client.get_object(Bucket=bucket, Key=f"out/{key}/captions.csv")["Body"].read().decode()
    rows = list(csv.DictReader(io.StringIO(body)))
    found = {row["frame"]: row["caption"] for row in rows}
    assert len(found) == len(rows), "a frame is there twice"
    return found


def test_captions_from_bucket_to_bucket_with_nothing_writable_but_tmp(
    worker: Worker, bucket: str, s3_server: S3Server, stills: Path, expected: dict[str, dict[str, str]]
) -> None:
    upload(s3_server, bucket, stills)
    line = ["caption", f"s3://{bucket}/in/", f"s3://{bucket}/out/", *OPTIONS]
    code, said = worker.run(*line, **READ_ONLY)
    assert code == 0, said
    assert {key: captions_in(s3_server, bucket, key) for key in expected} == expected
    assert s3_server.secret_key not in said


def test_any_user_can_run_it_and_bad_usage_is_told_apart(worker: Worker, bucket: str) -> None:
    code, said = worker.run("caption", f"s3://{bucket}/in/", f"s3://{bucket}/out/", user="4242:4242")
    assert code == 1 and bucket in said and "Traceback" not in said, said
    code, said = worker.run("caption", "--every=never", "a", "b", user="4242:4242")
    assert code == 2, said


def test_a_container_killed_midway_and_run_again_does_each_frame_once(
    worker: Worker, bucket: str, s3_server: S3Server, tiny_model: Path, tmp_path: Path
) -> None:
    """And a container that is asked to stop does so soon, and keeps what is done."""
    write_video(tmp_path / "in" / "film.webm", ("cat", "coffee", "rocket"), frames_each=200)
    upload(s3_server, bucket, tmp_path / "in")
    line = ["caption", f"s3://{bucket}/in/", f"s3://{bucket}/out/", *OPTIONS, "--every=0.1"]

    def parts() -> int:
        return len(keys(s3_server, bucket, "out/.gpucapt/parts/"))

    stopped = worker.start(*line)
    wait_for(lambda: parts() > 0, 60, "the first part")
    before = time.monotonic()
    stopped.stop(timeout=60)
    took = time.monotonic() - before
    assert stopped.wait()["StatusCode"] == 143 and took < 50, (took, stopped.logs())
    assert not keys(s3_server, bucket, "out/.gpucapt/claims/")
    done = parts()

    killed = worker.start(*line)
    wait_for(lambda: bool(keys(s3_server, bucket, "out/.gpucapt/claims/")), 60, "the claim")
    killed.kill("KILL")
    assert killed.wait()["StatusCode"] == 137
    assert parts() >= done

    code, said = worker.run(*line)
    assert code == 0, said
    assert caption_here(tmp_path / "in", tmp_path / "out", tiny_model, selection=Selection(0.1)) == 0
    assert captions_in(s3_server, bucket, "film.webm") == {
        str(frame): text for frame, text in captions(tmp_path / "out", "film.webm").items()
    }
    assert not keys(s3_server, bucket, "out/.gpucapt/parts/")


def test_the_server_runs_in_it_with_nothing_writable_but_tmp_and_ends_in_order(worker: Worker) -> None:
    container = worker.start("serve", "--port=0", "--model=/model", "--precision=fp32", **READ_ONLY)

    def said() -> str:
        return container.logs().decode()

    wait_for(lambda: "listening on" in said(), 120, "the server", said)
    with httpx.Client(base_url=re.findall(r"http://\S+", said())[0], timeout=120) as client:
        wait_for(lambda: client.get("/ready").status_code == 200, 120, "the model", said)
        answer = send(client, picture("cat"), max_length=8)
        assert answer.status_code == 200 and answer.json()["captions"][0]["caption"]
        assert client.get("/").status_code == 200
    container.stop(timeout=60)
    assert container.wait()["StatusCode"] == 0, said()


def test_the_image_is_small_and_safe(engine: Engine, worker_image: str, torch_base: str) -> None:
    image = engine.client.images.get(worker_image)
    config = image.attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/opt/gpucapt/bin/gpucapt"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    base = engine.client.images.get(torch_base)
    assert image.attrs["Size"] - base.attrs["Size"] < 150e6
    look = "import os, sys; print(os.getuid(), [p for p in sys.argv[1:] if os.path.exists(p)])"
    unwanted = ["/opt/build/source", "/opt/build/tools", "/opt/build/program"]
    said = engine.client.containers.run(
        worker_image, ["-c", look, *unwanted], entrypoint="python", remove=True
    )
    assert said.decode().strip() == "10001 []"
    cache = "import os; print(os.path.exists(os.path.expanduser('~root/.cache/pip')))"
    said = engine.client.containers.run(
        worker_image, ["-c", cache], entrypoint="python", user="0:0", remove=True
    )
    assert said.decode().strip() == "False"


def test_the_torch_of_the_base_is_kept(engine: Engine, worker_image: str) -> None:
    look = (
        "import importlib.util, importlib.metadata, json, pathlib\n"
        "names = ('torch', 'torchvision', 'numpy', 'cv2')\n"
        "where = [str(pathlib.Path(importlib.util.find_spec(name).origin).resolve()) for name in names]\n"
        "print(json.dumps([importlib.metadata.version('torch'), where]))"
    )
    said = engine.client.containers.run(worker_image, ["-c", look], entrypoint="python", remove=True)
    found, where = json.loads(said)
    assert found == version("torch")
    assert [path for path in where if not path.startswith(PACKAGES)] == []


def test_threads_are_as_many_as_the_container_may_use(engine: Engine, worker_image: str) -> None:
    look = (
        "import os; from pipeline.runtime.cpu_limits import available_cores, limit_threads; limit_threads()\n"
        "print(available_cores(), os.environ['OMP_NUM_THREADS'])"
    )
    run = engine.client.containers.run
    said = run(worker_image, ["-c", look], entrypoint="python", nano_cpus=700_000_000, remove=True)
    assert said.decode().split() == ["1", "1"]


def test_alone_at_a_terminal_it_asks_for_pictures(worker: Worker, stills: Path) -> None:
    """``docker run -it gpucapt``. As the first process of its container it also heeds ``docker stop``."""
    options = {"tty": True, "stdin_open": True, "mounts": [Mount("/in", str(stills), "bind")]}
    container = worker.start(**options)
    keyboard = container.attach_socket(params={"stdin": 1, "stream": 1})
    wait_for(lambda: "Picture (a path" in container.logs().decode(), 120, "the question")
    keyboard._sock.sendall(b"/in/first/000.png\n")
    wait_for(lambda: "(confidence 0." in container.logs().decode(), 120, "the caption")
    container.stop(timeout=60)
    assert container.wait()["StatusCode"] == 143
    keyboard._sock.close()
    keyboard.close()


def test_a_base_without_torch_is_refused(engine: Engine) -> None:
    from docker.errors import BuildError

    bare = base_image(engine, "bare", without=LEFT_TO_PIP | {"torch"})
    with pytest.raises(BuildError) as refused:
        engine.build("gpucapt-test-refused", "containers/gpucapt/Dockerfile", BASE_IMAGE=bare)
    said = "".join(str(part.get("stream", "")) for part in refused.value.build_log)
    assert "the base image has no torch that works" in said


def test_a_base_with_an_older_numpy_gets_an_opencv_that_goes_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "containers" / "gpucapt")
    environment = importlib.import_module("environment")
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    kept = {"torch": "2.8.0a0+34c6371d24.nv25.8", "torchvision": "0.23.0a0+428a54c9", "numpy": "1.26.4"}
    pins = environment.pinned(constraints, kept)
    assert [line for line in pins if line.startswith(("torch==", "torchvision==", "numpy==", "opencv"))] == [
        f"{name}=={found}" for name, found in kept.items()
    ]
    assert any(line.startswith("boto3==") for line in pins)
    newer = environment.pinned(constraints, {**kept, "numpy": "2.1.0"})
    assert any(line.startswith("opencv-python-headless==") for line in newer)


@pytest.mark.gpu
def test_the_image_sees_the_gpu() -> None:
    """With Docker, NVIDIA's container toolkit and an image made of a base with CUDA."""
    image = os.environ.get("GPUCAPT_TEST_IMAGE")
    if not image:
        pytest.skip("GPUCAPT_TEST_IMAGE names no worker image")
    import docker

    look = "import torch; print(torch.cuda.device_count(), torch.cuda.get_device_name())"
    one = DeviceRequest(device_ids=["0"], capabilities=[["gpu"]])
    run = docker.from_env().containers.run
    said = run(image, ["-c", look], entrypoint="python", device_requests=[one], remove=True)
    assert said.split()[0] == b"1"
