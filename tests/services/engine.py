"""A container engine of our own: Podman behind Docker's API, so that Docker's clients talk to it unchanged.

It keeps its images under build/containers/, where the next run finds them; everything else of it is gone when
it stops. Containers share the machine's network and get no GPU.

The images that the Dockerfiles are built on here stand in for NVIDIA's and Airflow's, which are many GB. Each
is Debian with Python and links to some of the packages of this environment, and the engine mounts those
packages, read-only, into every container and every build. So a base costs seconds and no disk, and yet its
Python finds exactly the packages that the real one would bring.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.debian import pack_debian, packages
from tests.services.programs import why_missing
from tests.services.s3 import die_with_parent, wait_for

if TYPE_CHECKING:
    import docker

REPOSITORY = Path(__file__).resolve().parents[2]
KEPT = REPOSITORY / "build" / "containers"
PROGRAMS = ("podman", "runc", "conmon", "dpkg-query")
DEBIAN_PYTHON = Path("/usr/bin/python3")
PACKAGES = "/opt/packages"
"""Where containers find this environment's packages. Nothing looks there but the links of a base image."""

STORE = KEPT / "store"
RUN = Path("/run", f"gpucapt-test-{hashlib.sha256(os.fsencode(KEPT)).hexdigest()[:12]}")
"""Where Podman keeps what runs, and its socket. It refuses a path of more than 50 characters, and a socket's
may have 107 at most; a repository may lie anywhere."""
STORAGE = ("--root", str(STORE), "--runroot", str(RUN), "--storage-driver", "overlay")
"""The options that keep the engine's images apart from those of any other."""

CERTIFICATES = Path("/etc/ssl/certs")

CONFIGURATION = """
[containers]
netns = "host"
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
volumes = [{volumes}]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def why_not() -> str | None:
    """Why the engine cannot run here, or None where it can."""
    if os.geteuid() != 0:
        return "the container engine needs root"
    if reason := why_missing(PROGRAMS):
        return reason
    if not DEBIAN_PYTHON.exists():
        return f"the base images are made of Debian's packages, and there is no {DEBIAN_PYTHON}"
    look = "import sys; print(*sys.version_info[:2])"
    found = subprocess.run([DEBIAN_PYTHON, "-c", look], capture_output=True, text=True).stdout.split()
    if found != [str(number) for number in sys.version_info[:2]]:
        return f"Debian's Python is {'.'.join(found)}, and this environment's packages are for another"
    return None


@dataclass(frozen=True)
class Engine:
    """A running engine. ``env`` is what its clients need beside their own environment."""

    folder: Path
    client: docker.DockerClient
    env: dict[str, str]

    def podman(self, *arguments: str) -> str:
        """Run podman itself on the engine's images; returns what it printed."""
        command = ["podman", *STORAGE, *arguments]
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether there is an image of this name."""
        return bool(self.client.images.list(name=image))

    def build(self, name: str, dockerfile: str, **arguments: str) -> str:
        """Build a Dockerfile of this repository through Docker's API; returns what the build said.

        Raises docker.errors.BuildError when it fails, with what it said in ``build_log``.
        """
        _, log = self.client.images.build(
            path=str(REPOSITORY), dockerfile=dockerfile, tag=name, buildargs=arguments, rm=True, forcerm=True
        )
        return "".join(str(part.get("stream", "")) for part in log)


@contextmanager
def running_engine() -> Iterator[Engine]:
    """An engine, for as long as the context lasts. One at a time: they share their images."""
    import docker

    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="gpucapt-engine-") as name:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(name)
        forget_store_of_other_place()
        RUN.mkdir(mode=0o700, exist_ok=True)
        socket = RUN / "podman.sock"
        socket.unlink(missing_ok=True)  # left by a run that was killed
        (folder / "containers.conf").write_text(configuration(folder), encoding="utf-8")
        env = {"DOCKER_HOST": f"unix://{socket}", "CONTAINERS_CONF": str(folder / "containers.conf")}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                ["podman", *STORAGE, "system", "service", "--time=0", f"unix://{socket}"],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        try:
            wait_for(socket.exists, 60, "the container engine", (folder / "log").read_text)
            client = docker.DockerClient(base_url=env["DOCKER_HOST"], timeout=300)
            engine = Engine(folder, client, env)
            engine.podman("rm", "--all", "--force", "--time", "0")  # left by a run that was killed
            yield engine
            engine.podman("rm", "--all", "--force", "--time", "0")
            engine.podman("image", "prune", "--force", "--filter", "until=72h")
            client.close()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
            shutil.rmtree(RUN, ignore_errors=True)


def forget_store_of_other_place() -> None:
    """Remove the images where the repository has moved: Podman refuses a store that was made elsewhere."""
    place, note = f"{STORE}\n{RUN}\n", KEPT / "place"
    if not note.is_file() or note.read_text(encoding="utf-8") != place:
        for folder in (STORE, KEPT / "run"):
            shutil.rmtree(folder, ignore_errors=True)
        note.write_text(place, encoding="utf-8")


def configuration(folder: Path) -> str:
    """Podman's configuration: every container gets the packages, and this machine's way to more of them."""
    (folder / "pip.conf").write_text(pip_configuration(), encoding="utf-8")
    mounts = {str(folder / "pip.conf"): "/etc/pip.conf", sysconfig.get_path("purelib"): PACKAGES}
    if CERTIFICATES.is_dir():
        mounts[str(CERTIFICATES)] = str(CERTIFICATES)
    return CONFIGURATION.format(volumes=", ".join(f'"{here}:{there}:ro"' for here, there in mounts.items()))


def pip_configuration() -> str:
    """This machine's settings of pip, less those that name files which a container does not have."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in ("index-url", "trusted-host", "proxy", "timeout") or (
            key == "cert" and "/etc/ssl/" in value
        ):
            found[key] = value.strip("'")
    return "\n".join(
        ["[global]", "disable-pip-version-check = true", *(f"{k} = {v}" for k, v in found.items())]
    )


