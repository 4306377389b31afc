"""From trained networks to what a search says: correlations, picks, cost."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, nan
from typing import Any

import numpy as np
from jaxtyping import Float

from distilset.apps.correlation import Correlation, best_of, correlate, worse
from distilset.apps.trainings import WHOLE
from distilset.reporting.applications import Summary
from distilset.rng import Rng


@dataclass(frozen=True)
class Proxy:
    """A proxy set as tables name it.

    ``kind`` is distilled, selection, early or whole; ``ipc`` None for all images; ``made`` the
    seconds it took to make the set, 0 where that is nothing that a search would count.
    """

    name: str
    kind: str
    method: str
    ipc: int | None
    images: int
    made: float = 0.0


@dataclass(frozen=True)
class Trainings:
    """Accuracies of one proxy over the space, in per cent, networks in the space's order."""

    proxy: Proxy
    accuracies: Float[np.ndarray, "networks trials"]
    seconds: float
    passes: int

    @property
    def means(self) -> Float[np.ndarray, " networks"]:
        """The mean over trials; NaN if one of them diverged."""
        return self.accuracies.mean(1)


@dataclass(frozen=True)
class Finding:
    """What a proxy set is worth for choosing among the networks of a space.

    ``space`` and ``top`` are its correlations with whole-data accuracy over all networks and over
    the best fifth. ``picked`` is the network with the highest accuracy on the proxy (``tied`` have
    the same, of which it is the first), ``picked_whole`` its whole-data accuracy on the split that
    was searched on, ``picked_test`` on the test part. ``behind`` tells whether another proxy's
    correlation is higher beyond doubt. ``passes`` are the images that went through all networks.
    """

    proxy: Proxy
    trials: int
    space: Correlation
    top: Correlation
    picked: str
    tied: int
    picked_whole: float
    picked_test: float | None
    behind: bool
    seconds: float
    passes: int

    def as_row(self) -> dict[str, Any]:
        """Return one flat row, fit for JSON and CSV."""
        row: dict[str, Any] = asdict(self.proxy) | {"trials": self.trials}
        for name, correlation in (("", self.space), ("top_", self.top)):
            row |= {name + key: value for key, value in asdict(correlation).items()}
        names = ("picked", "tied", "picked_whole", "picked_test", "behind", "seconds", "passes")
        row |= {name: getattr(self, name) for name in names}
        return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}


def find(
    networks: Sequence[str],
    trained: Sequence[Trainings],
    tests: Mapping[str, float | None],
    seed: int,
) -> list[Finding]:
    """Compare every proxy with the whole data, which is among ``trained``, and comes last.

    ``tests`` are the whole-data accuracies on the test part; only those of picks are looked at.
    """
    rng = Rng(seed).child("correlation")
    whole = next(one for one in trained if one.proxy.name == WHOLE)
    reference = whole.means
    top = best_of(reference)
    proxies = [one for one in trained if one is not whole]
    found = [_finding(networks, one, reference, top, tests, rng) for one in (*proxies, whole)]
    return _marked(found, proxies, reference, rng)


def _finding(
    networks: Sequence[str],
    one: Trainings,
    reference: np.ndarray,
    top: np.ndarray,
    tests: Mapping[str, float | None],
    rng: Rng,
) -> Finding:
    means = np.nan_to_num(one.means, nan=-1.0)
    best = int(means.argmax())
    return Finding(
        one.proxy,
        one.accuracies.shape[1],
        correlate(one.means, reference, rng),
        correlate(one.means[top], reference[top], rng),
        networks[best],
        int((means == means[best]).sum()),
        float(reference[best]),
        tests[networks[best]],
        False,
        one.seconds,
        one.passes,
    )


def _marked(
    found: list[Finding], proxies: Sequence[Trainings], reference: np.ndarray, rng: Rng
) -> list[Finding]:
    """Say of each proxy whether the best one is beyond doubt ahead of it."""
    rated = [(f.space.spearman, one) for f, one in zip(found, proxies, strict=False)]
    usable = [(rho, one) for rho, one in rated if rho is not None]
    if not usable:
        return found
    best = max(usable, key=lambda pair: pair[0])[1]
    behind = [
        rho is not None and one is not best and worse(one.means, best.means, reference, rng)
        for rho, one in rated
    ]
    return [
        replace(finding, behind=mark) for finding, mark in zip(found, [*behind, False], strict=True)
    ]


HEADS = (
    "proxy",
    "images",
    "Spearman",
    "Kendall",
    "Spearman, best fifth",
    "Kendall, best fifth",
    "picked network",
    "its whole-data accuracy",
    "on test",
    "trainings, s",
    "image passes",
)


def table(found: Sequence[Finding]) -> list[tuple[str, ...]]:
    """Return the rows of the table of findings, below `HEADS`."""
    return [
        (
            one.proxy.name,
            f"{one.proxy.images:,}",
            _interval(one.space.spearman, one.space.spearman_low, one.space.spearman_high)
            + (" *" if one.behind else ""),
            _interval(one.space.kendall, one.space.kendall_low, one.space.kendall_high),
            _interval(one.top.spearman, one.top.spearman_low, one.top.spearman_high),
            _interval(one.top.kendall, one.top.kendall_low, one.top.kendall_high),
            one.picked + (f" (first of {one.tied} alike)" if one.tied > 1 else ""),
            f"{one.picked_whole:.2f}",
            "" if one.picked_test is None else f"{one.picked_test:.2f}",
            f"{one.seconds:.1f}",
            f"{one.passes:,}",
        )
        for one in found
    ]


def caption(found: Sequence[Finding], split: str) -> str:
    """Say what the table is about, with its n."""
    whole = found[-1]
    trials = max(one.trials for one in found)
    each = "one training each" if trials == 1 else f"{trials} trainings each on a proxy"
    return (
        f"Rank correlation of proxy with whole-data accuracy over {whole.space.n} networks "
        f"({whole.top.n} in the best fifth), {each}, accuracies in % on the {split} part; in "
        "brackets 95 % intervals over networks (bootstrap). * behind the best proxy beyond doubt."
    )


def summary(found: Sequence[Finding], space: str, data: str, split: str) -> Summary:
    """Return the result as reports show it."""
    whole = found[-1]
    lede = (
        f"Every network of {space} ({whole.space.n} of them) was trained on each proxy set and on "
        "all the data; a proxy is good if it puts them in the same order."
    )
    title = f"Search of {space} on {data}"
    return Summary(title, lede, caption(found, split), HEADS, tuple(table(found)))


def rows_text(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def gathered(
    proxy: Proxy,
    networks: Sequence[str],
    trials: int,
    rows: Mapping[tuple[str, int], Mapping[str, str]],
) -> Trainings:
    """Put a proxy's rows, by network and trial, into one array."""
    values = np.full((len(networks), trials), nan)
    for i, network in enumerate(networks):
        for trial in range(trials):
            values[i, trial] = float(rows[network, trial]["accuracy"])
    used = [rows[network, trial] for network in networks for trial in range(trials)]
    return Trainings(
        proxy,
        values,
        sum(float(row["seconds"]) for row in used),
        sum(int(row["passes"]) for row in used),
    )
