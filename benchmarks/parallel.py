"""Time a step in one process of one thread against two of one thread each, alternating.

    python benchmarks/parallel.py --classes 10 100 --steps 5 --rounds 7 --json FILE

CIFAR-10-like drawn images, ConvNet-3 with InstanceNorm, float32 eager and compiled bfloat16. Both
sides do the steps of a run without its files. `efficiency` is t1 / (2 t2) of the medians. The two
processes stay alive and wait while one process works, and the other way round.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import drawn, finish

from distilset.allocator import kept_memory
from distilset.config import build
from distilset.optimise import descend
from distilset.plan import make_plan
from distilset.runs import begin

VARIANTS = {"float32, eager": ("fp32", "off"), "bfloat16, compiled": ("bf16", "on")}


def serve(classes: int, variant: str, arguments: argparse.Namespace) -> None:
    """Do rounds of steps as they are asked for on standard input; rank 0 answers with seconds."""
    precision, compiled = VARIANTS[variant]
    config = build(
        {
            "data": {"source": "drawn"},
            "method": {"name": arguments.method},
            "distill": {
                "ipc": arguments.ipc,
                "batch_real": arguments.batch_real,
                "steps": 1_000_000,
            },
            "engine": {"device": "cpu", "precision": precision, "compile": compiled, "threads": 1},
        }
    )
    torch.set_num_threads(1)
    plan = make_plan(config, drawn(classes, per_class=2 * arguments.batch_real))
    records = descend(begin(plan).state, plan.method, steps=1_000_000, image_lr=1.0, momentum=0.5)
    with kept_memory():
        float(next(records).loss)  # compiles
        for steps in iter(sys.stdin.readline, ""):
            start = time.perf_counter()
            for _ in range(int(steps)):
                float(next(records).loss)
            print(json.dumps((time.perf_counter() - start) / int(steps)), flush=True)


class Side:
    """Processes that work together and are asked for rounds."""

    def __init__(self, number: int, classes: int, variant: str, words: list[str]) -> None:
        with socket.socket() as asked:
            asked.bind(("127.0.0.1", 0))
            port = asked.getsockname()[1]
        command = [sys.executable, __file__, *words, "--serve", str(classes), variant]
        ranks = {"WORLD_SIZE": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared = {key: str(value) for key, value in ranks.items()} | {"OMP_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(number)
        ]

    def seconds(self, steps: int) -> float:
        """Return the seconds of a step: of the slowest process."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        return max(json.loads(p.stdout.readline()) for p in self.processes if p.stdout)

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            process.wait()


def measure(classes: int, variant: str, arguments: argparse.Namespace) -> dict:
    """Compare one process with two."""
    words = ["--method", arguments.method, "--ipc", str(arguments.ipc)]
    words += ["--batch-real", str(arguments.batch_real)]
    one, two = (Side(number, classes, variant, words) for number in (1, 2))
    times: tuple[list[float], list[float]] = [], []
    for side in (one, two):
        side.seconds(1)
    for _ in range(arguments.rounds):
        for own, side in zip(times, (one, two), strict=True):
            own.append(1000 * side.seconds(arguments.steps))
    one.close()
    two.close()
    first, second = (statistics.median(own) for own in times)
    return {
        "classes": classes,
        "variant": variant,
        "one_ms": first,
        "two_ms": second,
        "efficiency": first / (2 * second),
        "rounds_one_ms": times[0],
        "rounds_two_ms": times[1],
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--batch-real", type=int, default=128)
    parser.add_argument("--method", default="datadam")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    if arguments.serve:
        serve(int(arguments.serve[0]), arguments.serve[1], arguments)
        return
    rows = [
        measure(classes, variant, arguments)
        for classes in arguments.classes
        for variant in arguments.variants
    ]
    settings = {name: getattr(arguments, name) for name in ("ipc", "batch_real", "method", "steps")}
    finish({**settings, "rounds": arguments.rounds, "rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
