"""Compiling with torch.compile where it pays and works; else eager, with the reason.

On a GPU compiled functions are replayed as CUDA graphs: their small kernels take less time than
launching them one by one. What such a function returns lies in memory that its next call writes
to, so a caller uses it up or copies it first; and what it reads at a fixed address, the weights,
is changed in place only.
"""

import os
import shutil
import sys
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from itertools import count
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

COMPILE_FROM_STEPS = 100
"""Shorter runs stay eager: a compilation takes as long as some dozens of eager steps."""

GRAPH_CALLS = 3
"""The first call of a CUDA graph compiles and runs, the second records, the third replays."""

_SERIAL = count()


def resolve_compile(wanted: str, steps: int, device: str) -> tuple[bool, str]:
    """Decide by what was asked, the number of steps and the hardware, never by timing.

    Returns the decision and its reason. ``auto`` compiles long runs where a compiler is found.
    """
    if wanted != "auto":
        return wanted == "on", "as asked"
    if steps < COMPILE_FROM_STEPS:
        return False, f"fewer than {COMPILE_FROM_STEPS} steps do not repay it"
    if torch.device(device).type == "cpu" and not has_cpp_compiler():
        return False, "no C++ compiler found (install g++ or clang++ for faster steps)"
    failure = _trial(device)
    if failure is not None:
        return False, f"the compiler does not work here: {failure}"
    return True, "the run is long enough to repay it"


def _small(x: Tensor) -> Tensor:
    return x.relu() + 1


@cache
def _trial(device: str) -> str | None:
    """Compile one small function; return None, or why that failed."""
    compiled = Compiled(_small, wanted=True, device=device)
    try:
        for _ in range(GRAPH_CALLS if uses_graphs(device) else 1):
            compiled(torch.zeros(8, device=device))
    except RuntimeError as error:  # of recording a graph: the function itself raises nothing
        return first_line(error)
    return compiled.failure


def uses_graphs(device: str) -> bool:
    """Tell whether compiled functions are CUDA graphs on a device."""
    return torch.device(device).type == "cuda"


def compile_options(device: str) -> dict[str, Any]:
    """Return the options of torch.compile: static shapes, and CUDA graphs where there are any."""
    graphs = {"mode": "reduce-overhead"} if uses_graphs(device) else {}
    return {"dynamic": False, **graphs}


def mark_step() -> None:
    """Tell the CUDA graphs, if any were made, that all their outputs so far are used up.

    Without it, an output whose backward pass is never called (a step that an error cut off) would
    make every later call record a graph of its own.
    """
    if "torch._inductor.cudagraph_trees" in sys.modules:  # not imported for its own sake: seconds
        torch.compiler.cudagraph_mark_step_begin()


def has_cpp_compiler() -> bool:
    """Tell whether there is a C++ compiler: ``$CXX``, or one of the usual names."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    return any(shutil.which(name) for name in names if name)


def own_code(function: FunctionType) -> FunctionType:
    """Return a copy with a code object of its own.

    The compiler counts recompilations, and stops at 8, per code object, which the closures of all
    networks would otherwise share. It also keeps what it made of a code object for good, 2 to 5 MB
    for a small network, so that is given up when the copy is gone.
    """
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_SERIAL)}")
    copy = FunctionType(
        code, function.__globals__, code.co_name, function.__defaults__, function.__closure__
    )
    weakref.finalize(copy, _forget, code).atexit = False
    return copy


def _forget(code: CodeType) -> None:
    """Have the compiler drop what it made of a code object; it has no public function for that."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    if compiler is not None:  # it was imported if anything was compiled
        compiler.reset_code(code)


class Compiled:
    """A function, compiled when it is first called; eager from the first compile error on.

    ``failure`` is None, or the reason why the function runs eagerly after all. On a GPU the
    outputs are overwritten by the next call.
    """

    def __init__(self, function: FunctionType, *, wanted: bool, device: str = "cpu") -> None:
        self.eager = function
        self.options = compile_options(device)
        self.failure: str | None = None
        self.wanted = wanted
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        """Call the function; what it raises itself goes through."""
        if not self.wanted or self.failure is not None:
            return self.eager(*args)
        try:
            self._compiled = self._compiled or torch.compile(own_code(self.eager), **self.options)
        except Exception as error:  # torch.compile refuses this Python or this platform
            self.failure = first_line(error)
            return self.eager(*args)
        try:
            return self._compiled(*args)
        except Exception as error:
            if not _is_compile_error(error):
                raise
            self.failure = first_line(error)
            return self.eager(*args)


def failures_told(failures: Iterable[str | None]) -> list[str]:
    """Return a sentence for every different failure of compiled functions."""
    found = sorted({failure for failure in failures if failure is not None})
    return [f"compilation failed, running eagerly: {failure}" for failure in found]


def _is_compile_error(error: Exception) -> bool:
    """Errors of the compiler's own packages; what the function itself raises goes through."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