def base_image(
    engine: Engine,
    name: str,
    *,
    without: frozenset[str],
    unlisted: frozenset[str] = frozenset(),
    dockerfile: str = "",
) -> str:
    """A Debian that has this environment's packages but for some, and what ``dockerfile`` adds.

    Those ``unlisted`` can be imported, but pip does not know of them, as of what an image built itself.
    """
    debian = debian_image(engine)
    with tempfile.TemporaryDirectory(dir=engine.folder) as folder:
        links = link_farm(Path(folder), without, unlisted)
        text = f"FROM {debian}\nCOPY packages/ {debian_packages(engine, debian)}/\n{dockerfile}"
        Path(folder, "Dockerfile").write_text(text, encoding="utf-8")
        digest = hashlib.sha256(f"{text}\n{links}".encode()).hexdigest()[:12]
        image = f"localhost/gpucapt-test-{name}:{digest}"
        if not engine.has(image):
            engine.podman("build", "--quiet", "--tag", image, folder)
    return image


def debian_image(engine: Engine) -> str:
    """The image of a Debian with Python and nothing else, made once for these versions of its packages."""
    wanted = packages()
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    name = f"localhost/gpucapt-test-debian:{digest}"
    if not engine.has(name):
        packed = engine.folder / "debian.tar"
        pack_debian(packed, [line.partition("=")[0] for line in wanted])
        engine.podman("import", "--quiet", str(packed), name)
        packed.unlink()
    return name


def debian_packages(engine: Engine, image: str) -> str:
    """Where the Python of an image looks for packages that its own packages did not bring."""
    look = "import site; print(next(path for path in site.getsitepackages() if '/local/' in path))"
    return engine.podman("run", "--rm", image, "python3", "-c", look)


def link_farm(folder: Path, without: frozenset[str], unlisted: frozenset[str]) -> list[str]:
    """A folder ``packages`` of links, one for each package and its metadata, into PACKAGES."""
    here = Path(sysconfig.get_path("purelib"))
    wanted: set[str] = set()
    for found in distributions(path=[str(here)]):
        files = [] if normal(found.name) in without else found.files or []
        tops = {path.parts[0] for path in files if path.parts[0] not in ("..", "__pycache__")}
        if normal(found.name) in unlisted:
            tops = {top for top in tops if not top.endswith(".dist-info")}
        wanted |= {top for top in tops if not top.startswith("__editable__") and not top.endswith(".pth")}
    packages = folder / "packages"
    packages.mkdir()
    for top in sorted(wanted):
        (packages / top).symlink_to(f"{PACKAGES}/{top}")
    return sorted(wanted)


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


def installed() -> frozenset[str]:
    """Every distribution of this environment."""
    return frozenset(normal(found.name) for found in distributions(path=[sysconfig.get_path("purelib")]))


def closure(*names: str) -> frozenset[str]:
    """These distributions of this environment and all they need."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = normal(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return frozenset(seen)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A container engine; skips with the reason where none can run."""
    if reason := why_not():
        pytest.skip(reason)
    with running_engine() as running:
        yield running
