"""What is asked of a table, and of which runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distilset.augment import AugmentConfig
from distilset.errors import ConfigError, DataError, unknown_name
from distilset.evaluation.baselines import BASELINES
from distilset.evaluation.variants import Variant, variants
from distilset.models import (
    NetworkConfig,
    inherit_norm,
    is_own,
    network_config,
    pool_of,
    settled,
)
from distilset.store import DistilledSet
from distilset.training.protocols import Protocol, get_protocol
from distilset.training.step import TrainSettings
from distilset.types import ImageSet, Splits


@dataclass(frozen=True)
class Request:
    """What is asked of every run.

    ``networks`` are settings stated for each network (``{"name": "convnet", "width": 64}``); empty
    means the run's own network. ``norm`` None is the run's. ``augment`` is protocol (as it says),
    on, off or both; ``labels`` own, hard or both; ``pixels`` float, png or both.

    Raises:
        ConfigError: a word that is not allowed, or a number below 1.
    """

    networks: Sequence[Mapping[str, Any]] = ()
    norm: str | None = None
    protocols: Sequence[str] = ("dm",)
    baselines: Sequence[str] = ()
    split: str = "test"
    epochs: int | None = None
    trials: int = 5
    seed: int = 0
    settings: TrainSettings = field(default_factory=TrainSettings)
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    augment: str = "protocol"
    labels: str = "own"
    pixels: str = "float"

    def __post_init__(self) -> None:
        for name in self.protocols:
            get_protocol(name)
        variants(self.augment, self.labels, self.pixels)
        for name in self.baselines:
            if name not in BASELINES:
                raise unknown_name("baseline", name, BASELINES)
        if self.split not in ("test", "val"):
            raise ConfigError(f"--split must be test or val; got {self.split!r}")
        if self.trials < 1 or (self.epochs is not None and self.epochs < 1):
            raise ConfigError(
                f"trials and epochs must be 1 or more; got {self.trials} and {self.epochs}"
            )

    def protocol(self, name: str) -> Protocol:
        """Return a protocol, with the number of epochs asked for."""
        protocol = get_protocol(name)
        return protocol if self.epochs is None else protocol.with_epochs(self.epochs)

    @property
    def variants(self) -> list[Variant]:
        """The ways in which each set is trained on."""
        return variants(self.augment, self.labels, self.pixels)

    def networks_of(self, distilled: DistilledSet) -> list[NetworkConfig]:
        """Return the networks for a run: those asked for, or its own, with the norm asked for.

        Of a pool, its own is the first. Code that only the run names is not imported.
        """
        card = distilled.card
        own = {"name": card.network, "norm": card.norm, **distilled.settings.get("network", {})}
        if not self.networks and is_own(str(own["name"])):
            raise ConfigError(
                f"the run was distilled on {own['name']!r}, and code that only a file names is not "
                f"imported; name it with --network {own['name']}"
            )
        asked = {} if self.norm is None else {"norm": self.norm}
        tables = self.networks or [{k: v for k, v in own.items() if k != "pool"}]
        stated = (network_config(inherit_norm(table, own) | asked) for table in tables)
        return [settled(one, distilled.spec) for config in stated for one in pool_of(config)]


@dataclass(frozen=True)
class Entry:
    """A run to judge, its name in the table, and the data it is judged on.

    Results are kept in its ``folder``; without one they are not.
    """

    name: str
    distilled: DistilledSet
    splits: Splits
    folder: Path | None = None

    def part(self, split: str) -> ImageSet:
        """Return the part to score on.

        Raises:
            ConfigError: if the data have none of that name, or do not fit the run.
        """
        found = self.splits.test if split == "test" else self.splits.val
        if found is None:
            hint = "distil with --val F, or score --split test" if split == "val" else "none came"
            raise ConfigError(f"the data of {self.name} have no {split} part; {hint}")
        check_fit(self.name, self.distilled, found)
        return found


def check_fit(name: str, distilled: DistilledSet, part: ImageSet) -> None:
    """Refuse data of other classes or another image shape than the run's."""
    if part.classes != distilled.classes:
        raise DataError(
            f"{name} was made from {len(distilled.classes)} classes "
            f"({', '.join(distilled.classes[:3])}, ...); the data have {len(part.classes)} "
            f"({', '.join(part.classes[:3])}, ...)"
        )
    if part.spec != distilled.spec:
        raise DataError(f"{name} has images of {distilled.spec}; the data have {part.spec}")
