"""One row of results: what was trained and scored how, and the accuracies that came of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

import numpy as np

from distilset.card import labelled


@dataclass(frozen=True)
class Score:
    """Accuracies of several fresh networks trained on one set, with all that defines them.

    The fields, in this order, are those of the command line's ``--json`` rows. Accuracies are in
    per cent, ``accuracy_std`` has ddof 0 and is the spread over ``trials``: over networks of one
    set, or, for the random baseline, over networks each with a set of its own. ``images`` is the
    number of images trained on; ``ipc`` is None for the whole data. With a ``factor`` above 1
    ``ipc`` counts stored images, and ``factor ** 2`` are decoded from each to train on. ``pixels``
    "png" are the images as an 8-bit export has them; real images, which are bytes, are "float" all
    the same.

    Example:
        >>> facts = dict(run="runs/a", method="atom", dataset="digits", ipc=1, network="convnet",
        ...              norm="instance", protocol="dm", epochs=1000, labels="hard",
        ...              augmentation="dsa", split="test", images=10, seed=0, device="cpu")
        >>> print(Score.of([90.0, 91.0], seconds=3.0, **facts))
        accuracy 90.50 ± 0.50 % (2 networks, atom on digits, ipc 1, convnet norm instance, protocol dm, test split)
    """  # noqa: E501

    run: str
    method: str
    dataset: str
    ipc: int | None
    factor: int = field(default=1, kw_only=True)
    network: str
    norm: str
    protocol: str
    epochs: int
    trials: int
    labels: Literal["hard", "soft"]
    augmentation: Literal["dsa", "none"]
    pixels: Literal["float", "png"] = field(default="float", kw_only=True)
    split: str
    images: int
    seed: int
    device: str
    accuracy_mean: float
    accuracy_std: float
    accuracies: tuple[float, ...]
    seconds: float

    @classmethod
    def of(cls, accuracies: Sequence[float], *, seconds: float, **facts: Any) -> "Score":
        """Make a row from accuracies in per cent and the facts about them."""
        values = np.asarray(accuracies, dtype=np.float64)
        return cls(
            **facts,
            trials=len(values),
            accuracy_mean=float(values.mean()),
            accuracy_std=float(values.std(ddof=0)),
            accuracies=tuple(float(value) for value in values),
            seconds=seconds,
        )

    def as_row(self) -> dict[str, Any]:
        """Return the fields in order, fit for JSON: a list of accuracies, None for NaN."""
        row = asdict(self)
        row["accuracies"] = [_number(value) for value in self.accuracies]
        row["accuracy_mean"] = _number(self.accuracy_mean)
        row["accuracy_std"] = _number(self.accuracy_std)
        return row

    def __str__(self) -> str:
        networks = "1 network" if self.trials == 1 else f"{self.trials} networks"
        size = f"{self.images} images" if self.ipc is None else f"ipc {self.ipc}"
        size = labelled(size, self.factor)
        return (
            f"accuracy {self.accuracy_mean:.2f} ± {self.accuracy_std:.2f} % ({networks}, "
            f"{self.method} on {self.dataset}, {size}, {self.network} norm {self.norm}, "
            f"protocol {self.protocol}, {self.split} split)"
        )


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
