"""Time a step in one process of one thread against two of one thread each, alternating.

    python benchmarks/parallel.py --classes 10 100 --steps 5 --rounds 7 --json FILE

CIFAR-10-like drawn images, ConvNet-3 with InstanceNorm, float32 eager and compiled bfloat16. Both
sides do the steps of a run without its files. `efficiency` is t1 / (2 t2) of the medians. The two
processes stay alive and wait while one process works, and the other way round.

What is `kept` of 1 is told apart by two more sides: one process with half of the classes, and two
such processes that know nothing of each other. `fixed` is t1 / (2 t_half): below 1 by the work that
does not become less with the classes; `machine` is t_half / t_halves: what two busy cores leave of
the speed of one; `exchange` is t_halves / t2: what the two lose by being one run. The product of
the three is the efficiency.
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
            "engine": {"device": "cpu", "precision": precision, "compile": compiled, "threads": 1}
            | ({} if arguments.chunk is None else {"chunk": arguments.chunk}),
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


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


class Side:
    """Processes that are asked for rounds at the same time: of one run, or ``alone`` each."""

    def __init__(
        self, number: int, classes: int, variant: str, words: list[str], *, alone: bool = False
    ) -> None:
        command = [sys.executable, __file__, *words, "--serve", str(classes), variant]
        size = 1 if alone else number
        ranks = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        shared = {key: str(value) for key, value in ranks.items()} | {"OMP_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in ([0] * number if alone else range(number))
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
    words += [] if arguments.chunk is None else ["--chunk", str(arguments.chunk)]
    sides = {
        "one": Side(1, classes, variant, words),
        "two": Side(2, classes, variant, words),
        "half": Side(1, classes // 2, variant, words),
        "halves": Side(2, classes // 2, variant, words, alone=True),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side.seconds(1)
    for _ in range(arguments.rounds):
        for name, side in sides.items():
            times[name].append(1000 * side.seconds(arguments.steps))
    for side in sides.values():
        side.close()
    one, two, half, halves = (statistics.median(own) for own in times.values())
    return {
        "classes": classes,
        "variant": variant,
        **{f"{name}_ms": statistics.median(own) for name, own in times.items()},
        "efficiency": one / (2 * two),
        "kept": {"fixed": one / (2 * half), "machine": half / halves, "exchange": halves / two},
        **{f"rounds_{name}_ms": own for name, own in times.items()},
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
    parser.add_argument("--chunk", type=int, help="images that pass the network at once")
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
    settings = {
        name: getattr(arguments, name) for name in ("ipc", "batch_real", "method", "steps", "chunk")
    }
    finish({**settings, "rounds": arguments.rounds, "rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
