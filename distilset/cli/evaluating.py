"""``distilset evaluate``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distilset.cli import options as o
from distilset.cli.reading import find_own_code, load
from distilset.errors import ConfigError


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN ...")],
    data: Annotated[
        str | None, typer.Option(help="The data, if not where the run found them.")
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(help="Network to train, as in distill [the run's]. May be repeated."),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="Norm of the networks [the run's].")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="dm, datadam or quick [dm]. May be repeated.")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="A selector, or whole, beside the runs. May be repeated."),
    ] = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    epochs: Annotated[int | None, typer.Option(help="Epochs [the protocol's].")] = None,
    trials: Annotated[int, typer.Option(help="Networks for each row.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    threads: o.Threads = None,
    together: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Networks trained at once [1; on a GPU what its memory allows]."
        ),
    ] = None,
    augment: Annotated[
        str, typer.Option(help="Augmentation: protocol (as it says), on, off or both.")
    ] = "protocol",
    labels: Annotated[
        str, typer.Option(help="Labels of soft-labelled sets: own, hard (argmax) or both.")
    ] = "own",
    pixels: Annotated[
        str, typer.Option(help="Images: float, png (as the 8-bit export has them) or both.")
    ] = "float",
    ranking: Annotated[
        bool, typer.Option("--ranking", help="DD-Ranking's scores too; trains what they need.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Train anew what is on file already.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train fresh networks on runs and score them on real images; go on where a call stopped."""
    from distilset.api import train_settings
    from distilset.evaluation import Book, Request
    from distilset.hardware import threads as limit_threads
    from distilset.models import network_table
    from distilset.store import DistilledSet
    from distilset.terminal import stderr

    find_own_code(*(network or ()))
    request = Request(
        networks=tuple(network_table(text) for text in network or ()),
        norm=norm,
        protocols=tuple(protocol or ("dm",)),
        baselines=tuple(baseline or ()),
        split=split,
        epochs=epochs,
        trials=trials,
        seed=seed,
        settings=train_settings(device, precision, together),
        augment=augment,
        labels=labels,
        pixels=pixels,
    )
    loaded = [(run, DistilledSet.load(run)) for run in runs]
    for _, distilled in loaded:
        request.networks_of(distilled)
    with limit_threads(threads):
        _evaluate(entries_of(loaded, data, stderr()), request, Book(again=again), ranking, json_)


def entries_of(loaded: Any, data: str | None, console: Any) -> Any:
    """Pair every run with its data; data that several runs share are read once.

    How the data were split is what the card says.
    """
    from distilset.api import data_table
    from distilset.config import data_config
    from distilset.evaluation import Entry

    entries, read = [], {}
    for run, distilled in loaded:
        info = distilled.card.dataset
        stated = distilled.settings.get("data", {})
        kept = {"source": data or stated.get("source"), "mapped": stated.get("mapped")}
        config = data_config(data_table(info) | {k: v for k, v in kept.items() if v})
        if config.source.startswith("python:"):
            raise ConfigError(f"{run} was made from a data set in Python; name the data by --data")
        if config not in read:
            read[config] = load(config, console)
        splits = read[config]
        if splits.info.fingerprint != info.fingerprint:
            console.print(
                f"note: these are not the data that {run} was made from "
                f"(fingerprint {splits.info.fingerprint}, the card has {info.fingerprint})",
                markup=False,
            )
        entries.append(Entry(str(run), distilled, splits, run))
    return entries


def _evaluate(entries: Any, request: Any, book: Any, ranking: bool, as_json: bool) -> None:
    import json

    from distilset.evaluation import append_baseline, matrix, rank
    from distilset.evaluation.ahead import train_ahead
    from distilset.evaluation.ranking import check_random
    from distilset.parallel import group
    from distilset.store import BASELINES
    from distilset.terminal import (
        counter,
        ranking_table,
        score_table,
        stderr,
        stdout,
        training_bars,
    )

    console = stderr()
    if ranking:
        check_random(entries)
    shown = counter(console, "training in all processes")
    train_ahead(entries, request, book, ranking=ranking, report=shown)
    if not group.leads():
        return
    scores, ranks = [], []
    with training_bars(console) as watch:
        for score, results in matrix(entries, request, watch, book):
            scores.append(score)
            console.print(f"{score.run}: {score}", markup=False)
            if not results:
                for run in _compared(entries, score):
                    append_baseline(run / BASELINES, score)
        if ranking:
            ranks = list(rank(entries, request, watch, book))
    if as_json:
        document = {"rows": [score.as_row() for score in scores]}
        document |= {"ranking": [row.as_row() for row in ranks]} if ranking else {}
        print(json.dumps(document, indent=2))
        return
    stdout().print(score_table(scores))
    if ranking:
        stdout().print(ranking_table(ranks))


def _compared(entries: Any, score: Any) -> list[Path]:
    """Return the runs that a baseline stands beside: of its data, and of its images per class."""
    cards = [(Path(entry.name), entry.distilled.card) for entry in entries]
    return [
        run
        for run, card in cards
        if card.dataset.name == score.dataset and score.ipc in (None, card.ipc)
    ]
