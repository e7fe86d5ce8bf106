"""A small Debian as an image, made of the Debian packages that are installed on this machine.

What debootstrap makes in two minutes, and over the network, is here already: the essential packages and
Python, file for file as dpkg lists them.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

BESIDE_ESSENTIAL = ("python3", "libstdc++6")
LEFT_OUT = re.compile(r"/usr/share/(doc|man|info|locale|lintian)/.")
FOLDERS = ("dev", "etc", "home", "opt", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "var/tmp")
OPEN_TO_ALL = ("tmp", "var/tmp")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def packages() -> list[str]:
    """The essential packages, Python and what they need, as ``name=version``, sorted."""
    shown = "${Package}\t${Version}\t${Essential}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", shown], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split("\t") for line in listed.splitlines()]
    versions = {name: version for name, version, *_ in rows}
    needs = {name: names_in(depends) for name, _, _, depends, _ in rows}
    provided = {given: name for name, *_, provides in rows for given in names_in(provides)}
    waiting = [name for name, _, essential, *_ in rows if essential == "yes"] + list(BESIDE_ESSENTIAL)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        name = name if name in versions else provided.get(name, name)
        if name in versions and name not in seen:
            seen.add(name)
            waiting += needs[name]
    return sorted(f"{name}={versions[name]}" for name in seen)


def names_in(relations: str) -> list[str]:
    """The package names in a Depends or Provides field; of alternatives all, as those installed count."""
    return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", relations)


def pack_debian(target: Path, names: list[str]) -> None:
    """Write the files of these packages as an archive of a root file system."""
    listed = subprocess.run(["dpkg-query", "-L", *names], capture_output=True, text=True, check=True).stdout
    links = {str(path) for path in Path("/").iterdir() if path.is_symlink()}
    # /bin, /lib … are links; what lies in them is found, and packed, where it really is.
    files = {where_it_is(Path(path)) for path in listed.splitlines() if path.startswith("/") and path != "/."}
    wanted = {*links, *files, *(str(path) for path in Path("/etc/alternatives").iterdir())}
    made = {*FOLDERS, *ACCOUNTS}
    with tarfile.open(target, "w") as archive:
        for name in FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name in OPEN_TO_ALL else 0o755
            archive.addfile(folder)
        for path in sorted(wanted):
            if path.lstrip("/") not in made and not LEFT_OUT.match(path) and os.path.lexists(path):
                archive.add(path, path.lstrip("/"), recursive=False)
        for name, text in ACCOUNTS.items():
            data = text.encode()
            file = tarfile.TarInfo(name)
            file.size = len(data)
            archive.addfile(file, io.BytesIO(data))


def where_it_is(path: Path) -> str:
    """The path with links in its folder followed, but not the last part itself."""
    return str(path.parent.resolve() / path.name)
