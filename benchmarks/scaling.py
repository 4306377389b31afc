"""Time and peak memory of a step against classes, images per class, real batch and resolution.

    python benchmarks/scaling.py --method datadam --norm instance --json FILE

Every point runs in a process of its own on drawn images, so that its peak memory is its own,
above what the process had once the data were there. Medians of `--steps` steps after the first.
"""

import argparse
import statistics
from pathlib import Path

import torch
from common import drawn, finish, in_own_process, peak_bytes, seconds
from step import our_step

from distilset.allocator import kept_memory
from distilset.config import build
from distilset.initial import initial_images
from distilset.plan import make_plan

POINT = {"classes": 10, "ipc": 10, "batch_real": 128, "side": 32}
AXES = {
    "classes": (10, 100, 1000),
    "ipc": (1, 10, 50),
    "batch_real": (32, 128, 512),
    "side": (32, 64, 128),
}
NAMED = {
    "100 classes, 256 real": {"classes": 100, "ipc": 10, "batch_real": 256, "side": 32},
    "1000 classes at 64x64": {"classes": 1000, "ipc": 1, "batch_real": 64, "side": 64},
}


def measure(point: dict[str, int], method: str, norm: str, steps: int) -> dict:
    """Measure one point in this process."""
    per_class = max(point["batch_real"], point["ipc"])
    train = drawn(point["classes"], per_class, point["side"])
    config = build(
        {
            "data": {"source": "drawn"},
            "method": {"name": method},
            "network": {"norm": norm},
            "distill": {
                "ipc": point["ipc"],
                "batch_real": point["batch_real"],
                "steps": 1_000_000,
            },
            "engine": {"compile": "on"},
        }
    )
    plan = make_plan(config, train)
    task = plan.task
    images = initial_images("random", train, task.transform, task.ipc, task.rng)
    step, times = our_step(plan, images), []
    with kept_memory():  # as in a run
        peak = peak_bytes(lambda: times.extend(seconds(step) for _ in range(steps + 1)))
    return {
        "seconds": statistics.median(times[1:]),
        "first_seconds": times[0],
        "bytes": peak,
        "precision": task.settings.precision,
    }


def points() -> dict[str, dict[str, int]]:
    """Return every point once, by a name."""
    found = {}
    for axis, values in AXES.items():
        for value in values:
            point = {**POINT, axis: value}
            if axis == "classes" and value == 1000:
                point |= {"ipc": 1, "batch_real": 64}
            found[f"{axis} {value}"] = point
    return found | NAMED


def main() -> None:
    """Measure every point, or one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--method", default="datadam")
    parser.add_argument("--norm", default="instance")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs=4, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        point = dict(zip(POINT, arguments.only, strict=True))
        result = measure(point, arguments.method, arguments.norm, arguments.steps)
        print(str(result).replace("'", '"'))
        return
    rows = []
    for name, point in points().items():
        words = ["--method", arguments.method, "--norm", arguments.norm]
        words += ["--steps", str(arguments.steps), "--only", *(str(v) for v in point.values())]
        rows.append({"name": name, **point, **in_own_process(__file__, words)})
        print(
            f"| {name} | {rows[-1]['seconds']:.2f} s | {rows[-1]['bytes'] / 1e6:.0f} MB |",
            flush=True,
        )
    finish(
        {
            "method": arguments.method,
            "norm": arguments.norm,
            "threads": torch.get_num_threads(),
            "rows": rows,
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
