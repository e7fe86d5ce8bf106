"""Pickles as plain data: an interpreter of the pickle opcodes that never imports and never calls anything.

Python's own unpickler is a machine that calls what a file names; what is dangerous has to be kept from it.
Here it is the other way round: opcodes are decoded by `pickletools`, names stay names (`Name`), objects
become `Module`s that hold nothing but their attributes, and the few functions that files of tensors need are
looked up in a table of our own. A name that is in no table ends the reading, used or not.
"""

from __future__ import annotations

import errno
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pipeline.errors import BadInput

MAX_WORK = 1_000_000
"""Instructions, and values that they copy; each can take some hundred bytes. A ResNet-101 with its optimiser
has two hundred thousand, a vocabulary of 30 000 words three."""
CALL = 10
"""What an object, a tensor or a call counts."""
MANY = 100
"""What a key counts whose hash its file can choose: as many of them as may be cannot collide for long."""
MAX_READ = 16 * 2**20
"""Bytes of one string, or of a zip file's directory."""


class UnsafeFile(BadInput):
    """A file that holds what could run code, or could be made to fill the memory. Nothing of it was run."""


class Damaged(ValueError):
    """Something that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a file names: its dotted name, and never itself."""

    path: str


@dataclass(slots=True, eq=False)
class Module:
    """What stands in for an object: the dotted name of its class, and its attributes."""

    path: str
    state: dict[str, Any] = field(default_factory=dict)


Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class KnownNames:
    """What a pickle may name: `functions`, with what is done instead of calling them; `is_class`, whose
    instances become `Module`s; `values`, which may be mentioned and no more. `keys` are types of keys that
    hash by identity."""

    functions: Mapping[str, Function]
    is_class: Callable[[str], bool]
    values: frozenset[str] = frozenset()
    keys: tuple[type, ...] = ()


class Window:
    """A part of a file, as a file. No read takes more than `MAX_READ`, whatever a length field says."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def read(self, count: int = -1) -> bytes:
        rest = max(self._size - self._at, 0)
        count = rest if count < 0 else min(count, rest)
        if count > MAX_READ:
            raise UnsafeFile(f"a single value of {count} bytes, where weights and words have none so large")
        self._file.seek(self._start + self._at)
        data = self._file.read(count)
        self._at += len(data)
        return data

    def readline(self) -> bytes:
        self._file.seek(self._start + self._at)
        line = self._file.readline(min(max(self._size - self._at, 0), MAX_READ))
        self._at += len(line)
        return line

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._size)[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "a place before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True


def load(stream: Window, known: KnownNames, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The next pickle of a stream as plain data.

    `persistent` turns a persistent id into a value (torch's storages). Raises UnsafeFile for what `known`
    does not know, Damaged for what is no pickle or a broken one.
    """
    machine = _Machine(known, persistent)
    try:
        return machine.run(stream)
    except Damaged:
        raise
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
        raise Damaged("it is damaged, or only a part of it is there") from error


_KEYS = (str, bytes, int, float, type(None))
"""What may be a dictionary's key. Others could take for ever to hash, or overflow the stack."""
_SMALL, _LARGEST = 2**20, 2**63
"""Numbers below the first are indices. Those below the second can be addresses, by which optimisers knew
their parameters."""


def is_plain_key(key: Any) -> bool:
    """Whether it is a text or an index, whose hashes no file can choose so that they collide."""
    return type(key) is str or (type(key) is int and 0 <= key < _SMALL)


