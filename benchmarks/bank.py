"""Time building a bank of targets, by one process with all threads or by several that share them.

    python benchmarks/bank.py --data drawn --size 64 --workers 1 2 --rounds 3 --json FILE

Every build runs in a process and a cache of its own, the numbers of workers taking turns; one
build of each beforehand fills the compiler's cache on disk. `open` is what a command does before it
builds: plan, compilation, a probe. `build` is the building, with the workers' start and their
compilation; `steady` is the same without them: what all but the first quarter of the targets took,
times 4/3.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import torch
from common import finish, in_own_process, spread, train_part

from distilset.config import build
from distilset.session import open_session

FIGURES = ("open", "build", "steady", "process_bytes")


def measure(arguments: argparse.Namespace, workers: int) -> dict:
    """Build the bank once in this process, and return seconds and bytes."""
    config = build(
        {
            "data": {"source": arguments.data, "zca": arguments.zca},
            "method": {"name": arguments.method},
            "network": {"norm": arguments.norm},
            "distill": {"ipc": 1, "batch_real": arguments.batch_real, "bank": arguments.size},
            "engine": {"bank_workers": workers, "threads": arguments.threads},
        }
    )
    train, start = train_part(arguments.data), time.perf_counter()
    session = open_session(config, train)
    opened, done = time.perf_counter(), []
    session.build_bank(lambda _number, _total: done.append(time.perf_counter()))
    settings = session.plan.task.settings
    assert len(done) == arguments.size, "the bank was there already"
    first = arguments.size // 4
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # the largest of them
    return {
        "open": opened - start,
        "build": done[-1] - opened,
        "steady": (done[-1] - done[first - 1]) * arguments.size / (arguments.size - first),
        "process_bytes": children if workers > 1 else 0,
        "precision": settings.precision,
        "compile": settings.compile,
    }


def words(arguments: argparse.Namespace, workers: int) -> list[str]:
    """Return the command line of one build."""
    named = ("data", "size", "method", "norm", "batch_real", "threads")
    pairs = [(f"--{name.replace('_', '-')}", str(getattr(arguments, name))) for name in named]
    flags = ["--zca"] if arguments.zca else []
    return [*(word for pair in pairs for word in pair), *flags, "--only", str(workers)]


def build_once(arguments: argparse.Namespace, workers: int) -> dict:
    """Build in a process of its own, into a cache that is then thrown away."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DISTILSET_CACHE"] = cache
        return in_own_process(__file__, words(arguments, workers))


def main() -> None:
    """Take turns, print medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", default="drawn", help="drawn, or what load_data takes")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--method", default="atom")
    parser.add_argument("--norm", default="instance")
    parser.add_argument("--batch-real", type=int, default=64)
    parser.add_argument("--zca", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="in all")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments, arguments.only)))
        return
    cold = {workers: build_once(arguments, workers) for workers in arguments.workers}
    rounds = [
        {workers: build_once(arguments, workers) for workers in arguments.workers}
        for _ in range(arguments.rounds)
    ]
    rows = [
        {
            "workers": workers,
            "first": cold[workers],
            **{name: spread([run[workers][name] for run in rounds]) for name in FIGURES},
        }
        for workers in arguments.workers
    ]
    named = {key: value for key, value in vars(arguments).items() if key not in ("json", "only")}
    finish({**named, "torch": torch.__version__, "rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
