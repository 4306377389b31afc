"""Evaluation protocols by name: how a fresh network is trained on the images to be judged.

Accuracies of different protocols are not comparable; every row of results names its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import cos, pi
from typing import Literal

from distilset.errors import ConfigError, unknown_name

Schedule = Literal["step", "fifths", "cosine", "constant"]


@dataclass(frozen=True)
class Protocol:
    """SGD with momentum for a number of epochs or of updates.

    The images are shuffled anew for every epoch and the smaller batch at its end is kept. Training
    ends after ``epochs`` or after ``updates``, whichever comes first; None sets no such end.

    ``schedule`` "step" multiplies the learning rate by 0.1 once, at half the epochs; "fifths" by
    0.2 after 30, 60 and 80 % of ``epochs``, even where ``updates`` ends earlier; "cosine" lets it
    fall to 0 over all updates, after rising linearly over the first ``warmup`` of them (a
    fraction); "constant" leaves it where it is. ``augment``: whether DSA is applied, one operation
    per batch and every image with parameters of its own. ``clip`` scales the gradients of an update
    down to that Euclidean norm, over all weights, where they exceed it.

    Raises:
        ConfigError: if neither end is set, or a number is not positive.
    """

    name: str
    epochs: int | None
    batch: int
    lr: float
    schedule: Schedule
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    updates: int | None = None
    warmup: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.epochs, self.updates) if end is not None]
        if not ends or min(ends) < 1 or self.batch < 1 or not self.lr > 0:
            raise ConfigError(
                "a protocol needs epochs or updates, a batch of 1 or more and lr above 0; got "
                f"epochs {self.epochs}, updates {self.updates}, batch {self.batch}, lr {self.lr}"
            )
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"clip must be above 0, or None; got {self.clip}")

    def with_epochs(self, epochs: int) -> "Protocol":
        """Return the same with exactly ``epochs`` epochs and no other end."""
        return replace(self, epochs=epochs, updates=None)

    def updates_per_epoch(self, n: int) -> int:
        """Return how many batches ``n`` images make."""
        return -(-n // self.batch)

    def total_updates(self, n: int) -> int:
        """Return the number of updates on a set of ``n`` images."""
        by_epochs = None if self.epochs is None else self.epochs * self.updates_per_epoch(n)
        return min(end for end in (by_epochs, self.updates) if end is not None)

    def total_epochs(self, n: int) -> int:
        """Return the number of epochs on a set of ``n`` images, the last perhaps not whole."""
        return -(-self.total_updates(n) // self.updates_per_epoch(n))

    def images_seen(self, n: int) -> int:
        """Return how many images of a set of ``n`` a training sees, one as often as it comes."""
        epochs, rest = divmod(self.total_updates(n), self.updates_per_epoch(n))
        return epochs * n + min(n, rest * self.batch)

    def lr_at(self, update: int, n: int) -> float:
        """Return the learning rate of an update, counted from 0, on a set of ``n`` images."""
        if self.schedule == "constant":
            return self.lr
        total = self.total_updates(n)
        if self.schedule == "step":
            epoch = update // self.updates_per_epoch(n)
            return self.lr * (0.1 if 2 * epoch >= self.total_epochs(n) else 1.0)
        if self.schedule == "fifths":
            share = update // self.updates_per_epoch(n) / (self.epochs or self.total_epochs(n))
            return self.lr * 0.2 ** sum(share >= part for part in (0.3, 0.6, 0.8))
        rising = int(self.warmup * total)
        if update < rising:
            return self.lr * (update + 1) / rising
        return self.lr * 0.5 * (1 + cos(pi * (update - rising) / (total - rising)))


PROTOCOLS: Mapping[str, Protocol] = {
    "dm": Protocol("dm", epochs=1000, batch=256, lr=0.01, schedule="step"),
    "datadam": Protocol("datadam", epochs=1800, batch=64, lr=0.01, schedule="step"),
    "quick": Protocol(
        "quick",
        epochs=120,
        batch=256,
        lr=0.04,
        schedule="cosine",
        updates=1500,
        warmup=0.1,
        clip=2.0,
    ),
}
"""The protocols for small sets.

``dm``: DSA's and DM's evaluation (Zhao and Bilen, ICML 2021 and WACV 2023; DC code). ``datadam``:
that of the released DataDAM code (Sajedi et al., ICCV 2023); its hyper-parameter table says x0.5
every 15 epochs instead. Departures in both: the code runs E + 1 epochs, ours exactly E; it lowers
the rate after epoch index E // 2 + 1, ours at half; and it makes a new SGD there, which loses the
momentum, ours keeps it.

``quick``: ours, for steering and ranking, not for tables: 120 epochs at four times the rate,
warm-up then cosine, at most 1,500 updates (sets above 3,072 images thus get fewer epochs). Without
its ``clip`` AlexNet and VGG-11 with instance norm, whose first gradients have norms near 30, stay
near chance at that rate (docs/networks.md).
"""

WHOLE = Protocol(
    "whole", epochs=None, batch=128, lr=0.04, schedule="cosine", updates=4000, warmup=0.1, clip=2.0
)
"""Training on all real images: a fixed number of updates, whatever the size of the set.

A departure from the published upper bounds, which train for 200 epochs or more: 4,000 updates of
128 images are 10 epochs of CIFAR-10. It is an affordable reference of its own, named in its row.
"""


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
