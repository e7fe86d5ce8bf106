"""File systems without locks, as processes see them: Lustre mounted without, NFS without its lock daemon."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

ERRORS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What NFS says, what Lustre says, what others say."""

_LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

int flock(int file, int operation) { errno = REFUSAL; return -1; }

#define WITHOUT_LOCKS(name)                                                                 \\
    int name(int file, int command, ...) {                                                  \\
        va_list rest;                                                                       \\
        va_start(rest, command);                                                            \\
        void *argument = va_arg(rest, void *);                                              \\
        va_end(rest);                                                                       \\
        switch (command) {                                                                  \\
        case F_SETLK: case F_SETLKW: case F_OFD_SETLK: case F_OFD_SETLKW:                   \\
            errno = REFUSAL;                                                                \\
            return -1;                                                                      \\
        }                                                                                   \\
        return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, #name))(file, command, argument);  \\
    }

WITHOUT_LOCKS(fcntl)
WITHOUT_LOCKS(fcntl64)
"""

_MODULE = """
import errno, fcntl, os
def refused(*arguments):
    raise OSError({number}, os.strerror({number}))
fcntl.flock = fcntl.lockf = refused
"""


def in_the_system(folder: Path, number: int) -> dict[str, str]:
    """What a process needs in its environment to have no locks in whatever library. Needs cc."""
    source, library = folder / "no_locks.c", folder / "no_locks.so"
    source.write_text(_LIBRARY, encoding="ascii")
    line = ["cc", "-shared", "-fPIC", f"-DREFUSAL={number}", "-o", str(library), str(source), "-ldl"]
    subprocess.run(line, check=True, timeout=60)
    return {"LD_PRELOAD": str(library)}


def in_python(folder: Path, number: int) -> dict[str, str]:
    """The same for what is Python, without a compiler."""
    (folder / "sitecustomize.py").write_text(_MODULE.format(number=number), encoding="ascii")
    return {"PYTHONPATH": str(folder)}
