"""The card of a distilled set: what must be known to use it, and where it comes from."""

import math
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated
from torch import Tensor

from distilset.data.labels import check_names
from distilset.errors import ConfigError, DataError
from distilset.formation import check_factor
from distilset.memory import memory_bytes
from distilset.types import DatasetInfo, ImageSpec
from distilset.untrusted import MOST_JSON, parse_json, read_text

SCHEMA_VERSION = 2
"""The newest that is read. Cards are written with 1, which readers without a factor know, where
each stored image is one to train on."""


@validated(frozen=True, config=ConfigDict(extra="ignore"))
class Card:
    """What must be known to use a set, and where it comes from; ``distilled.json``.

    ``kind`` tells synthetic images from selected real ones, whose row numbers in the training part
    are ``rows``. ``ipc`` counts stored images; networks are trained on ``factor ** 2`` of each, see
    `distilset.formation`. ``network`` and ``norm`` are those it was distilled with.
    """

    kind: Literal["distilled", "selection"]
    dataset: DatasetInfo
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    method: str
    ipc: Annotated[int, Field(ge=1)]
    seed: int
    factor: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=0)] = 0
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
    schema_version: int = 1

    @property
    def label(self) -> str:
        """The method, and the factor if there is one: such runs are not to be taken for others."""
        return labelled(self.method, self.factor)


def additions(settings: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Say what the settings of a run add that no paper's method has."""
    names = ("experts", "distill", "method")
    experts, distill, method = (settings.get(name, {}) for name in names)
    found = {
        f"{experts.get('number')} networks trained on the real images": experts.get("number"),
        "cross-entropy in the loss": method.get("class_weight"),
        "characteristic functions in the loss": method.get("characteristic_weight"),
        "images that descend with Adam": distill.get("optimizer") == "adam",
        "an image learning rate that falls": distill.get("schedule") == "cosine",
    }
    return tuple(text for text, added in found.items() if added)


def labelled(text: str, factor: int) -> str:
    """Return a name that tells runs with a factor from others.

    Example:
        >>> labelled("dm", 1), labelled("dm", 2)
        ('dm', 'dm, factor 2')
    """
    return text if factor == 1 else f"{text}, factor {factor}"


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        DataError: if it is damaged, says what cannot be, or is newer than this distilset.
    """
    try:
        facts = parse_json(read_text(path, MOST_JSON))
        _check_version(path, facts)
        card = TypeAdapter(Card).validate_python(facts)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the whole"
        raise DataError(f"{path} is damaged: {where}: {problem['msg']}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    _check_classes(path, card)
    _check_info(path, card.dataset)
    _check_factor(path, card)
    return card


def _check_version(path: Path, facts: Any) -> None:
    version = facts.get("schema_version") if isinstance(facts, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {version}; this distilset reads up to {SCHEMA_VERSION}"
        )


def _check_classes(path: Path, card: Card) -> None:
    try:
        check_names(card.classes)
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _check_info(path: Path, info: DatasetInfo) -> None:
    finite = all(math.isfinite(value) for value in (*info.mean, *info.std))
    if not info.mean or len(info.mean) != len(info.std) or not finite or min(info.std) <= 0:
        raise DataError(
            f"{path} is damaged: the data have mean {info.mean} and std {info.std}; "
            "a finite mean and a std above 0 are needed for each channel"
        )


def _check_factor(path: Path, card: Card) -> None:
    if card.factor == 1:
        return
    try:
        check_factor(card.factor, ImageSpec(*card.image))
    except ConfigError as error:
        raise DataError(f"{path} is damaged: {error}") from None


def check_tensors(path: Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
    """Refuse the tensors of a file that do not fit a card, or are decoded to more than fits.

    Raises:
        DataError: with what there is and what the card says.
    """
    images, labels = tensors.get("images"), tensors.get("labels")
    if images is None or labels is None:
        raise DataError(f"{path} is damaged: it needs the tensors images and labels")
    if images.dtype != torch.float32 or images.ndim != 4 or images.shape[1:] != card.image:
        raise DataError(
            f"{path} has images {images.dtype} {tuple(images.shape)}; "
            f"the card says float32 [n, {', '.join(map(str, card.image))}]"
        )
    soft, count = labels.dtype == torch.float32, len(card.classes)
    shape = (len(images), count) if soft else (len(images),)
    if (
        labels.dtype not in (torch.float32, torch.int64)
        or labels.shape != shape
        or not images.numel()
    ):
        raise DataError(f"{path} has labels {labels.dtype} {tuple(labels.shape)}")
    top = 1 if soft else count - 1
    if not 0 <= float(labels.min()) <= float(labels.max()) <= top:
        raise DataError(f"{path} has labels outside 0..{top}")
    if len(card.dataset.mean) != card.image[0] or not math.isfinite(float(images.sum())):
        raise DataError(
            f"{path} has non-finite images, or channels that do not fit the card's mean"
        )
    size = 4 * images.numel() * card.factor**2
    if card.factor > 1 and size > (memory_bytes() or size):
        raise DataError(
            f"{path} has images that take {size / 1e9:.0f} GB when they are decoded (factor "
            f"{card.factor}), more than this machine has"
        )
