"""Every network on digits at 10 images per class: what trains, what distils, what collapses.

    python benchmarks/networks.py --json FILE [--part training --part distilling --part collapse]

A file that is there already is gone on with: rows in it are not measured again.

1. Every network is trained on one set that ConvNet distilled (ATOM), by protocol `quick`.
2. Every network distils for some steps with each method it can.
3. ResNet-18 (width 32) distils with batch and with instance norm, alone and in a pool with
   ConvNet; both networks are trained on each result.
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
    *("vgg13:norm=batch", "vgg16:norm=batch", "vgg19:norm=batch", "resnet18:pooling=avg", "vit"),
)
COLLAPSE = (
    *(("convnet", 1.0), ("resnet18:width=32", 1.0), ("resnet18:width=32,norm=batch", 1.0)),
    *(("convnet,resnet18:width=32", 1.0), ("resnet18:width=32", 0.1)),
    *(("resnet18:width=32,norm=batch", 0.1), ("resnet18:width=32,pooling=avg", 1.0)),
)
"""What is distilled on, and the learning rate of the images; the usual one is 1."""
JUDGES = (
    *("convnet:norm=instance", "resnet18:width=32,norm=instance", "resnet18:width=32,norm=batch"),
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


def training(splits: ds.Splits, arguments: argparse.Namespace, done: set) -> Iterator[dict]:
    """Train every network on one distilled set."""
    chance = 100 / len(splits.train.classes)
    distilled = ds.distill(splits.train, method="atom", ipc=10, steps=arguments.long)
    for network in NETWORKS:
        if (network,) not in done:
            row = {"network": network, **score(distilled, splits, network, arguments.trials)}
            yield {**row, "fit": row["accuracy"] >= FAR * chance}


def distilling(splits: ds.Splits, arguments: argparse.Namespace, done: set) -> Iterator[dict]:
    """Distil with every network and method for some steps; say what refuses."""
    for network in NETWORKS:
        for method in METHODS:
            if (network, method) in done:
                continue
            row: dict[str, Any] = {"network": network, "method": method}
            try:
                yield row | short_run(splits.train, network, method, arguments.steps)
            except ds.ConfigError as error:
                yield {**row, "refused": str(error)}


def short_run(train: ds.ImageSet, network: str, method: str, steps: int) -> dict:
    """Distil and return the losses of the first and the last step."""
    losses: list[float] = []
    start = perf_counter()
    ds.distill(
        train,
        method=method,
        ipc=10,
        steps=steps,
        network=network,
        batch_real=32,
        progress=lambda record: losses.append(float(record.loss)),
    )
    seconds = (perf_counter() - start) / steps
    ends = {"first_loss": losses[0], "last_loss": losses[-1]}
    return {**ends, "seconds_per_step": round(seconds, 3)}


def collapse(splits: ds.Splits, arguments: argparse.Namespace, done: set) -> Iterator[dict]:
    """Distil on ResNet-18 in its forms and on ConvNet; train both on each result."""
    for network, lr in COLLAPSE:
        if (network, lr) in done:
            continue
        steps = arguments.long
        made = ds.distill(
            splits.train, method="atom", ipc=10, steps=steps, network=network, image_lr=lr
        )
        row: dict[str, Any] = {"network": network, "image_lr": lr, "steps": steps}
        yield row | {judge: score(made, splits, judge, arguments.trials) for judge in JUDGES}


PARTS = {"training": training, "collapse": collapse, "distilling": distilling}


def measure(arguments: argparse.Namespace) -> dict:
    """Go through the parts asked for, and write after every row."""
    splits, path = ds.load_data("digits"), arguments.json
    result: dict[str, Any] = {"data": "digits", "ipc": 10, "chance": 10.0, "far": FAR}
    if path is not None and path.exists():
        result |= json.loads(path.read_text())
    for name in arguments.part or PARTS:
        rows = result.setdefault(name, [])
        done = {
            tuple(row[key] for key in ("network", "method", "image_lr") if key in row)
            for row in rows
        }
        for row in PARTS[name](splits, arguments, done):
            print(name, row, file=sys.stderr, flush=True)
            rows.append(row)
            result["unfit"] = [r["network"] for r in result.get("training", []) if not r["fit"]]
            if path is not None:
                path.write_text(json.dumps(result, indent=2) + "\n")
    return result


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--steps", type=int, default=20, help="steps of the second part")
    parser.add_argument("--long", type=int, default=200, help="steps of the first and third part")
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--json", type=Path)
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
