"""torchvision's models without torch's compiler, whose import takes longer than that of torch itself.

An operator of torchvision's that no captioner uses imports one function of the compiler when torchvision is
imported. Here that module alone gets the function in another form: it imports the compiler when it is called.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any

_OPERATOR = "torchvision.ops.roi_align"
_COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


def _import(name: str, *how: Any, **more: Any) -> Any:
    """As the built-in function, but for the compiler."""
    if name == _COMPILER:
        return SimpleNamespace(is_compile_supported=_is_compile_supported)
    return builtins.__import__(name, *how, **more)


class _Deferring(Loader):
    """Runs a module whose import statements are ours; nobody else sees anything of it."""

    def __init__(self, loader: InspectLoader) -> None:
        self._loader = loader

    def exec_module(self, module: ModuleType) -> None:
        code = self._loader.get_code(module.__name__)
        assert code is not None
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        exec(code, module.__dict__)


class _Finder(MetaPathFinder):
    """Finds the operator as Python does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _OPERATOR else None
        if spec is not None and isinstance(spec.loader, InspectLoader):
            spec.loader = _Deferring(spec.loader)
        return spec


@contextmanager
def _without_compiler() -> Iterator[None]:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


try:
    with _without_compiler():
        import torchvision.models as zoo
except ImportError:  # a torchvision that wants more of the compiler
    import torchvision.models as zoo

__all__ = ["zoo"]
