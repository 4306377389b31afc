"""An hour of steps and evaluations in one process, to see whether memory stays flat.

    python benchmarks/soak.py run --minutes 60 --json FILE
    python benchmarks/soak.py runs --minutes 60 --compile off --json FILE

``run``: one long compiled run of the digits into a folder, with checkpoints and TensorBoard, whose
images are evaluated every `EVERY` steps by a network trained on them. ``runs``: a cycle distils the
digits with a new seed, in turn with fresh targets or a bank, into a folder or not, and (without
``--compile``) compiled or eager, and trains networks on the result.

After each evaluation the process's resident memory, its Python objects, tensors, open files and
threads are noted. Memory is called flat if the second half of the rows rises by less than `BAR` MB
an hour (a line of least squares), or by less than `NOISE` MB in all, and no other count rises from
the one half of it to the other by more than `MORE` of each (and by more than two). About `KEPT`
rows are written.
"""

import argparse
import gc
import itertools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import _status, finish

import distilset
from distilset.config import build
from distilset.runfolder import RunFolder
from distilset.runs import finish as made_of
from distilset.session import open_session

BAR, NOISE, MORE = 20.0, 10.0, 0.05
EVERY, KEPT = 200, 100
WAYS = list(itertools.product((0, 8), ("off", "on"), (False, True)))
"""Targets of a bank, compilation, whether there is a folder."""


def evaluate(made: distilset.DistilledSet, splits: distilset.Splits, seed: int) -> None:
    """Train a network on a set and score it."""
    assert splits.test is not None
    distilset.evaluate(made, splits.test, protocol="quick", epochs=20, trials=1, seed=seed)


def one_run(splits: distilset.Splits, work: Path) -> Iterator[int]:
    """Go on with one run for ever; yield its step after each evaluation of its images."""
    distill = {"ipc": 1, "steps": 10**9, "batch_real": 32}
    config = build(
        {
            "distill": distill,
            "network": {"width": 32, "depth": 2},
            "engine": {"compile": "on", "checkpoint_every": 100},
            "data": {"source": "digits"},
        }
    )
    session = open_session(config, splits.train, RunFolder(work / "run"))
    session.tensorboard = True
    for record in session.records():
        if record.step % EVERY == 0:
            evaluate(made_of(session.plan, session.progress), splits, record.step)
            yield record.step


def many_runs(
    splits: distilset.Splits, work: Path, steps: int, compiled: str | None
) -> Iterator[int]:
    """Distil with a new seed in each of the ways in turn, and evaluate, for ever."""
    ways = [way for way in WAYS if compiled in (None, way[1])]
    for number in itertools.count():
        bank, compilation, folder = ways[number % len(ways)]
        made = distilset.distill(
            splits.train,
            method=("datadam", "atom", "dm")[number % 3],
            ipc=1,
            steps=steps,
            network="convnet:width=32,depth=2",
            batch_real=32,
            seed=number,
            bank=bank,
            settings={"engine": {"compile": compilation}, "distill": {"bank_seed": number % 4}},
            out=work / f"run{number % 4}" if folder else None,
            overwrite=True,
            checkpoint_every=10,
        )
        evaluate(made, splits, number)
        yield (number + 1) * steps


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
    parts = half[: max(1, len(half) // 2)], half[len(half) // 2 :]
    growth, flat = {}, slope < BAR or rise < NOISE
    for name in ("objects", "tensors", "files", "threads"):
        first, last = (statistics.median(row[name] for row in part) for part in parts)
        growth[name] = last / first - 1
        flat &= growth[name] < MORE or last - first <= 2
    return {"mb_per_hour": slope, "rise_mb": rise, "growth": growth, "flat": bool(flat)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("run", "runs"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=40, help="steps of each of many runs")
    parser.add_argument("--compile", choices=("on", "off"), help="only these of many runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits, rows, start = distilset.load_data("digits"), [], time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        os.environ["DISTILSET_CACHE"] = f"{work}/cache"  # banks of its own
        if args.kind == "run":
            soaking = one_run(splits, Path(work))
        else:
            soaking = many_runs(splits, Path(work), args.steps, args.compile)
        for step in soaking:
            hours = (time.perf_counter() - start) / 3600
            rows.append({"hours": hours, "steps": step, **counts()})
            print({name: round(value, 3) for name, value in rows[-1].items()}, flush=True)
            if hours * 60 > args.minutes and len(rows) >= 2 * len(WAYS):
                break
    result = {
        "kind": args.kind,
        "compile": "on" if args.kind == "run" else args.compile or "both",
        "evaluations": len(rows),
        "steps": rows[-1]["steps"],
        **judged(rows),
        "bars": {"mb_per_hour": BAR, "mb": NOISE, "growth": MORE},
        "rows": rows[:: max(1, len(rows) // KEPT)],
    }
    finish(result, args.json)


if __name__ == "__main__":
    main()
