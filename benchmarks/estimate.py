"""Estimate the cost of ImageNet-1K from what `thousand.py` measured. An estimate, no measurement.

    python benchmarks/estimate.py thousand.json --processors 1 8 64 --speed 1 --steps 20000

The measured seconds of a step are scaled by the images that it looks at, a synthetic one counted
three times (forward, and twice that back), and by their pixels; divided by the processors and by
the efficiency that two processes had, taken as it is for any number. ``--speed`` says how many
times faster one processor (a GPU) is than the measured process: 1 estimates processes like it.
"""

import argparse
import json
from pathlib import Path

from common import finish

BACKWARD = 3


def images(classes: int, ipc: int, batch_real: int) -> int:
    """Return the forward passes that a step is worth."""
    return classes * (batch_real + BACKWARD * ipc)


def estimate(measured: dict, wanted: argparse.Namespace) -> dict:
    """Return seconds per step and hours of the run for each number of processors."""
    settings, one = measured["settings"], measured["distil-1"]["seconds_per_step"]
    several = measured.get("distil-n")
    efficiency = 1.0
    if several is not None:
        efficiency = one / (several["seconds_per_step"] * settings["processes"])
    done = images(settings["classes"], settings["ipc"], settings["batch_real"])
    asked = images(wanted.classes, wanted.ipc, wanted.batch_real)
    single = one * asked / done * (wanted.side / settings["side"]) ** 2 / wanted.speed
    rows = []
    for number in wanted.processors:
        step = single / (number * (efficiency if number > 1 else 1))
        rows.append(
            {
                "processors": number,
                "seconds_per_step": step,
                "hours": step * wanted.steps / 3600,
                "processor_hours": number * step * wanted.steps / 3600,
            }
        )
    return {
        "estimate": "scaled from measured figures, not measured",
        "measured": {**settings, "seconds_per_step": one, "efficiency": efficiency},
        "assumed": {
            name: getattr(wanted, name)
            for name in ("classes", "ipc", "batch_real", "side", "steps", "speed")
        },
        "rows": rows,
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("measured", type=Path)
    parser.add_argument("--processors", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--batch-real", type=int, default=64)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Read, scale, print."""
    wanted = parse()
    finish(estimate(json.loads(wanted.measured.read_text()), wanted), wanted.json)


if __name__ == "__main__":
    main()
