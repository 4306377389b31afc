"""Damages files for every loader and counts what comes of it.

    python benchmarks/fuzz.py --cases 3000 --seed 1 --json benchmarks/results/fuzz.json

Each loader runs in a process of its own, whose address space is limited and whose peak memory is
measured, so that a crash or a hang is counted as well. The cases are those of tests/fuzzing.py.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from common import finish, in_own_process

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.fuzzing

SPARE = 6 * 2**30
"""Bytes of addresses that a child may take beyond those that it starts with."""


def main() -> None:
    """Run the cases of all loaders, or of one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="for each loader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--loader", action="append", help="only this one [all]; may be repeated")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    from tests.fuzzing import LOADERS

    names = args.loader or list(LOADERS)
    if args.child:
        print(json.dumps(one(names[0], args.cases, args.seed)))
        return
    rows = {name: in_child(name, args.cases, args.seed) for name in names}
    outcomes = Counter()
    for row in rows.values():
        outcomes.update(row.get("outcomes", {"crashed": 1}))
    about = {"torch": torch.__version__, "python": platform.python_version()}
    made = {"program": "benchmarks/fuzz.py", "cases": args.cases, "seed": args.seed, **about}
    finish(
        {**made, "total": sum(outcomes.values()), "outcomes": outcomes, "loaders": rows}, args.json
    )


def in_child(name: str, cases: int, seed: int) -> dict:
    """Run a loader's cases in a process of its own."""
    words = ["--child", "--loader", name, "--cases", str(cases), "--seed", str(seed)]
    try:
        return in_own_process(__file__, words)
    except subprocess.CalledProcessError as error:
        return {"outcomes": {f"crashed with code {error.returncode}": 1}}


def one(name: str, cases: int, seed: int) -> dict:
    """Run a loader's cases here; return the counts, the seconds and the peak of memory."""
    from tests.fuzzing import Bench

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(name, Path(folder) / "case")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, used + SPARE))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, longest = time.perf_counter(), 0.0
        outcomes: Counter[str] = Counter()
        strange = []
        for number in range(cases):
            began = time.perf_counter()
            outcome = bench.case(seed, number)
            longest = max(longest, time.perf_counter() - began)
            usual = outcome in ("read", "refused")
            outcomes[outcome if usual else outcome.split(":")[0]] += 1
            strange += [] if usual else [f"case {number}: {outcome[:200]}"]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "outcomes": dict(outcomes),
        "seconds": round(time.perf_counter() - start, 1),
        "longest_case_ms": round(1000 * longest),
        "peak_growth_MiB": round((peak - before) / 1024),
        **({"strange": strange[:20]} if strange else {}),
    }


if __name__ == "__main__":
    sys.exit(main())
