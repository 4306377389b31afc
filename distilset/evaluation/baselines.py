"""What a distilled set must beat or approach: selected real images, and the whole data."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from distilset.augment import AugmentConfig
from distilset.cache import cache_folder
from distilset.data.normalise import Transform
from distilset.errors import ConfigError, unknown_name
from distilset.evaluation.book import Book, finish
from distilset.evaluation.identity import digest_of, judge_facts
from distilset.evaluation.judge import Judge, Progress, Trainers, TrialResult
from distilset.evaluation.score import Score
from distilset.files import write_text
from distilset.models import NetworkConfig, network_label
from distilset.rng import Rng
from distilset.selectors import SELECTORS, get_selector
from distilset.training.protocols import WHOLE, Protocol
from distilset.training.step import TrainSettings
from distilset.types import ImageSet
from distilset.untrusted import MOST_JSON, MOST_SECONDS, number_in, parse_json, read_text

BASELINES: tuple[str, ...] = (*SELECTORS, "whole")
"""Names of baselines: every selector, and ``whole``."""


def baseline_sets(
    name: str, train: ImageSet, ipc: int, trials: int, seed: int
) -> list[Int64[Tensor, " rows"]]:
    """Return rows of ``train``, int64 ``[classes * ipc]``: a set per trial, or one for all.

    ``random`` draws a new set for every trial, so that its spread is over sets and networks; the
    other selectors are deterministic and give one.
    """
    select = get_selector(name)
    number = trials if name == "random" else 1
    return [select(train, ipc, Rng(seed).child("baseline", name, t)) for t in range(number)]


def score_baseline(
    name: str,
    train: ImageSet,
    test: ImageSet,
    transform: Transform,
    network: NetworkConfig,
    protocol: Protocol,
    *,
    ipc: int,
    trials: int = 5,
    seed: int = 0,
    augmentation: AugmentConfig | None = None,
    settings: TrainSettings | None = None,
    trainers: Trainers | None = None,
    progress: Progress | None = None,
    book: Book | None = None,
    only: Sequence[int] | None = None,
) -> Score:
    """Score a baseline as `score_images` scores a distilled set, and return its row.

    ``whole`` trains one network on all of ``train`` by the schedule `WHOLE`, not by ``protocol``;
    its accuracy is kept in the cache folder and found there the next time. Those of selections are,
    trial by trial, if there is a ``book``; ``only`` are the trials that are wanted, if not all.

    Raises:
        ConfigError: an unknown baseline; ``ipc`` above the smallest class; a ``train`` that is not
            the training part; a ``test`` that is it.
    """
    _check(name, train)
    whole = name == "whole"
    judge = Judge(
        test,
        transform,
        network,
        replace(WHOLE, augment=protocol.augment) if whole else protocol,
        1 if whole else trials,
        seed,
        augmentation,
        settings or TrainSettings(),
        trainers or Trainers(),
        progress,
    )
    if whole:
        results, facts = [_whole(judge, train, book or Book())], _facts(judge, train, name, None)
    else:
        facts = _facts(judge, train, name, ipc)
        results = _selected(judge, train, name, ipc, book, facts, only)
    return Score.of(
        [result.accuracy for result in results],
        seconds=sum(result.seconds for result in results),
        **facts,
    )


def _selected(
    judge: Judge,
    train: ImageSet,
    name: str,
    ipc: int,
    book: Book | None,
    facts: dict[str, Any],
    only: Sequence[int] | None,
) -> list[TrialResult]:
    """Train on selected images, as far as the cache does not have the results."""
    chosen: list[Int64[Tensor, " rows"]] = []

    def sets(trial: int) -> tuple[Tensor, Tensor]:
        if not chosen:  # made when the first is asked for: some selectors take long
            chosen.extend(baseline_sets(name, train, ipc, judge.trials, judge.seed))
        return prepared(trial % len(chosen))

    @lru_cache(maxsize=1)
    def prepared(number: int) -> tuple[Tensor, Tensor]:
        rows = chosen[number]
        return judge.transform.apply(train.images[rows]), train.labels[rows]

    if book is None:
        return judge.run(sets)
    key = digest_of(judge_facts(judge) | {"train": train.digest, "selector": name, "ipc": ipc})
    return finish(judge, sets, book, cache_folder("baselines") / f"{key}.csv", key, facts, only)


def _check(name: str, train: ImageSet) -> None:
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)
    if train.role != "train":
        raise ConfigError(f"baselines are made from the train part; got a {train.role} part")


def _facts(judge: Judge, train: ImageSet, name: str, ipc: int | None) -> dict[str, Any]:
    """Return what a row says but for its results."""
    n = len(train) if ipc is None else ipc * len(train.classes)
    size = "all images" if ipc is None else f"ipc {ipc}"
    sets = judge.trials if name == "random" else 1
    return {
        "run": f"baseline {name} ({size}, seed {judge.seed}, {sets} set{'s' * (sets > 1)})",
        "method": name,
        "dataset": train.info.name,
        "ipc": ipc,
        "network": network_label(judge.network, train.spec),
        "norm": judge.network.norm,
        "protocol": judge.protocol.name,
        "epochs": judge.protocol.total_epochs(n),
        "labels": "hard",
        "augmentation": "none" if judge.operations is None else "dsa",
        "pixels": "float",
        "split": judge.test.role,
        "images": n,
        "seed": judge.seed,
        "device": judge.settings.device,
    }


def _whole(judge: Judge, train: ImageSet, book: Book) -> TrialResult:
    """Train on everything once, or read the result of an earlier time."""
    facts = judge_facts(judge) | {"train": train.digest}
    key = digest_of(facts)
    path = cache_folder("whole") / f"{key}.json"
    known = _read(path) if book.counts(key, 0) else None
    if known is not None:
        return known
    result = judge.trial(0, train.images, train.labels, judge.transform.apply)
    if result.accuracy == result.accuracy:  # NaN: diverged, which is not worth keeping
        write_text(path, json.dumps({"key": facts, "result": asdict(result)}, indent=2) + "\n")
        book.made(key, [0])
    return result


def _read(path: Path) -> TrialResult | None:
    """Return a cached result; None if there is none that can be read."""
    try:
        return _result(parse_json(read_text(path, MOST_JSON))["result"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _result(facts: dict[str, Any]) -> TrialResult:
    accuracy = number_in(facts["accuracy"])
    seconds = number_in(facts["seconds"], high=MOST_SECONDS)
    return TrialResult(accuracy, seconds, str(facts["compute"]))
