"""An object store of our own for tests: a Ceph cluster of one monitor and one disk in memory, and S3 on top.

The three processes are children of this one: they end with it, even when it is killed, and their data
with them. An endpoint that is there already is used instead where GPUCAPT_TEST_S3 gives its URL, and the
usual AWS variables the keys. By hand:

    python -m tests.services.s3        starts one, prints the variables that clients need, ends with Ctrl-C
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.services.programs import why_missing

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "radosgw", "radosgw-admin")
REGION = "us-east-1"

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = 127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
keyring = {folder}/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 0
mon tick interval = 1
paxos propose interval = 0.05
paxos min wait = 0.01
osd crush chooseleaf type = 0
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file = {folder}/log/$name.log
log max recent = 10
[mon]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
[client]
rgw data = {folder}/rgw
rgw enable usage log = false
rgw run sync thread = false
"""


def why_not() -> str | None:
    """Why no server can run here, or None where one can."""
    if os.geteuid() != 0:
        return "the object store needs root"
    return why_missing(PROGRAMS)


@dataclass(frozen=True)
class S3Server:
    """A running server and the keys of a user who may do everything."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    stranger: tuple[str, str] | None = field(default=None, repr=False)
    """The keys of a user who may do nothing that a bucket's policy does not allow."""

    def variables(self, **more: str) -> dict[str, str]:
        """What a process needs in its environment to use the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            # No settings of whoever runs the tests, and no search for a cloud's roles.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            **more,
        }

    def environment(self, **more: str) -> dict[str, str]:
        """This process's environment, its path among it, with these variables for its settings of AWS."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {**kept, **self.variables(**more)}

    @property
    def client(self) -> Any:
        """A client of boto's, whatever the environment says."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(max_pool_connections=32, request_checksum_calculation="when_required"),
        )

    def allow_stranger(self, bucket: str, *actions: str, below: str = "") -> dict[str, str]:
        """Let the stranger do this, such as s3:GetObject, with one prefix; the variables to be that user."""
        if self.stranger is None:
            pytest.skip("this server has no user without rights")
        who = {"AWS": ["arn:aws:iam:::user/stranger"]}
        places = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{below}*"]
        allow = {"Effect": "Allow", "Principal": who, "Action": list(actions), "Resource": places}
        policy = {"Version": "2012-10-17", "Statement": [allow]}
        if actions:
            self.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        key, secret = self.stranger
        return self.variables(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)

    def make_bucket(self, name: str | None = None) -> str:
        """A new and empty bucket; its name."""
        name = name or f"test-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=name)
        return name


@contextmanager
def running_server() -> Iterator[S3Server]:
    """A server of our own, until the context ends. Raises RuntimeError when it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="gpucapt-s3-", dir="/tmp"))  # sockets need a short path
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield _Cluster(folder, processes).start()
    finally:
        for process in reversed(processes):
            process.kill()
        for process in processes:
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


class _Cluster:
    """The steps that make a cluster of an empty folder."""

    def __init__(self, folder: Path, processes: list[subprocess.Popen[bytes]]) -> None:
        self._folder = folder
        self._processes = processes
        self._configuration = folder / "ceph.conf"

    def start(self) -> S3Server:
        mon_port, port = _free_ports(2)
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        for name in ("mon", "osd", "rgw", "run", "log"):
            (self._folder / name).mkdir()
        self._configuration.write_text(
            _CONFIGURATION.format(fsid=fsid, mon_port=mon_port, folder=self._folder), encoding="utf-8"
        )
        self._make_keys()
        self._run(
            "monmaptool",
            "--create",
            "--add",
            "a",
            f"127.0.0.1:{mon_port}",
            "--fsid",
            fsid,
            self._folder / "monmap",
        )
        monmap, keyring = self._folder / "monmap", self._folder / "keyring"
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._start("ceph-mon", "-i", "a")
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._run("ceph", "osd", "crush", "add", "0", "1.0", "root=default", "host=localhost")
        self._start("ceph-osd", "-i", "0")
        frontend = f"beast endpoint=127.0.0.1:{port}"
        self._start("radosgw", "-n", "client.rgw", "--rgw-frontends", frontend)
        endpoint = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(endpoint), 60, "the gateway", self._report)
        users = [(name, secrets.token_hex(16)) for name in ("tester", "stranger")]
        for name, secret in users:
            about = ("--uid", name, "--display-name", name, "--access-key", name, "--secret-key", secret)
            self._run("radosgw-admin", "user", "create", *about)
        return S3Server(endpoint, *users[0], stranger=users[1])

    def _make_keys(self) -> None:
        keyring = self._folder / "keyring"
        every = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        for name, rights in (
            ("mon.", ("--cap", "mon", "allow *")),
            ("client.admin", (*every, "--cap", "mgr", "allow *")),
            ("client.rgw", every),
            ("osd.0", ("--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")),
        ):
            new = ("--create-keyring",) if name == "mon." else ()
            self._run("ceph-authtool", *new, keyring, "--gen-key", "-n", name, *rights)

    def _run(self, program: str, *arguments: str | Path) -> None:
        needs_configuration = program not in ("ceph-authtool", "monmaptool")
        line = [program, *(("-c", self._configuration) if needs_configuration else ()), *arguments]
        done = subprocess.run(
            [*map(str, line)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}\n{self._report()}")

    def _start(self, program: str, *arguments: str) -> None:
        with (self._folder / "log" / f"{program}.out").open("wb") as log:
            process = subprocess.Popen(
                [program, "-f", "-c", str(self._configuration), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we end them
                preexec_fn=die_with_parent,
            )
        self._processes.append(process)

    def _report(self) -> str:
        logs = sorted((self._folder / "log").iterdir())
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1000:]}" for log in logs)


def die_with_parent() -> None:
    """For a new process: have the kernel kill it when the one that started it is gone."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def wait_for(
    is_so: Callable[[], bool], seconds: float, what: str, report: Callable[[], str] = lambda: ""
) -> None:
    """Wait until something is so. Raises RuntimeError after so many seconds."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} did not come up in {seconds:.0f} s\n{report()}")
        time.sleep(0.1)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def fill(server: S3Server, bucket: str, keys: Iterable[str], data: bytes = b"-", *, threads: int = 8) -> int:
    """Put the same bytes under very many keys; returns how many. For listings: only their names count.

    Signing a request costs more than this server's answer, so the bucket is open to all meanwhile.
    """
    place = urlsplit(server.endpoint).netloc
    idle = [http.client.HTTPConnection(place) for _ in range(threads)]

    def put(key: str) -> None:
        connection = idle.pop()
        connection.request("PUT", f"/{bucket}/{quote(key)}", data)
        answer = connection.getresponse()
        answer.read()
        idle.append(connection)
        if answer.status != 200:
            raise RuntimeError(f"{key}: {answer.status} {answer.reason}")

    client, count, waiting = server.client, 0, iter(keys)
    client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(waiting, 10_000)):
            count += sum(1 for _ in pool.map(put, some))
    for connection in idle:
        connection.close()
    client.put_bucket_acl(Bucket=bucket, ACL="private")
    return count


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server for the whole session."""
    given = os.environ.get("GPUCAPT_TEST_S3")
    if given:
        yield S3Server(given, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        return
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with running_server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, and this process's environment set to use its server."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GPUCAPT_S3_")):
            monkeypatch.delenv(name)
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    return s3_server.make_bucket()


if __name__ == "__main__":
    with running_server() as ours, suppress(KeyboardInterrupt):
        print("export", *(f"{name}={value}" for name, value in ours.variables().items()), flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.pause()
