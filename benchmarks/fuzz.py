"""Damages files for every loader and counts what comes of it.

    python benchmarks/fuzz.py --cases 1200 --seed 1 --json benchmarks/results/fuzz.json

Each loader runs in a process of its own, whose address space is limited and whose peak memory is
measured, so that a crash is counted as well. The cases are those of tests/fuzzing.py: a case can be
made again from the loader's name, the seed and its number. The file is written after each loader;
with ``--loader`` the others' rows stay in it.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.fuzzing

from tests.fuzzing import LOADERS, Bench

SPARE = 6 * 2**30
"""Bytes of addresses that a child may take beyond those that it starts with."""


def main() -> None:
    """Run the cases of all loaders, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="for each loader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--loader", action="append", help="only this one [all]; may be repeated")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a forked child has no other
    rows = earlier(args.json) if args.loader and args.json else {}
    about = {"torch": torch.__version__, "python": platform.python_version()}
    made = {"program": "benchmarks/fuzz.py", "cases": args.cases, "seed": args.seed, **about}
    for name in args.loader or LOADERS:
        rows[name] = in_child(name, args.cases, args.seed)
        print(name, json.dumps(rows[name]), flush=True)
        outcomes = sum((Counter(row["outcomes"]) for row in rows.values()), Counter[str]())
        result = {**made, "total": sum(outcomes.values()), "outcomes": outcomes, "loaders": rows}
        if args.json:
            args.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, row in rows.items():
        if "strange" in row or not {"read", "refused"} >= set(row["outcomes"]):
            print(f"{name} is not as it must be: {row['outcomes']}")


def earlier(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of an earlier call by loader, if there was one."""
    return json.loads(path.read_text())["loaders"] if path.is_file() else {}


def in_child(name: str, cases: int, seed: int) -> dict[str, Any]:
    """Run a loader's cases in a process of its own."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=lambda: sender.send(one(name, cases, seed)))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        return {"outcomes": {f"crashed with code {child.exitcode}": 1}}
    finally:
        child.join()


def one(name: str, cases: int, seed: int) -> dict[str, Any]:
    """Run a loader's cases here; return the counts, the seconds and the peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, Path(folder) / "case")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, used + SPARE))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, longest = time.perf_counter(), 0.0
        outcomes: Counter[str] = Counter()
        strange = []
        for number in range(0, cases, LOADERS[name].every):
            began = time.process_time()
            outcome = bench.case(seed, number)
            longest = max(longest, time.process_time() - began)
            usual = outcome in ("read", "refused")
            outcomes[outcome if usual else outcome.split(":")[0]] += 1
            strange += [] if usual else [f"case {number}: {outcome[:200]}"]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "outcomes": dict(outcomes),
        "seconds": round(time.perf_counter() - start, 1),
        "longest_case_cpu_ms": round(1000 * longest),
        "peak_growth_MiB": round((peak - before) / 1024),
        **({"strange": strange[:20]} if strange else {}),
    }


if __name__ == "__main__":
    main()
