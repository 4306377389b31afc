"""Time the gradients of one batch for every network, cut into chunks of several sizes, in turn.

    python benchmarks/chunks.py --networks convnet vgg11 resnet18 --chunks 25 50 100 --json FILE

Drawn 32x32 images, compiled bfloat16, one process. The first call of each size compiles and is not
counted. By it training takes twice the chunks of distilling.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import torch
from common import alternate, drawn, finish

from distilset.api import train_settings
from distilset.models import build_network, initialise, network_config, network_table
from distilset.rng import Rng
from distilset.training.step import Step

NETWORKS = ("convnet", "lenet", "mlp", "alexnet", "vgg11", "resnet18", "vit")


def measure(name: str, arguments: argparse.Namespace) -> dict:
    """Return the milliseconds of one batch by chunk size."""
    train = drawn(per_class=10)
    network = build_network(network_config(network_table(name)), train.spec, 10)
    initialise(network, Rng(0), "weights")
    step = Step(network, train_settings())
    batch = torch.randn(arguments.batch, *train.spec.shape)
    labels = torch.arange(arguments.batch) % 10
    calls = [partial(step.gradients, batch, labels, chunk) for chunk in arguments.chunks]
    for call in calls:
        call()
    times = alternate(arguments.rounds, *calls)
    return {
        "network": name,
        "weights": sum(weight.numel() for weight in network.parameters()),
        "ms": {
            chunk: 1000 * statistics.median(own)
            for chunk, own in zip(arguments.chunks, times, strict=True)
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--chunks", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [measure(name, arguments) for name in arguments.networks]
    facts = {"batch": arguments.batch, "rounds": arguments.rounds}
    finish({**facts, "threads": torch.get_num_threads(), "rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
