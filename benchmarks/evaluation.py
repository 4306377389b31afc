"""Time the training of one network on a small set and its scoring, ours against the textbook twin.

    python benchmarks/evaluation.py --data drawn|FOLDER --ipc 10 --norm instance \
        --epochs 60 --rounds 3 --json FILE

Trains `--epochs` epochs by protocol `dm` and scores 10,000 images, alternating in one process.
`ratio` is for the protocol's 1,000 epochs plus one scoring, extrapolated from both.
"""

import argparse
from pathlib import Path

import torch
from common import (
    alternate,
    best_bf16_rate,
    finish,
    in_own_process,
    peak_bytes,
    seconds,
    spread,
    test_part,
    train_part,
)
from torch import Tensor
from twin import convnet, copy_weights, score_twin, train_twin

from distilset.api import train_settings
from distilset.augment import AugmentConfig
from distilset.data.normalise import Transform
from distilset.evaluation import PROTOCOLS, Protocol, Trainer
from distilset.models import NetworkConfig, build_network, initialise
from distilset.rng import Rng
from distilset.selectors import get_selector
from distilset.types import ImageSet

EPOCHS = 1000


class Bench:
    """One set, one test part, our trainer and the twin's network."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        train: ImageSet = train_part(arguments.data)
        self.test = test_part(arguments.data)
        rows = get_selector("random")(train, arguments.ipc, Rng(0))
        self.transform = Transform(train.info.mean, train.info.std)
        self.images, self.labels = self.transform.apply(train.images[rows]), train.labels[rows]
        config = NetworkConfig(norm=arguments.norm)
        self.network = build_network(config, train.spec, len(train.classes))
        self.trainer = Trainer(self.network, train_settings())
        self.twin = convnet(train.spec.channels, len(train.classes), arguments.norm)
        self.protocol: Protocol = PROTOCOLS["dm"].with_epochs(arguments.epochs)
        self.prepared: Tensor | None = None

    def train_ours(self) -> None:
        """Train from fresh weights."""
        initialise(self.network, Rng(0), "weights")
        self.trainer.train(self.images, self.labels, self.protocol, Rng(0), AugmentConfig())

    def score_ours(self) -> float:
        """Score 10,000 images."""
        return self.trainer.accuracy(self.test.images, self.test.labels, self.transform)

    def train_theirs(self) -> None:
        """Train from the same weights."""
        initialise(self.twin, Rng(0), "weights")
        epochs = self.protocol.epochs or 1
        train_twin(self.twin, self.images, self.labels, epochs, AugmentConfig())

    def score_theirs(self) -> float:
        """Score 10,000 images; the twin's data are normalised beforehand, as is usual."""
        if self.prepared is None:
            self.prepared = self.transform.apply(self.test.images)
        return score_twin(self.twin, self.prepared, self.test.labels)


def differences(bench: Bench) -> dict[str, float]:
    """Compare the loss and the weights' gradient of the first batch, without augmentation."""
    initialise(bench.network, Rng(0), "weights")
    copy_weights(bench.network, bench.twin)
    bench.network.train()
    bench.twin.train()
    ours = bench.trainer.step.gradients(bench.images, bench.labels, min(32, len(bench.images)))
    gradient = torch.cat(
        [p.grad.flatten() for p in bench.network.parameters() if p.grad is not None]
    )
    loss = torch.nn.functional.cross_entropy(bench.twin(bench.images), bench.labels)
    bench.twin.zero_grad()
    loss.backward()
    other = torch.cat([p.grad.flatten() for p in bench.twin.parameters() if p.grad is not None])
    return {
        "loss_relative": abs(float(ours) - float(loss.detach())) / float(loss.detach()),
        "gradient_cosine": float(torch.cosine_similarity(gradient, other, dim=0)),
        "gradient_relative": float((gradient - other).norm() / other.norm()),
    }


def measure(arguments: argparse.Namespace) -> dict:
    """Compile, compare, time."""
    bench = Bench(arguments)
    first = seconds(bench.train_ours) + seconds(bench.score_ours)
    gaps = differences(bench)
    bench.train_theirs()
    bench.score_theirs()
    ours, score, theirs, twin_score = alternate(
        arguments.rounds,
        bench.train_ours,
        bench.score_ours,
        bench.train_theirs,
        bench.score_theirs,
    )
    whole = EPOCHS / arguments.epochs
    medians = [spread(times)["median"] for times in (ours, score, theirs, twin_score)]
    train, scored, twin_train, twin_scored = medians
    ratios = [
        (whole * c + d) / (whole * a + b)
        for a, b, c, d in zip(ours, score, theirs, twin_score, strict=True)
    ]
    return {
        **{name: getattr(arguments, name) for name in ("data", "ipc", "norm", "epochs", "rounds")},
        "threads": torch.get_num_threads(),
        "precision": bench.trainer.settings.precision,
        "ratio": (whole * twin_train + twin_scored) / (whole * train + scored),
        "ratio_spread": spread(ratios),
        "ratio_train": twin_train / train,
        "ratio_score": twin_scored / scored,
        "train_seconds": spread(ours),
        "score_seconds": spread(score),
        "twin_train_seconds": spread(theirs),
        "twin_score_seconds": spread(twin_score),
        "protocol_seconds": whole * train + scored,
        "twin_protocol_seconds": whole * twin_train + twin_scored,
        "compile_seconds": first - train - scored,
        "images_per_second": len(bench.images) * arguments.epochs / train,
        "scored_per_second": len(bench.test) / scored,
        "bf16_matmul_tflops": best_bf16_rate(),
        "differences": gaps,
        "note": bench.trainer.step.note,
    }


def memory(arguments: argparse.Namespace) -> int:
    """Return the peak of a short training and a scoring, above what is there before them."""
    arguments.epochs = 3
    bench = Bench(arguments)
    ours = (bench.train_ours, bench.score_ours)
    calls = ours if arguments.only == "ours" else (bench.train_theirs, bench.score_theirs)
    return peak_bytes(lambda: [call() for call in calls])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", default="drawn")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--norm", default="instance")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("ours", "twin"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(f'{{"bytes": {memory(arguments)}}}')
        return
    result = measure(arguments)
    words = ["--data", arguments.data, "--ipc", str(arguments.ipc), "--norm", arguments.norm]
    result["peak_bytes"] = {
        which: in_own_process(__file__, [*words, "--only", which])["bytes"]
        for which in ("ours", "twin")
    }
    finish(result, arguments.json)


if __name__ == "__main__":
    main()
