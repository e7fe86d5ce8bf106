"""torchvision's models without torch's compiler, whose import takes longer than that of torch itself.

An operator of torchvision's that no captioner uses wants a function of the compiler when torchvision is
imported. A stand-in says what is true here: nothing is compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch  # noqa: F401  before the stand-in is there

_COMPILER = "torch._dynamo"


@contextmanager
def _stand_in() -> Iterator[None]:
    """The stand-in, unless the compiler has been imported by somebody else."""
    if _COMPILER in sys.modules:
        yield
        return
    package, utils = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    package.__path__ = []
    utils.__dict__["is_compile_supported"] = lambda device_type: False
    both = {package.__name__: package, utils.__name__: utils}
    sys.modules.update(both)
    try:
        yield
    finally:
        for name in both:
            sys.modules.pop(name, None)


try:
    with _stand_in():
        import torchvision.models as zoo
except ImportError:  # a torchvision that wants more of it
    import torchvision.models as zoo

__all__ = ["zoo"]
