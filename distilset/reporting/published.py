"""Published figures beside ours, with what differs in how they were made."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from distilset.card import additions
from distilset.reporting.collect import Result, RunFacts, all_results


@dataclass(frozen=True)
class Figure:
    """One published accuracy in per cent; ``spread`` None where the source gives none.

    ``ipc`` is None for the whole data. ``norm`` is empty, ``epochs`` and ``zca`` are None
    where the source does not say.
    """

    dataset: str
    method: str
    ipc: int | None
    mean: float
    spread: float | None
    network: str
    norm: str
    epochs: int | None
    zca: bool | None
    protocol: str
    source: str
    verified: bool

    @property
    def text(self) -> str:
        """The figure as its source writes it."""
        return f"{self.mean:.1f}" + (f" ± {self.spread:.1f}" if self.spread is not None else "")


@dataclass(frozen=True)
class Comparison:
    """One of our results, the published figure of the same kind, and what differs."""

    ours: Result
    published: Figure
    differences: tuple[str, ...]


@cache
def figures() -> tuple[Figure, ...]:
    """Return all figures of ``published.toml``."""
    text = (resources.files("distilset.reporting") / "published.toml").read_text("utf-8")
    document = tomllib.loads(text)
    return tuple(
        figure
        for table in document["table"]
        for method, values in table["methods"].items()
        for figure in _figures(document, table, method, values)
    )


def _figures(
    document: dict[str, Any], table: dict[str, Any], method: str, values: Any
) -> Iterable[Figure]:
    source, protocol = document["source"][table["source"]], document["protocol"][method]
    pairs = [(None, values)] if method == "whole" else zip(table["ipc"], values, strict=True)
    for ipc, value in pairs:
        mean, spread = value if isinstance(value, list) else (value, None)
        yield Figure(
            dataset=table["dataset"],
            method=method,
            ipc=ipc,
            mean=mean,
            spread=spread,
            network=table["network"],
            norm=protocol["norm"],
            epochs=protocol.get("epochs"),
            zca=table["zca"] if protocol.get("zca_stated") else None,
            protocol=protocol["text"],
            source=source["title"],
            verified=source["verified"],
        )


def beside_published(runs: Iterable[RunFacts]) -> list[Comparison]:
    """Pair our results with published figures of the same data set, method and images per class.

    Sets in which several images are decoded from each stored one have none: the methods' papers
    store each image by itself.
    """
    runs = list(runs)
    known = {(f.dataset, f.method, f.ipc): f for f in figures()}
    whitened = {run.name: run.distilled.card.zca is not None for run in runs}
    added = {run.name: additions(run.distilled.settings) for run in runs}
    cards = [run.distilled.card.dataset for run in runs]
    likes = {(info.name, info.fingerprint): info.like for info in cards}
    pairs = []
    for ours in all_results(runs):
        dataset = likes.get((ours.dataset, ours.fingerprint)) or ours.dataset
        figure = known.get((dataset, ours.method, ours.ipc))
        alike = ours.factor == 1 and ours.setting["split"] == "test"
        if figure is not None and alike and not ours.diverged:
            differs = [f"{text}, theirs none" for text in added.get(ours.name, ())]
            differs += _differences(ours, figure, whitened)
            pairs.append(Comparison(ours, figure, tuple(differs)))
    return pairs


def _differences(ours: Result, figure: Figure, whitened: dict[str, bool]) -> tuple[str, ...]:
    """Say what is known to differ; the protocols are given in full beside it."""
    setting = ours.setting
    differs = []
    if setting["network"] != "convnet":  # options are named only where they are not the usual
        differs.append(f"network {setting['network']}, theirs {figure.network}")
    if not figure.norm:
        differs.append(f"norm {setting['norm']}, theirs not stated")
    elif figure.norm != setting["norm"]:
        differs.append(f"norm {setting['norm']}, theirs {figure.norm}")
    if figure.method in ("dm", "datadam") and setting["protocol"] != figure.method:
        differs.append(f"protocol {setting['protocol']}, theirs like our {figure.method}")
    if figure.epochs and setting["epochs"] != str(figure.epochs):
        differs.append(f"{setting['epochs']} epochs, theirs {figure.epochs}")
    if figure.zca is not None and whitened.get(ours.name, figure.zca) != figure.zca:
        ours_said, theirs = ("with", "without") if whitened[ours.name] else ("without", "with")
        differs.append(f"{ours_said} ZCA, theirs {theirs}")
    if setting["pixels"] == "png":
        differs.append("our 8-bit PNG images, theirs floats")
    if setting["labels"] != "hard":
        differs.append("soft labels, theirs hard")
    return tuple(differs)
