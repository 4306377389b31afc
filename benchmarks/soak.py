"""Steps and evaluations in one process for an hour, to see whether memory stays flat.

    python benchmarks/soak.py --minutes 60 --json FILE

A cycle distils the digits with a new seed, in eight ways in turn (fresh targets or a bank, eager or
compiled, into a folder or not), and trains networks on the result. After each, the process's
resident memory, its Python objects, tensors, open files and threads are noted. Memory is called
flat if the second half of the cycles rises by less than `BAR` MB an hour (a line of least squares),
or by less than `NOISE` MB in all, and no other count rises from the one half to the other by more
than `MORE` of each.
"""

import argparse
import gc
import itertools
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from common import _status, finish

import distilset

BAR, NOISE, MORE = 20.0, 10.0, 0.05
WAYS = list(itertools.product((0, 8), ("off", "on"), (False, True)))
"""Targets of a bank, compilation, whether there is a folder."""


def cycle(number: int, splits: distilset.Splits, work: Path, steps: int) -> None:
    """Distil with a new seed in one of the ways, and evaluate."""
    bank, compiled, folder = WAYS[number % len(WAYS)]
    made = distilset.distill(
        splits.train,
        method=("datadam", "atom", "dm")[number % 3],
        ipc=1,
        steps=steps,
        network="convnet:width=32,depth=2",
        batch_real=32,
        seed=number,
        bank=bank,
        settings={"engine": {"compile": compiled}, "distill": {"bank_seed": number % 4}},
        out=work / f"run{number % 4}" if folder else None,
        overwrite=True,
        checkpoint_every=10,
    )
    assert splits.test is not None
    distilset.evaluate(made, splits.test, protocol="quick", epochs=20, trials=1, seed=number)


def counts() -> dict[str, float]:
    """Return what this process holds now."""
    gc.collect()
    objects = gc.get_objects()
    return {
        "rss_mb": _status("VmRSS") / 1e6,
        "objects": len(objects),
        "tensors": sum(issubclass(type(one), torch.Tensor) for one in objects),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "python_threads": threading.active_count(),
    }


def judged(rows: list[dict[str, float]]) -> dict:
    """Return the slope of memory after the first half, the growth of the rest, and the verdict."""
    half = rows[len(rows) // 2 :]
    hours, memory = ([row[name] for row in half] for name in ("hours", "rss_mb"))
    slope = float(np.polyfit(hours, memory, 1)[0]) if len(half) > 2 else float("nan")
    rise = slope * (hours[-1] - hours[0])
    thirds = half[: max(1, len(half) // 2)], half[len(half) // 2 :]
    growth = {
        name: statistics.median(row[name] for row in thirds[1])
        / statistics.median(row[name] for row in thirds[0])
        - 1
        for name in ("objects", "tensors", "files", "threads")
    }
    flat = (slope < BAR or rise < NOISE) and all(value < MORE for value in growth.values())
    return {"mb_per_hour": slope, "rise_mb": rise, "growth": growth, "flat": flat}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=40, help="steps of each cycle")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits, rows, start = distilset.load_data("digits"), [], time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        os.environ["DISTILSET_CACHE"] = f"{work}/cache"  # banks of its own
        while time.perf_counter() - start < 60 * args.minutes or len(rows) < 2 * len(WAYS):
            cycle(len(rows), splits, Path(work), args.steps)
            hours = (time.perf_counter() - start) / 3600
            rows.append({"hours": hours, **counts()})
            print({name: round(value, 3) for name, value in rows[-1].items()}, flush=True)
    bars = {"mb_per_hour": BAR, "mb": NOISE, "growth": MORE}
    result = {"cycles": len(rows), "steps": args.steps, **judged(rows), "bars": bars, "rows": rows}
    finish(result, args.json)


if __name__ == "__main__":
    main()
