"""What is asked of a search, word by word."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from distilset.apps.space import Given
from distilset.apps.trainings import EARLY
from distilset.errors import ConfigError, unknown_name
from distilset.evaluation.matrix import Request
from distilset.models import network_table
from distilset.selectors import SELECTORS
from distilset.training.protocols import WHOLE as WHOLE_PROTOCOL
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings


@dataclass(frozen=True)
class Wish:
    """What is asked of a search; see `distilset.apps.nas.search`.

    Raises:
        ConfigError: a word that is not allowed, or a number below 1.
    """

    space: Given = "convnet720"
    network: str | None = None
    sample: int | None = None
    baselines: Sequence[str] = ()
    protocol: str = "quick"
    epochs: int | None = None
    trials: int = 1
    split: str = "val"
    reference: Path | None = None
    reference_updates: int | None = None
    seed: int = 0
    settings: TrainSettings = field(default_factory=TrainSettings)
    threads: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        for name in self.baselines:
            if name not in (*SELECTORS, EARLY):
                raise unknown_name("baseline", name, [*SELECTORS, EARLY])
        for name in ("reference_updates", "workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be 1 or more; got {value}")
        assert self.request  # which checks the rest

    @property
    def request(self) -> Request:
        """The part that `evaluate` knows too."""
        return Request(
            networks=() if self.network is None else (network_table(self.network),),
            protocols=(self.protocol,),
            split=self.split,
            epochs=self.epochs,
            trials=self.trials,
            seed=self.seed,
            settings=self.settings,
        )

    @property
    def whole(self) -> Protocol:
        """The schedule of the whole-data reference."""
        return replace(WHOLE_PROTOCOL, updates=self.reference_updates or WHOLE_PROTOCOL.updates)
