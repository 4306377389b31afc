"""Every network on digits at 10 images per class: what trains, what distils, what collapses.

    python benchmarks/networks.py --json FILE

1. Every network is trained on one set that ConvNet distilled (ATOM), by protocol `quick`.
2. Every network distils for some steps with each method it can.
3. ResNet-18 distils with batch and with instance norm, alone and in a pool with ConvNet; both
   networks are trained on each result.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import distilset as ds
from distilset.methods import METHODS

NETWORKS = (
    *("convnet", "mlp", "lenet", "alexnet", "alexnet:norm=none", "alexnet:norm=batch", "vgg11"),
    *("vgg11:norm=batch", "resnet18", "resnet18:norm=batch", "resnet18:norm=group"),
    *("resnet18:pooling=avg", "vit"),
)
COLLAPSE = (
    *("convnet", "resnet18", "resnet18:norm=batch", "resnet18:norm=group"),
    *("resnet18:pooling=avg", "convnet,resnet18"),
)
FAR = 3.0
"""A network is fit if it reaches this many times the accuracy of guessing."""


def score(distilled: ds.DistilledSet, splits: ds.Splits, network: str, trials: int) -> dict:
    """Train networks on a set, score them, and return accuracy and seconds."""
    assert splits.test is not None
    found = ds.evaluate(
        distilled, splits.test, network=network, protocol="quick", trials=trials, precision="fp32"
    )
    return {
        "accuracy": found.accuracy_mean,
        "std": found.accuracy_std,
        "trials": trials,
        "seconds": round(found.seconds, 1),
    }


def training(splits: ds.Splits, distilled: ds.DistilledSet, trials: int) -> Iterator[dict]:
    """Train every network on one distilled set."""
    chance = 100 / len(splits.train.classes)
    for network in NETWORKS:
        row = {"network": network, **score(distilled, splits, network, trials)}
        yield {**row, "fit": row["accuracy"] >= FAR * chance}


def distilling(splits: ds.Splits, steps: int) -> Iterator[dict]:
    """Distil with every network and method for some steps; say what refuses."""
    for network in NETWORKS:
        for method in METHODS:
            row: dict[str, Any] = {"network": network, "method": method}
            losses: list[float] = []
            start = perf_counter()
            try:
                ds.distill(
                    splits.train,
                    method=method,
                    ipc=10,
                    steps=steps,
                    network=network,
                    progress=lambda record, seen=losses: seen.append(float(record.loss)),
                )
            except ds.ConfigError as error:
                yield {**row, "refused": str(error)}
                continue
            seconds = (perf_counter() - start) / steps
            ends = {"first_loss": losses[0], "last_loss": losses[-1]}
            yield {**row, **ends, "seconds_per_step": round(seconds, 3)}


def collapse(splits: ds.Splits, steps: int, trials: int) -> Iterator[dict]:
    """Distil on ResNet-18 in its forms and on ConvNet; train both on each result."""
    for network in COLLAPSE:
        distilled = ds.distill(
            splits.train, method="atom", ipc=10, steps=steps, network=network, compile="on"
        )
        row: dict[str, Any] = {"distilled_on": network, "steps": steps}
        for judged in ("convnet:norm=instance", "resnet18:norm=instance", "resnet18:norm=batch"):
            row[judged] = score(distilled, splits, judged, trials)
        yield row


def main() -> None:
    """Measure, print, and write after every row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--steps", type=int, default=20, help="steps of the second part")
    parser.add_argument("--long", type=int, default=200, help="steps of the first and third part")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    splits = ds.load_data("digits")
    first = ds.distill(splits.train, method="atom", ipc=10, steps=arguments.long)
    random = ds.select(splits.train, "random", 10)
    result: dict[str, Any] = {"data": "digits", "ipc": 10, "chance": 10.0, "far": FAR}
    result["random"] = score(random, splits, "convnet", arguments.trials)
    parts = {
        "training": training(splits, first, arguments.trials),
        "distilling": distilling(splits, arguments.steps),
        "collapse": collapse(splits, arguments.long, arguments.trials),
    }
    for name, rows in parts.items():
        result[name] = []
        for row in rows:
            print(name, row, file=sys.stderr, flush=True)
            result[name].append(row)
            if arguments.json:
                arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    result["unfit"] = [row["network"] for row in result["training"] if not row["fit"]]
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
