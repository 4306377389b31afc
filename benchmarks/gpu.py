"""Measure the GPU path: a distillation step against the twin, and networks trained together.

    python benchmarks/gpu.py --json FILE

Two parts. A `datadam` step at 10 images per class with 128 real per class, ours and the textbook
twin's, alternating in one process; `loop_seconds` is ours without waiting after every step, as a
run does it. Ten networks under protocol `dm` at 10 images per class, one by one and together, after
a short training that compiles. Data are drawn. Every time ends with reading a number back from the
device, which waits for all that was queued before it.

Without CUDA it says so and exits with code 2. `--device cpu --quick` goes through all of it at tiny
sizes, to see that it runs: those figures mean nothing.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import step
import torch
from common import alternate, drawn, finish, seconds, spread

from distilset.api import train_settings
from distilset.augment import AugmentConfig
from distilset.data.normalise import Transform
from distilset.evaluation import PROTOCOLS, Trainers, TrialResult, score_images
from distilset.models import NetworkConfig
from distilset.plan import Plan
from distilset.rng import Rng
from distilset.selectors import get_selector
from distilset.training.step import eager

STEP = {"data": "drawn", "method": "datadam", "norm": "instance", "network": "convnet"}
FULL = {"ipc": 10, "batch_real": 128, "rounds": 7, "steps": 50, "trials": 10, "epochs": 1000}
FULL |= {"warm_epochs": 20, "width": 128, "scored": 1000}
QUICK = {"ipc": 1, "batch_real": 2, "rounds": 1, "steps": 2, "trials": 2, "epochs": 2}
QUICK |= {"warm_epochs": 1, "width": 8, "scored": 4}


def matmul_tflops(device: str, size: int) -> float:
    """Return the device's best bfloat16 matrix-product rate, of 10 products in a row."""
    a = torch.randn(size, size, device=device).bfloat16()

    def ten() -> None:
        out = a
        for _ in range(10):
            out = a @ out
        out[0, 0].item()

    return 10 * 2 * size**3 / min(seconds(ten) for _ in range(5)) / 1e12


def peak_device_bytes(device: str, function: Callable[[], object]) -> int | None:
    """Return the most memory that PyTorch held on a GPU during a call; None on a CPU."""
    if torch.device(device).type != "cuda":
        function()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    function()
    return torch.cuda.max_memory_allocated(device)


def loop_seconds(plan: Plan, images: torch.Tensor, steps: int) -> float:
    """Return the seconds of a step in a loop that reads back only the last loss."""
    records = plan.descend(plan.start(images.clone()), step.STEPS)
    float(next(records).loss)
    return seconds(lambda: float([next(records) for _ in range(steps)][-1].loss)) / steps


def measure_step(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare and time a distillation step."""
    plan, images = step.make(arguments, drawn())
    twin = step.make_twin(arguments, plan)
    first = seconds(step.our_step(plan, images))
    gaps = step.differences(plan, twin, images)
    ours, theirs = step.our_step(plan, images), step.twin_step(plan, twin, images)
    for call in (ours, theirs) * 3:  # a CUDA graph is replayed from its third call on
        call()
    mine, other = alternate(arguments.rounds, ours, theirs)
    loop = loop_seconds(plan, images, arguments.steps)
    return {
        **{name: getattr(arguments, name) for name in ("ipc", "batch_real", "rounds", "steps")},
        "precision": plan.config.engine.precision,
        "compile": plan.config.engine.compile,
        "ours_seconds": spread(mine),
        "twin_seconds": spread(other),
        "ratio": spread(other)["median"] / spread(mine)["median"],
        "loop_seconds": loop,
        "loop_ratio": spread(other)["median"] / loop,
        "first_seconds": first,
        "tflops": step.flops(plan) / loop / 1e12,
        "peak_bytes": {
            "ours": peak_device_bytes(arguments.device, ours),
            "twin": peak_device_bytes(arguments.device, theirs),
        },
        "differences": gaps,
        "notes": list(plan.method.notes),
    }


def measure_networks(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time networks trained and scored one by one and together."""
    train, test = drawn(), drawn(per_class=arguments.scored, role="test")
    rows = get_selector("random")(train, arguments.ipc, Rng(0))
    transform = Transform(train.info.mean, train.info.std)
    images, labels = transform.apply(train.images[rows]), train.labels[rows]
    settings, trainers = train_settings(arguments.device), Trainers()
    settings = settings if arguments.compile == "on" else eager(settings)

    def judge(together: int | None, epochs: int) -> list[TrialResult]:
        return score_images(
            images,
            labels,
            test,
            transform,
            NetworkConfig(width=arguments.width),
            PROTOCOLS["dm"].with_epochs(epochs),
            trials=arguments.trials,
            augmentation=AugmentConfig(),
            settings=replace(settings, together=together),
            trainers=trainers,
        )

    ways: dict[str, int] = {"one_by_one": 1, "together": arguments.trials}
    first = {way: seconds(lambda n=n: judge(n, arguments.warm_epochs)) for way, n in ways.items()}
    found = {way: judge(n, arguments.epochs) for way, n in ways.items()}
    times = {way: sum(result.seconds for result in results) for way, results in found.items()}
    pairs = zip(found["one_by_one"], found["together"], strict=True)
    return {
        **{name: getattr(arguments, name) for name in ("ipc", "trials", "epochs", "width")},
        "seconds": times,
        "ratio": times["one_by_one"] / times["together"],
        "first_seconds": first,
        "compute": {way: results[0].compute for way, results in found.items()},
        "compute_by_rule": judge(None, 1)[0].compute,
        "accuracies": {way: [r.accuracy for r in results] for way, results in found.items()},
        "largest_accuracy_gap": max(abs(a.accuracy - b.accuracy) for a, b in pairs),
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, not compiled")
    parser.add_argument("--json", type=Path)
    found = parser.parse_args(argv)
    sizes = QUICK if found.quick else FULL
    compiled = {"compile": "off" if found.quick else "on", "threads": None}
    return argparse.Namespace(**{**STEP, **sizes, **compiled, **vars(found)})


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    arguments = parse(argv)
    cuda = torch.device(arguments.device).type == "cuda"
    if cuda and not torch.cuda.is_available():
        print("no GPU was measured: PyTorch finds no CUDA device here", file=sys.stderr)
        raise SystemExit(2)
    result = {
        "device": torch.cuda.get_device_name(arguments.device) if cuda else arguments.device,
        "torch": torch.__version__,
        "quick": arguments.quick,
        "bf16_matmul_tflops": matmul_tflops(arguments.device, 64 if arguments.quick else 8192),
        "step": measure_step(arguments),
        "networks": measure_networks(arguments),
    }
    finish(result, arguments.json)


if __name__ == "__main__":
    main()
