"""Whole-data accuracies of a space: computed once, kept by content, exchanged as a file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

from distilset.cache import cache_folder
from distilset.errors import ConfigError, DataError
from distilset.evaluation.identity import digest_of
from distilset.files import write_text
from distilset.untrusted import MOST_JSON, MOST_SECONDS, number_in, parse_json, read_text

FILE = "reference.json"
CHECKED = ("schedule", "split", "data", "transform", "augmentation")
"""What must be the same for accuracies to be used again; the seed need not."""


@dataclass(frozen=True)
class Known:
    """A network trained on the whole data: accuracies in per cent, NaN if it diverged.

    ``accuracy`` is on the split that the search looks at; ``test`` on the test part, None where
    there is none. ``source`` says where it comes from: ``trained``, ``cache`` or a file.
    """

    accuracy: float
    test: float | None
    seconds: float
    compute: str
    source: str = "trained"


def write_reference(path: Path, facts: Mapping[str, Any], members: Mapping[str, Known]) -> None:
    """Write accuracies with what they hold for: schedule, split, data, transform, seed."""
    rows = {
        name: {key: _jsonable(value) for key, value in asdict(known).items() if key != "source"}
        for name, known in members.items()
    }
    write_text(path, json.dumps({**facts, "networks": rows}, indent=2) + "\n")


def read_reference(path: Path, facts: Mapping[str, Any]) -> dict[str, Known]:
    """Read the accuracies of a file that was made for the same data, split and schedule.

    Raises:
        DataError: a file that cannot be read.
        ConfigError: other data, split or schedule: what differs.
    """
    try:
        table = parse_json(read_text(path, MOST_JSON))
        networks = {str(name): _known(row, path.name) for name, row in table["networks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no reference file: {error!r}") from None
    wanted = json.loads(json.dumps(dict(facts)))
    differ = [
        difference
        for name in CHECKED
        for difference in _differences(name, table.get(name), wanted[name])
    ]
    if differ:
        raise ConfigError(
            f"{path} was made otherwise ({'; '.join(differ)}); ask for the same, or leave "
            "--reference out to train the networks anew"
        )
    return networks


def _differences(name: str, there: Any, here: Any) -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = dict.fromkeys([*there, *here])
        return [
            f"{name} {key}: {there.get(key)!r} there, {here.get(key)!r} here"
            for key in keys
            if there.get(key) != here.get(key)
        ]
    return [] if there == here else [f"{name}: {there!r} there, {here!r} here"]


def _known(row: Mapping[str, Any], source: str) -> Known:
    accuracy, test, compute = row["accuracy"], row["test"], row["compute"]
    if not isinstance(compute, str):
        raise ValueError(f"compute is {compute!r:.80}, which is no text")
    return Known(
        nan if accuracy is None else number_in(accuracy),
        None if test is None else number_in(test),
        number_in(row["seconds"], high=MOST_SECONDS),
        compute,
        source,
    )


def _jsonable(value: object) -> object:
    return None if isinstance(value, float) and not isfinite(value) else value


class Cache:
    """Accuracies kept by a hash of all that decides them, for every search on this machine."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts

    def read(self, member: Mapping[str, Any]) -> Known | None:
        """Return what is known of a member; None if that is nothing, or cannot be read."""
        try:
            row = parse_json(read_text(self._path(member), MOST_JSON))["result"]
            found = _known(row, "cache")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isfinite(found.accuracy) else None

    def write(self, member: Mapping[str, Any], known: Known) -> None:
        """Keep what came of a member; one that diverged is not worth keeping."""
        if isfinite(known.accuracy) and (known.test is None or isfinite(known.test)):
            document = {"key": {**self.facts, **member}, "result": asdict(known)}
            write_text(self._path(member), json.dumps(document, indent=2) + "\n")

    def _path(self, member: Mapping[str, Any]) -> Path:
        return cache_folder("reference") / f"{digest_of({**self.facts, **member})}.json"
