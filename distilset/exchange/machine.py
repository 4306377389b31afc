"""The part of Python's pickle that `torch.save` uses, as a small machine that can only build data.

PyTorch's own reader for untrusted files runs no foreign code either, but a file can end the process
through it: a key that is a tuple nested a million deep overflows the stack when it is hashed
(PyTorch 2.13). Here the standard library takes the bytes apart, nothing is looked up or called but
what stands in a table, keys are text or numbers, and the length of the work is bounded.
"""

import pickletools
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import Any

MOST_STEPS = 5_000_000
"""Instructions; a file of 1,000 experiments has 100,000, and these take about ten seconds."""


class Refused(Exception):
    """The pickle holds more than data; its only argument names what."""


class Damaged(Exception):
    """The bytes are no pickle that `torch.save` writes."""


class Maker:
    """A function that a pickle may have called; made by the table of what may be named."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class Dropped:
    """What is read and not needed, such as NumPy's numbers; whatever it is given it ignores."""

    def __init__(self, *_arguments: object) -> None:
        pass


def run(
    file: BufferedIOBase, names: Mapping[str, Any], persistent: Callable[[tuple[Any, ...]], Any]
) -> Any:
    """Build the object of one pickle and leave the file behind it.

    ``names`` are what a pickle may name, by ``module.name``: a `Maker`, or a value. ``persistent``
    makes what a persistent id stands for, which here is a storage.

    Raises:
        Refused: it names anything else.
        Damaged: it is none, or uses what `torch.save` does not. Bytes may raise others as well.
    """
    machine = _Machine(names, persistent)
    for number, (code, value, _) in enumerate(pickletools.genops(file)):  # type: ignore[arg-type]
        if number > MOST_STEPS:
            raise Damaged(f"more than {MOST_STEPS:,} instructions")
        if code.name == "STOP":
            return machine.stack.pop()
        machine.do(code.name, value)
    raise Damaged("it has no end")


_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_SHORT = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEEP = ("PUT", "BINPUT", "LONG_BINPUT")
_FETCH = ("GET", "BINGET", "LONG_BINGET")
_MARK = object()


class _Machine:
    def __init__(self, names: Mapping[str, Any], persistent: Callable[..., Any]) -> None:
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def do(self, name: str, value: Any) -> None:
        """Carry out one instruction."""
        if name in _VALUES:
            self.stack.append(value)
        elif name in _KEEP:
            self.memo[value] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in _FETCH:
            self.stack.append(self.memo[value])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _SHORT:
            count = _SHORT[name]
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name not in ("PROTO", "FRAME"):
            action = _ACTIONS.get(name)
            if action is None:
                raise Damaged(f"torch.save writes no {name}")
            action(self, value)

    def since_mark(self) -> list[Any]:
        """Take what lies above the last mark off the stack, and the mark."""
        found = []
        while (top := self.stack.pop()) is not _MARK:
            found.append(top)
        return found[::-1]

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def make_list(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    def make_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    def make_dict(self, _: Any) -> None:
        pairs = self.since_mark()
        self.stack.append({})
        self.fill(pairs)

    def append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def appends(self, _: Any) -> None:
        self.extend(self.since_mark())

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def set_items(self, _: Any) -> None:
        self.fill(self.since_mark())

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise Damaged("values are appended to what is no list")
        self.stack[-1].extend(values)

    def fill(self, pairs: list[Any]) -> None:
        """Set keys of the dictionary on top; of text and numbers only, which hash in one step."""
        keys = pairs[::2]
        simple = all(isinstance(key, str | int | float | None) for key in keys)
        if not (isinstance(self.stack[-1], dict) and simple and len(pairs) % 2 == 0):
            raise Damaged("a dictionary needs keys that are text or numbers")
        self.stack[-1].update(zip(keys, pairs[1::2], strict=True))

    def name(self, value: str) -> None:
        self.find(*value.split(" ", 1))

    def stack_name(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.find(str(module), str(attribute))

    def find(self, module: str, attribute: str) -> None:
        full = f"{module}.{attribute}"
        if full not in self.names:
            raise Refused(full)
        self.stack.append(self.names[full])

    def call(self, _: Any) -> None:
        arguments, maker = self.stack.pop(), self.stack.pop()
        if not (isinstance(maker, Maker) and isinstance(arguments, tuple)):
            raise Damaged("something is called that is no function")
        self.stack.append(maker.function(*arguments))

    def set_state(self, _: Any) -> None:
        """Drop the state that hangs on an object: nothing that is read needs it."""
        self.stack.pop()

    def stored(self, _: Any) -> None:
        found = self.stack.pop()
        if not isinstance(found, tuple):
            raise Damaged("a storage is named by what is no tuple")
        self.stack.append(self.persistent(found))


_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "LIST": _Machine.make_list,
    "TUPLE": _Machine.make_tuple,
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.set_state,
    "BINPERSID": _Machine.stored,
}
