"""Makes the worker's Python environment while the image is built: what gpucapt needs and the base lacks.

    python3 environment.py TARGET PYPROJECT CONSTRAINTS EXTRAS

The base's torch, torchvision and numpy belong to its CUDA and to each other, so they stay: the environment
in TARGET lies on top of the base's packages and never replaces them. So does OpenCV, where it reads films.
Everything else comes in the versions that CONSTRAINTS names. This ends with an error, and the build with it,
when the base has no torch that works, or when one of these would be hidden by another version.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

KEPT = {"torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "opencv-python-headless": "cv2"}
"""Distributions that the base may bring, and the modules by which they are met."""

NEEDED = ("torch", "torchvision", "numpy")
"""Without these it is not a base for this image; OpenCV is installed where it is missing."""

LOOK = """
import json, cv2, numpy, torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
assert torchvision.ops.nms(boxes, torch.ones(1), 0.5).tolist() == [0], "torchvision's operators do not work"
assert torch.from_numpy(numpy.ones(2)).sum() == 2, "torch and numpy do not fit each other"
assert cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends(), "OpenCV cannot read films"
found = {module.__name__: module.__version__ for module in (torch, torchvision, numpy, cv2)}
print(json.dumps({**found, "cuda": torch.version.cuda}))
"""


def main(target: Path, pyproject: Path, constraints: Path, extras: list[str]) -> None:
    """Make the environment, fill it, and look at what became of it."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        give_up(f"gpucapt needs Python 3.11 to 3.13; this base has {sys.version.split()[0]}")
    wanted = requirements(pyproject.read_text(encoding="utf-8"), extras)
    kept = base_modules(wanted)
    run(sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(target))
    python = str(target / "bin" / "python")
    for name, found in kept.items():
        if distribution_version(name) is None:
            vouch_for(Path(site_packages(python)), name, found)
    pins = pinned(constraints.read_text(encoding="utf-8"), kept)
    with tempfile.TemporaryDirectory() as folder:
        listed, limits = Path(folder, "requirements.txt"), Path(folder, "constraints.txt")
        listed.write_text("\n".join(wanted), encoding="utf-8")
        limits.write_text("\n".join(pins), encoding="utf-8")
        pip = (
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--no-cache-dir",
            "-c",
            str(limits),
            "-r",
            str(listed),
        )
        # NVIDIA's images bring constraints of their own, among them versions older than what gpucapt needs.
        run(sys.executable, *pip, env={**os.environ, "PIP_CONSTRAINT": "", "PIP_USER": "0"})
    check(python, kept)


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The requirements of gpucapt itself and of these extras, as pyproject.toml has them."""
    import tomllib

    project = tomllib.loads(pyproject)["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    if unknown := [extra for extra in extras if extra not in optional]:
        give_up(f"there is no extra {', '.join(unknown)}; there are: {', '.join(optional)}")
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def base_modules(wanted: list[str]) -> dict[str, str]:
    """What of KEPT the base has and gpucapt can use: distribution to version."""
    found: dict[str, str] = {}
    for name, module in KEPT.items():
        look = f"import {module}; print({module}.__version__)"
        if name not in NEEDED:
            look = (
                f"import {module}; assert {module}.CAP_FFMPEG in {module}.videoio_registry.getBackends(); "
                + look
            )
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
        if done.returncode == 0:
            found[name] = distribution_version(name) or done.stdout.split()[-1]
        elif name in NEEDED:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            give_up(
                f"the base image has no {name} that works ({said}); give one with --build-arg BASE_IMAGE=…"
            )
    if "opencv-python-headless" in found and not recent_enough("opencv-python-headless", found, wanted):
        del found["opencv-python-headless"]
    return found


def recent_enough(name: str, found: dict[str, str], wanted: list[str]) -> bool:
    """Whether the base's version reaches the lower bound that pyproject.toml sets."""
    bound = next((line.partition(">=")[2] for line in wanted if line.startswith(f"{name}>=")), "0")
    return numbers(found[name]) >= numbers(bound)


def numbers(text: str) -> list[int]:
    """The leading numbers of a version."""
    return [int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3]]


def distribution_version(name: str) -> str | None:
    """The version that the base's package metadata tell, or None where there are none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def vouch_for(folder: Path, name: str, found: str) -> None:
    """Tell pip that a module is there which the base built itself, under another name or none."""
    info = folder / f"{name.replace('-', '_')}-{found}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {found}\n", encoding="utf-8"
    )
    (info / "INSTALLER").write_text("base image\n", encoding="utf-8")
    (info / "RECORD").write_text("", encoding="utf-8")


def pinned(constraints: str, kept: dict[str, str]) -> list[str]:
    """The pins to install by: the base's versions of what it brings, ours of everything else."""
    ours = [line for line in constraints.splitlines() if "==" in line]
    others = {name for name in KEPT if name in kept}
    if numbers(kept["numpy"]) < [2]:
        # Newer ones of OpenCV want numpy 2; any that goes with the base's will do.
        others.add("opencv-python-headless")
    rest = [line for line in ours if line.partition("==")[0].strip() not in others]
    return [*rest, *(f"{name}=={found}" for name, found in kept.items())]


def check(python: str, kept: dict[str, str]) -> None:
    """Everything in the finished environment works together, and the base's own is still what it was."""
    done = subprocess.run([python, "-c", LOOK], capture_output=True, text=True)
    if done.returncode != 0:
        give_up(f"torch, torchvision and OpenCV do not work together:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    for name, before in kept.items():
        shown = subprocess.run(
            [python, "-c", f"from importlib.metadata import version; print(version({name!r}))"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        if shown != before:
            give_up(f"{name} {before} of the base image became {shown or 'unreadable'}")
    print(f"Kept of the base image: {', '.join(f'{name} {found}' for name, found in kept.items())}")
    print(f"In use: {found}")


def site_packages(python: str) -> str:
    """Where the packages of an environment lie."""
    look = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-c", look], capture_output=True, text=True, check=True).stdout.strip()


def run(*command: str, env: dict[str, str] | None = None) -> None:
    """Run a program; when it fails, so does the build."""
    done = subprocess.run(command, env=env)
    if done.returncode != 0:
        give_up(f"this ended with {done.returncode}: {' '.join(command)}")


def give_up(message: str) -> None:
    """End the build with a reason."""
    raise SystemExit(f"gpucapt image: {message}")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        [part for part in sys.argv[4].split(",") if part],
    )
