"""Distilled sets on disk: the only link between distilling and everything that comes after."""

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from distilset.card import Card, check_tensors, read_card
from distilset.config import to_toml
from distilset.data.normalise import Transform
from distilset.data.whitening import shared
from distilset.data.zca import Zca, zca_digest
from distilset.errors import DataError
from distilset.files import unlink_link, write_bytes, write_text
from distilset.formation import decode, decode_labels
from distilset.grid import save_grid
from distilset.lock import HOLDER, LOCK
from distilset.types import ImageSpec
from distilset.untrusted import MOST_TOML, parse_toml, read_tensors, read_text

SETTINGS, IMAGES, CARD = "run.toml", "distilled.safetensors", "distilled.json"
TRANSFORM, GRID, METRICS, SCORES = (
    "transform.safetensors",
    "grid.png",
    "metrics.jsonl",
    "scores.csv",
)
BASELINES, TENSORBOARD = "baselines.jsonl", "tensorboard"
CHECKPOINTS = (
    "checkpoint.safetensors",
    "checkpoint.safetensors.new",
    "checkpoint.previous.safetensors",
)
HALF_MADE = frozenset({SETTINGS, IMAGES, TRANSFORM, GRID})
"""What a killed `write_results` may leave without a card and without a run to resume."""
OURS = HALF_MADE | {CARD, METRICS, SCORES, BASELINES, *CHECKPOINTS}


@dataclass(frozen=True, eq=False)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A few images per class to train on, with all that is needed to use them.

    ``pixels`` are floats whose 0 and 1 are black and white; the optimiser may have gone beyond, and
    nothing is clamped here, so that the images return to normalised space exactly. ``labels`` are
    class indices ``[n]``, or probabilities ``[n, classes]``. Both are of the stored images. As a
    torch ``Dataset`` it gives ``(image, label)`` with the image in the space that networks see;
    ``tensors()`` gives all of them at once. These are the images to train on: if the card has a
    factor, several are decoded from each stored one.

    Example:
        >>> images, labels = DistilledSet.load("runs/a").tensors()   # doctest: +SKIP
    """

    pixels: Float[Tensor, "n c h w"]
    labels: Tensor
    card: Card
    transform: Transform
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.pixels) * self.card.factor**2

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.tensors()
        return images[index], labels[index]

    def tensors(self) -> tuple[Float[Tensor, "m c h w"], Tensor]:
        """Return all images to train on, in the space that networks see, and their labels."""
        return self._seen

    @cached_property
    def _seen(self) -> tuple[Tensor, Tensor]:
        factor = self.card.factor
        images = decode(self.transform.apply(self.pixels), factor)
        return images, decode_labels(self.labels, factor)

    def decoded(self) -> "DistilledSet":
        """Return a set that stores the images to train on, for others; itself without a factor.

        A note of its card says what it was decoded from; ``ipc`` stays the number stored.
        """
        card, factor = self.card, self.card.factor
        if factor == 1:
            return self
        images, labels = self.tensors()
        note = (
            f"several images decoded from each stored one: {card.ipc} stored images per class were "
            f"cut into {factor} x {factor} and enlarged (factor {factor}, as IDC's)"
        )
        card = replace(card, factor=1, notes=(*card.notes, note))
        return replace(self, pixels=self.transform.invert(images), labels=labels, card=card)

    @property
    def spec(self) -> ImageSpec:
        """The shape of one image."""
        return ImageSpec(*self.pixels.shape[1:])

    @property
    def hard_labels(self) -> Int64[Tensor, " n"]:
        """The class index of every image; of a soft label, the most probable class."""
        return self.labels.argmax(1) if self.labels.is_floating_point() else self.labels

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
        card = read_card(run / CARD)
        zca = None if card.zca is None else _read_zca(run / TRANSFORM, card)
        tensors, _ = read_tensors(run / IMAGES)
        check_tensors(run / IMAGES, card, tensors)
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
    names = {p.name for p in run.iterdir() if not _is_partial(p.name)} - {LOCK, HOLDER}
    if half_made and names <= HALF_MADE:
        return
    if names:
        why = "has files but no run to go on with" if half_made else "is not empty"
        way = "" if half_made else " go on with --resume,"
        raise DataError(
            f"{run} {why}; choose another folder,{way} or replace the run in it with --overwrite"
        )


def claim(run: Path, *, overwrite: bool, half_made: bool = False) -> None:
    """Make a folder for a new run and remove the files of an earlier one, if that is allowed.

    Files that no run writes are left alone.
    """
    refuse_used(run, overwrite=overwrite, half_made=half_made)
    run.mkdir(parents=True, exist_ok=True)
    remove_partials(run)
    for name in OURS:
        (run / name).unlink(missing_ok=True)
    unlink_link(run / TENSORBOARD)
    for events in (run / TENSORBOARD).glob("events.out.tfevents.*"):
        events.unlink()


def remove_partials(run: Path) -> None:
    """Remove what killed writes left in a folder."""
    for path in [p for p in run.iterdir() if _is_partial(p.name)]:
        path.unlink()


def _is_partial(name: str) -> bool:
    """Tell what a killed `write_atomically` of ours leaves."""
    match = re.fullmatch(r"\.(.+)\.\d+\.partial", name)
    return match is not None and match[1] in OURS


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
    write_bytes(run / IMAGES, save(tensors))
    save_grid(run / GRID, distilled.pixels, distilled.hard_labels, len(distilled.classes))
    version = 1 if distilled.card.factor == 1 else 2
    card = replace(distilled.card, image=distilled.spec.shape, schema_version=version)
    write_text(run / CARD, json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n")


def write_zca(path: Path, zca: Zca) -> None:
    """Write a whitening transform once for all runs that share it: linked from the cache.

    Where hard links cannot be had, the run gets a copy.
    """
    cached = shared(zca)
    path.unlink(missing_ok=True)
    try:
        os.link(cached, path)
    except OSError:
        shutil.copyfile(cached, path)


def _check_finished(run: Path) -> None:
    if not run.is_dir():
        raise DataError(f"there is no run at {run}; give a folder that distilset has written")
    if (run / CARD).is_file() and (run / IMAGES).is_file():
        return
    if (run / SETTINGS).is_file():
        raise DataError(f"the run at {run} is not finished; finish it with --resume first")
    raise DataError(f"{run} is no run folder: it has no {CARD} and {IMAGES}")


def _read_zca(path: Path, card: Card) -> Zca:
    if not path.is_file():
        raise DataError(f"{path} is missing: the run's images are whitened and need it")
    tensors, size = read_tensors(path)[0], math.prod(card.image)
    shapes = {"mean": (size,), "matrix": (size, size), "inverse": (size, size)}
    floats = all(tensor.dtype == torch.float32 for tensor in tensors.values())
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes or not floats:
        raise DataError(f"{path} is damaged: it needs the float32 tensors {shapes}")
    zca = Zca(**tensors)
    if zca_digest(zca) != card.zca:
        raise DataError(f"{path} is not the transform that the card names ({card.zca})")
    return zca


def read_settings(run: Path) -> dict[str, dict[str, Any]]:
    """Read ``run.toml`` with its ``[made]`` table; empty if there is none."""
    path = run / SETTINGS
    if not path.is_file():
        return {}
    try:
        tables = parse_toml(read_text(path, MOST_TOML))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise DataError(f"{path} is damaged: [{key}] must be a table; got {table!r}")
    return tables
