"""What decides a trial's accuracy, as a hash: a row with the same one is not computed again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, astuple
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from distilset.data.normalise import Transform
from distilset.evaluation.judge import Judge

_VERSION = 1


def judge_facts(judge: Judge) -> dict[str, Any]:
    """Return all that decides a trial, but for what is trained on and for how many there are."""
    settings = asdict(judge.settings)
    del settings["together"]  # a network comes out as it does alone
    return {
        "version": _VERSION,
        "test": judge.test.digest,
        "split": judge.test.role,
        "network": asdict(judge.network),  # type: ignore[call-overload]
        "transform": transform_digest(judge.transform),
        "schedule": list(astuple(judge.protocol)),
        "augmentation": None if judge.operations is None else asdict(judge.operations),  # type: ignore[call-overload]
        "seed": judge.seed,
        "settings": settings,
        "torch": torch.__version__,
    }


def digest_of(facts: Mapping[str, Any]) -> str:
    """Hash facts that JSON can hold, in whatever order they come."""
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def tensors_digest(*tensors: Tensor) -> str:
    """Hash the types, shapes and values of tensors."""
    hasher = blake2b(digest_size=16)
    for tensor in tensors:
        hasher.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        hasher.update(tensor.detach().cpu().contiguous().numpy().data)
    return hasher.hexdigest()


def transform_digest(transform: Transform) -> str:
    """Hash what a transform does."""
    hasher = blake2b(repr((transform.mean, transform.std)).encode(), digest_size=16)
    if transform.zca is not None:
        for tensor in (transform.zca.mean, transform.zca.matrix):
            hasher.update(tensor.cpu().contiguous().numpy().data)
    return hasher.hexdigest()
