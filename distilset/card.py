"""The card of a distilled set: what must be known to use it, and where it comes from."""

import math
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from distilset.data.labels import check_names
from distilset.errors import DataError
from distilset.types import DatasetInfo
from distilset.untrusted import MOST_JSON, parse_json, read_text

SCHEMA_VERSION = 1


@validated(frozen=True, config=ConfigDict(extra="ignore"))
class Card:
    """What must be known to use a set, and where it comes from; ``distilled.json``.

    ``kind`` tells synthetic images from selected real ones, whose row numbers in the training part
    are ``rows``. ``network`` and ``norm`` are those it was distilled with.
    """

    kind: Literal["distilled", "selection"]
    dataset: DatasetInfo
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    method: str
    ipc: Annotated[int, Field(ge=1)]
    seed: int
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
    schema_version: int = SCHEMA_VERSION


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
