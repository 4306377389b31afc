"""Whitening transforms kept on disk: fitted once for the same images, shared by every run.

Fitting ZCA costs more than a short run's steps, and the matrices of CIFAR-10 75 MB. They lie in the
cache once, named by their content; a line beside them, named by all that shapes a fit, says which
ones a training set has.
"""

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from distilset.cache import cache_folder, canonical
from distilset.data.zca import Zca, fit_zca, zca_digest
from distilset.errors import DataError
from distilset.files import write_bytes, write_text
from distilset.types import ImageSet
from distilset.untrusted import MOST_JSON, parse_json, read_tensors, read_text

KEPT_FROM = 1000
"""Values of an image from which a fit is kept: smaller ones take less than a second."""

VERSION = 1


def shared(zca: Zca) -> Path:
    """Return the file of the cache that holds a transform, written if it is not there."""
    path = _path(zca_digest(zca) or "")
    if _read(path) is None:
        write_bytes(path, save(vars(zca)))
    return path


def fit_once(
    train: ImageSet,
    eps: float,
    mean: Sequence[float],
    std: Sequence[float],
    normalise: Callable[[Tensor], Tensor],
) -> Zca:
    """Fit on images that ``normalise`` brings to ``mean`` 0 and ``std`` 1, or read an equal fit.

    Equal means: the same images, normalisation, ``eps``, threads, processor's instructions and
    version of PyTorch, so that the bits are those of a fit now.

    Raises:
        ConfigError: images above 64 pixels a side.
        DataError: fewer than two images.
    """
    if train.images[:1].numel() < KEPT_FROM:
        return fit_zca(train.images, eps, normalise)
    fit = cache_folder("fits") / f"{_name(train, eps, mean, std)}.json"
    found = _kept(fit)
    if found is None or len(found.mean) != train.images[0].numel():
        found = fit_zca(train.images, eps, normalise)
        shared(found)
        write_text(fit, json.dumps({"zca": zca_digest(found)}) + "\n")
    return found


def _name(train: ImageSet, eps: float, mean: Sequence[float], std: Sequence[float]) -> str:
    key = {
        "version": VERSION,
        "train": train.digest,
        "mean": list(mean),
        "std": list(std),
        "eps": eps,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    return blake2b(canonical(key), digest_size=16).hexdigest()


def _kept(fit: Path) -> Zca | None:
    try:
        return _read(_path(parse_json(read_text(fit, MOST_JSON))["zca"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(digest: str) -> Path:
    return cache_folder("transforms") / f"{digest}.safetensors"


def _read(path: Path) -> Zca | None:
    """Return the transform of a file, or None where it is not the one that its name says."""
    try:
        zca = Zca(**read_tensors(path)[0])
        return zca if zca_digest(zca) == path.stem else None
    except (DataError, TypeError):
        return None
