"""What a distilled set must beat or approach: selected real images, and the whole data."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from distilset.augment import AugmentConfig
from distilset.cache import cache_folder
from distilset.data.normalise import Transform
from distilset.errors import ConfigError, unknown_name
from distilset.evaluation.judge import Judge, Progress, Sets, Trainers, TrialResult
from distilset.evaluation.score import Score
from distilset.files import write_text
from distilset.models import NetworkConfig, network_label
from distilset.rng import Rng
from distilset.selectors import SELECTORS, get_selector
from distilset.training.protocols import WHOLE, Protocol
from distilset.training.step import TrainSettings
from distilset.types import ImageSet

BASELINES: tuple[str, ...] = (*SELECTORS, "whole")
"""Names of baselines: every selector, and ``whole``."""

_CACHE_VERSION = 1


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
) -> Score:
    """Score a baseline as `score_images` scores a distilled set, and return its row.

    ``whole`` trains one network on all of ``train`` by the schedule `WHOLE`, not by ``protocol``;
    its accuracy is kept in the cache folder and found there the next time.

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
        WHOLE if whole else protocol,
        1 if whole else trials,
        seed,
        augmentation,
        settings or TrainSettings(),
        trainers or Trainers(),
        progress,
    )
    if whole:
        return _row(judge, train, name, None, [_whole(judge, train)], 1)
    sets = baseline_sets(name, train, ipc, trials, seed)
    results = judge.run(_prepared(train, transform, sets))
    return _row(judge, train, name, ipc, results, len(sets))


def _prepared(train: ImageSet, transform: Transform, sets: Sequence[Tensor]) -> Sets:
    """Return the normalised set of a trial, made when it is asked for."""

    @lru_cache(maxsize=1)
    def of(number: int) -> tuple[Tensor, Tensor]:
        rows = sets[number]
        return transform.apply(train.images[rows]), train.labels[rows]

    return lambda trial: of(trial % len(sets))


def _check(name: str, train: ImageSet) -> None:
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES)
    if train.role != "train":
        raise ConfigError(f"baselines are made from the train part; got a {train.role} part")


def _row(
    judge: Judge,
    train: ImageSet,
    name: str,
    ipc: int | None,
    results: list[TrialResult],
    sets: int,
) -> Score:
    n = len(train) if ipc is None else ipc * len(train.classes)
    size = "all images" if ipc is None else f"ipc {ipc}"
    return Score.of(
        [result.accuracy for result in results],
        seconds=sum(result.seconds for result in results),
        run=f"baseline {name} ({size}, seed {judge.seed}, {sets} set{'s' * (sets > 1)})",
        method=name,
        dataset=train.info.name,
        ipc=ipc,
        network=network_label(judge.network, train.spec),
        norm=judge.network.norm,
        protocol=judge.protocol.name,
        epochs=judge.protocol.total_epochs(n),
        labels="hard",
        augmentation="none" if judge.operations is None else "dsa",
        split=judge.test.role,
        images=n,
        seed=judge.seed,
        device=judge.settings.device,
    )


def _whole(judge: Judge, train: ImageSet) -> TrialResult:
    """Train on everything once, or read the result of an earlier time."""
    key = _whole_key(judge, train)
    digest = blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).hexdigest()
    path = cache_folder("whole") / f"{digest}.json"
    known = _read(path)
    if known is not None:
        return known
    result = judge.trial(0, train.images, train.labels, judge.transform.apply)
    if result.accuracy == result.accuracy:  # NaN: diverged, which is not worth keeping
        write_text(path, json.dumps({"key": key, "result": asdict(result)}, indent=2) + "\n")
    return result


def _read(path: Path) -> TrialResult | None:
    """Return a cached result; None if there is none that can be read."""
    try:
        return TrialResult(**json.loads(path.read_text("utf-8"))["result"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _whole_key(judge: Judge, train: ImageSet) -> dict[str, Any]:
    """All that decides the accuracy of the whole data."""
    settings = asdict(judge.settings)
    del settings["together"]  # one network is trained alone
    return {
        "version": _CACHE_VERSION,
        "train": train.digest,
        "test": judge.test.digest,
        "split": judge.test.role,
        "network": asdict(judge.network),  # type: ignore[call-overload]
        "transform": _transform_digest(judge.transform),
        "schedule": list(astuple(judge.protocol)),
        "augmentation": None if judge.operations is None else asdict(judge.operations),  # type: ignore[call-overload]
        "seed": judge.seed,
        "settings": settings,
        "torch": torch.__version__,
    }


def _transform_digest(transform: Transform) -> str:
    hasher = blake2b(repr((transform.mean, transform.std)).encode(), digest_size=16)
    if transform.zca is not None:
        for tensor in (transform.zca.mean, transform.zca.matrix):
            hasher.update(tensor.cpu().contiguous().numpy().data)
    return hasher.hexdigest()
