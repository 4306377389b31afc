"""Distilled sets on disk: the only link between distilling and everything that comes after."""

import json
import math
import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from distilset.cache import cache_folder
from distilset.config import to_toml
from distilset.data.normalise import Transform
from distilset.data.zca import Zca
from distilset.errors import DataError
from distilset.files import write_atomically, write_text
from distilset.grid import save_grid
from distilset.types import DatasetInfo, ImageSpec

SCHEMA_VERSION = 1
SETTINGS, IMAGES, CARD = "run.toml", "distilled.safetensors", "distilled.json"
TRANSFORM, GRID, METRICS, SCORES = (
    "transform.safetensors",
    "grid.png",
    "metrics.jsonl",
    "scores.csv",
)


@validated(frozen=True, config=ConfigDict(extra="ignore"))
class Card:
    """What must be known to use a set, and where it comes from; ``distilled.json``.

    ``kind`` tells synthetic images from selected real ones, whose row numbers in the training part
    are ``rows``. ``network`` and ``norm`` are those it was distilled with.
    """

    kind: Literal["distilled", "selection"]
    dataset: DatasetInfo
    classes: tuple[str, ...]
    method: str
    ipc: int
    seed: int
    steps: int = 0
    network: str = "convnet"
    norm: str = "instance"
    zca: str | None = None
    image: tuple[int, int, int] = (0, 0, 0)
    rows: tuple[int, ...] = ()
    device: str = "cpu"
    precision: str = "fp32"
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, eq=False)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A few images per class to train on, with all that is needed to use them.

    ``pixels`` are floats whose 0 and 1 are black and white; the optimiser may have gone beyond, and
    nothing is clamped here, so that the images return to normalised space exactly. ``labels`` are
    class indices ``[n]``. As a torch ``Dataset`` it gives ``(image, label)`` with the image in the
    space that networks see; ``tensors()`` gives all of them at once.

    Example:
        >>> images, labels = DistilledSet.load("runs/a").tensors()   # doctest: +SKIP
    """

    pixels: Float[Tensor, "n c h w"]
    labels: Tensor
    card: Card
    transform: Transform
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.tensors()
        return images[index], labels[index]

    def tensors(self) -> tuple[Float[Tensor, "n c h w"], Tensor]:
        """Return all images, in the space that networks see, and all labels."""
        return self._normalised, self.labels

    @cached_property
    def _normalised(self) -> Tensor:
        return self.transform.apply(self.pixels)

    @property
    def spec(self) -> ImageSpec:
        """The shape of one image."""
        return ImageSpec(*self.pixels.shape[1:])

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in label order."""
        return self.card.classes

    def save(self, run: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a run folder.

        Raises:
            DataError: if the folder holds files already and ``overwrite`` is not given.
        """
        run = Path(run)
        claim(run, overwrite=overwrite)
        write_results(run, self)
        return run

    @classmethod
    def load(cls, run: str | os.PathLike[str]) -> "DistilledSet":
        """Read a run folder; neither the original data nor the method is needed.

        Raises:
            DataError: if there is no finished run, or it is damaged.
        """
        run = Path(run)
        _check_finished(run)
        card, zca = _read_card(run / CARD), None
        if card.zca is not None:
            zca = _read_zca(run / TRANSFORM)
        tensors = _read_tensors(run / IMAGES)
        _check_tensors(run, card, tensors)
        transform = Transform(card.dataset.mean, card.dataset.std, zca)
        return cls(tensors["images"], tensors["labels"], card, transform, read_settings(run))


def refuse_used(run: Path, *, overwrite: bool, half_made: bool = False) -> None:
    """Raise a DataError if a folder holds something that may not be replaced.

    ``half_made`` allows what a run left that never finished, as ``--resume`` does.
    """
    if run.exists() and not run.is_dir():
        raise DataError(f"{run} is a file; a run needs a folder")
    if overwrite or not run.is_dir():
        return
    names = [p.name for p in run.iterdir() if not p.name.endswith(".partial")]
    if half_made and CARD not in names and all(map(_is_ours, names)):
        return
    if names:
        raise DataError(
            f"{run} is not empty; choose another folder, go on with --resume, "
            "or replace the run in it with --overwrite"
        )


def claim(run: Path, *, overwrite: bool, half_made: bool = False) -> None:
    """Make a folder for a new run and remove the files of an earlier one, if that is allowed.

    Files that no run writes are left alone.
    """
    refuse_used(run, overwrite=overwrite, half_made=half_made)
    run.mkdir(parents=True, exist_ok=True)
    for path in [p for p in run.iterdir() if _is_ours(p.name)]:
        path.unlink()


def _is_ours(name: str) -> bool:
    fixed = (SETTINGS, IMAGES, CARD, TRANSFORM, GRID, METRICS, SCORES)
    return name in fixed or name.startswith("checkpoint") or name.endswith(".partial")


def write_results(run: Path, distilled: DistilledSet) -> None:
    """Write the settings, images, transform, grid and, last, the card, each atomically.

    The card makes a run a finished one: an old one goes first, the new one comes last.
    """
    (run / CARD).unlink(missing_ok=True)
    if distilled.settings:
        write_text(run / SETTINGS, to_toml(distilled.settings))
    if distilled.transform.zca is not None:
        write_zca(run / TRANSFORM, distilled.transform.zca)
    tensors = {"images": distilled.pixels.cpu().contiguous(), "labels": distilled.labels.cpu()}
    write_atomically(run / IMAGES, lambda partial: _dump(partial, tensors))
    save_grid(run / GRID, distilled.pixels, distilled.labels, len(distilled.classes))
    card = replace(distilled.card, image=distilled.spec.shape)
    write_text(run / CARD, json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n")


def zca_digest(zca: Zca | None) -> str | None:
    """Return a hash of a whitening transform's content."""
    if zca is None:
        return None
    hasher = blake2b(digest_size=16)
    for tensor in (zca.mean, zca.matrix, zca.inverse):
        hasher.update(tensor.cpu().contiguous().numpy().data)
    return hasher.hexdigest()


def write_zca(path: Path, zca: Zca) -> None:
    """Write a whitening transform once for all runs that share it: linked from the cache.

    Where hard links cannot be had, the run gets a copy.
    """
    shared = cache_folder("transforms") / f"{zca_digest(zca)}.safetensors"
    if not shared.exists():
        write_atomically(shared, lambda partial: _dump(partial, vars(zca)))
    path.unlink(missing_ok=True)
    try:
        os.link(shared, path)
    except OSError:
        shutil.copyfile(shared, path)


def _dump(path: Path, tensors: dict[str, Tensor]) -> None:
    path.write_bytes(save(tensors))  # save_file would make the file readable by its owner alone


def _check_finished(run: Path) -> None:
    if not run.is_dir():
        raise DataError(f"there is no run at {run}; give a folder that distilset has written")
    if (run / CARD).is_file() and (run / IMAGES).is_file():
        return
    if (run / SETTINGS).is_file():
        raise DataError(f"the run at {run} is not finished; finish it with --resume first")
    raise DataError(f"{run} is no run folder: it has no {CARD} and {IMAGES}")


def _read_card(path: Path) -> Card:
    try:
        facts = json.loads(path.read_text("utf-8"))
        if isinstance(facts, dict) and facts.get("schema_version", 0) > SCHEMA_VERSION:
            raise DataError(
                f"{path} has schema version {facts['schema_version']}; "
                f"this distilset reads up to {SCHEMA_VERSION}"
            )
        return TypeAdapter(Card).validate_python(facts)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise DataError(f"{path} is damaged: {where}: {problem['msg']}") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _read_zca(path: Path) -> Zca:
    if not path.is_file():
        raise DataError(f"{path} is missing: the run's images are whitened and need it")
    try:
        return Zca(**_read_tensors(path))
    except TypeError as error:
        raise DataError(f"{path} is damaged: {error}") from None


def read_settings(run: Path) -> dict[str, dict[str, Any]]:
    """Read ``run.toml`` with its ``[made]`` table; empty if there is none."""
    path = run / SETTINGS
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _check_tensors(run: Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
    path = run / IMAGES
    images, labels = tensors.get("images"), tensors.get("labels")
    if images is None or labels is None:
        raise DataError(f"{path} is damaged: it needs the tensors images and labels")
    if images.dtype != torch.float32 or images.ndim != 4 or images.shape[1:] != card.image:
        raise DataError(
            f"{path} has images {images.dtype} {tuple(images.shape)}; "
            f"the card says float32 [n, {', '.join(map(str, card.image))}]"
        )
    if labels.dtype != torch.int64 or labels.shape != (len(images),) or len(images) == 0:
        raise DataError(f"{path} has labels {labels.dtype} {tuple(labels.shape)}")
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(card.classes):
        raise DataError(f"{path} has labels outside 0..{len(card.classes) - 1}")
    if len(card.dataset.mean) != card.image[0] or not math.isfinite(float(images.sum())):
        raise DataError(
            f"{path} has non-finite images, or channels that do not fit the card's mean"
        )