class _Machine:
    """The stack and the memo of one pickle; `_STEPS` says which method is which opcode's."""

    def __init__(self, known: KnownNames, persistent: Callable[[Any], Any] | None) -> None:
        self.known = known
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.work = 0

    def run(self, stream: Window) -> Any:
        # typeshed wants a whole IO; genops reads, reads lines and tells.
        for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
            self.count(1)
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _PUSHED:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in _SKIPPED:
                raise UnsafeFile(f"the pickle instruction {name}")
        raise Damaged("it ends too early")  # pragma: no cover: genops says so itself

    def count(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise UnsafeFile(f"more than {MAX_WORK} instructions, far more than any checkpoint has")

    # Containers

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def empty_list(self, _: Any) -> None:
        self.stack.append([])

    def empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def empty_set(self, _: Any) -> None:
        self.stack.append(set())

    def make_list(self, _: Any) -> None:
        items = self.marked()
        self.stack.append(items)

    def make_dict(self, _: Any) -> None:
        items = self.marked()
        self.stack.append({})
        self._set(items)

    def make_tuple(self, _: Any) -> None:
        items = self.marked()
        self.stack.append(tuple(items))

    def tuple1(self, _: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def tuple2(self, _: Any) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def tuple3(self, _: Any) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self.marked())

    def _extend(self, items: Any) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError("appended to what is no list")
        target.extend(items)

    def setitem(self, _: Any) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._set(items)

    def setitems(self, _: Any) -> None:
        self._set(self.marked())

    def _set(self, items: Any) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError("set in what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self._key(key)] = value

    def additems(self, _: Any) -> None:
        items = self.marked()
        target = self.stack[-1]
        if type(target) is not set:
            raise TypeError("added to what is no set")
        target.update(self._key(item) for item in items)

    def make_frozenset(self, _: Any) -> None:
        items = self.marked()
        self.stack.append({self._key(item) for item in items})

    def _key(self, key: Any) -> Any:
        if is_plain_key(key):
            return key
        if not isinstance(key, _KEYS) and not isinstance(key, self.known.keys):
            raise TypeError("not a key")
        if isinstance(key, int) and not -_LARGEST < key < _LARGEST:
            raise TypeError("not a key")
        if isinstance(key, int | float):
            self.count(MANY)
        return key

    # Stack and memo

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def pop_mark(self, _: Any) -> None:
        self.marked()

    def put(self, index: int) -> None:
        if not 0 <= index <= MAX_WORK:
            raise UnsafeFile(f"more than {MAX_WORK} values to refer to, far more than any checkpoint has")
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    # Names and objects

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise TypeError("a name that is no text")
        self.global_(f"{module} {name}")

    def global_(self, argument: str) -> None:
        path = ".".join(argument.split(" ", 1))
        path = _NEW_NAMES.get(path, path.replace("__builtin__.", "builtins.", 1))
        known = self.known
        if path not in known.functions and path not in known.values and not known.is_class(path):
            raise UnsafeFile(f"{path[:100]}, which no checkpoint known here has")
        self.stack.append(Name(path))

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise TypeError("a call of what is no function")
        if function.path not in self.known.functions:
            raise UnsafeFile(f"a call of {function.path}")
        # The same argument can be handed over again and again, and copied every time.
        self.count(CALL + sum(len(one) for one in arguments if isinstance(one, _COPIED)))
        self.stack.append(self.known.functions[function.path](*arguments))

    def newobj(self, _: Any) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if type(cls) is not Name or arguments != ():
            raise TypeError("an object of what is no class")
        if not self.known.is_class(cls.path):
            raise UnsafeFile(f"an object of {cls.path}")
        self.count(CALL)
        self.stack.append(Module(cls.path))

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is Module:
            if type(state) is not dict or not all(type(name) is str for name in state):
                raise TypeError("an object without attributes")
            if target.state:
                raise TypeError("an object that is made twice")
            self.count(len(state))
            target.state = state
        elif type(target) is not dict:  # an OrderedDict's own attributes are of no use here
            raise TypeError("attributes of what has none")

    def binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise UnsafeFile("a reference to something outside it")
        self.count(CALL)
        self.stack.append(self.persistent(self.stack.pop()))


_PUSHED = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    }
)
_COPIED = (str, bytes, list, tuple, dict, set)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_SKIPPED = frozenset({"PROTO", "FRAME"})
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "ADDITEMS": _Machine.additems,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "BINGET": _Machine.get,
    "BINPERSID": _Machine.binpersid,
    "BINPUT": _Machine.put,
    "BUILD": _Machine.build,
    "DICT": _Machine.make_dict,
    "DUP": _Machine.dup,
    "EMPTY_DICT": _Machine.empty_dict,
    "EMPTY_LIST": _Machine.empty_list,
    "EMPTY_SET": _Machine.empty_set,
    "FROZENSET": _Machine.make_frozenset,
    "GET": _Machine.get,
    "GLOBAL": _Machine.global_,
    "LIST": _Machine.make_list,
    "LONG_BINGET": _Machine.get,
    "LONG_BINPUT": _Machine.put,
    "MARK": _Machine.mark,
    "MEMOIZE": _Machine.memoize,
    "NEWOBJ": _Machine.newobj,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "PUT": _Machine.put,
    "REDUCE": _Machine.reduce,
    "SETITEM": _Machine.setitem,
    "SETITEMS": _Machine.setitems,
    "STACK_GLOBAL": _Machine.stack_global,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": _Machine.tuple1,
    "TUPLE2": _Machine.tuple2,
    "TUPLE3": _Machine.tuple3,
}
_NEW_NAMES = {"copy_reg._reconstructor": "copyreg._reconstructor"}
"""As Python 2 and the pickle protocols of its time call it."""
