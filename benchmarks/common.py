"""What the timing programs share: data, memory in a process of its own, the machine's best rate."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from distilset.data import load_data
from distilset.types import DatasetInfo, ImageSet

Context = Callable[[], AbstractContextManager]


def drawn(classes: int = 10, per_class: int = 600, side: int = 32, role: str = "train") -> ImageSet:
    """Draw CIFAR-like images: smooth noise with a colour of its own for each class."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(classes * per_class, 3, side // 4, side // 4))
    colour = np.repeat(rng.normal(0, 0.5, (classes, 3)), per_class, axis=0)[:, :, None, None]
    small = np.clip(120 + 50 * (coarse + colour), 0, 255).astype(np.uint8)
    pixels = small.repeat(4, axis=2).repeat(4, axis=3)
    info = DatasetInfo("drawn", "drawn", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    offsets = tuple(range(0, classes * per_class + 1, per_class))
    names = tuple(str(c) for c in range(classes))
    return ImageSet(torch.from_numpy(np.ascontiguousarray(pixels)), offsets, names, role, info)  # type: ignore[arg-type]


def train_part(source: str) -> ImageSet:
    """Return the train part of a folder, or drawn images."""
    return drawn() if source == "drawn" else load_data(source).train


def test_part(source: str) -> ImageSet:
    """Return 10,000 images to score on: a folder's test part, or drawn ones."""
    if source == "drawn":
        return drawn(per_class=1000, role="test")
    found = load_data(source).test
    assert found is not None, "the folder has no test part"
    return found


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def alternate(
    rounds: int, *functions: Callable[[], object], within: Sequence[Context] = (), warm: int = 0
) -> list[list[float]]:
    """Time functions in turn, ``rounds`` times each, so that noise falls on all alike.

    Each may have a context to be called ``within``; there it is called ``warm`` times untimed
    first, where the context takes effect only with the second call.
    """
    times: list[list[float]] = [[] for _ in functions]
    contexts = [*within, *(nullcontext for _ in functions[len(within) :])]
    for _ in range(rounds):
        for function, own, context in zip(functions, times, contexts, strict=True):
            with context():
                for _ in range(warm):
                    function()
                own.append(seconds(function))
    return times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def best_bf16_rate(size: int = 2048, rounds: int = 7) -> float:
    """Return the machine's best bfloat16 matrix-product rate, in TFLOP/s."""
    a = torch.randn(size, size).bfloat16()
    times = [seconds(lambda: a @ a) for _ in range(rounds)]
    return 2 * size**3 / min(times) / 1e12


def _status(name: str) -> int:
    """Return a figure of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the system does not tell {name}")


def peak_bytes(function: Callable[[], object]) -> int:
    """Return how far a call lifts this process's resident memory above what it had before."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    function()
    return _status("VmHWM") - before


def in_own_process(program: str, arguments: Sequence[str]) -> dict:
    """Run a program and read the JSON that it prints last."""
    command = [sys.executable, program, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def finish(result: dict, path: Path | None) -> None:
    """Print a result as one JSON object, and write it."""
    text = json.dumps(result, indent=2)
    print(text)
    if path is not None:
        path.write_text(text + "\n")
