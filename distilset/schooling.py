"""What a run says about the networks that are trained on the real images before it begins."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

BATCH = 128
"""Real images in an update."""


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class ExpertsConfig:
    """How many networks are trained on the real images, and for how long; 0 is none.

    Each is trained for ``updates`` batches of 128 images, augmented as the run's are, and kept at
    ``snapshots`` equally spaced moments, the last at its end. ``lr``, ``momentum`` and ``schedule``
    (after a warm-up along a cosine, or constant) are those of SGD. Where a network has BatchNorm,
    ``batch_norm`` "batch" normalises the images that are matched by their own batch, so that only
    their differences are compared, and "running" by the real images' statistics, which the expert
    has learnt. ``seed`` None is the run's: runs with
    the same one share their experts, so that a spread over seeds is one over experts, too.
    """

    number: Annotated[int, Field(ge=0)] = 0
    updates: Annotated[int, Field(ge=1)] = 400
    snapshots: Annotated[int, Field(ge=1)] = 8
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.04
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["cosine", "constant"] = "cosine"
    batch_norm: Literal["batch", "running"] = "batch"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    def __str__(self) -> str:
        networks = f"{self.number} network" + "s" * (self.number != 1)
        return (
            f"{networks} trained on the real images for {self.updates} updates of {BATCH}, "
            f"at {self.snapshots} moments{self._told}"
            + ", BatchNorm by running statistics"
            * (self.batch_norm == "running")
        )

    @property
    def _told(self) -> str:
        rate = f", lr {self.lr:g} ({self.schedule}), momentum {self.momentum:g}"
        return rate if self.pace else ""

    @property
    def pace(self) -> dict[str, float | str]:
        """What of SGD's settings is not as by default; networks trained so have other names."""
        return {
            name: getattr(self, name)
            for name in ("lr", "momentum", "schedule")
            if getattr(self, name) != getattr(ExpertsConfig, name)
        }

    @property
    def moments(self) -> tuple[int, ...]:
        """The numbers of updates after which weights are kept."""
        parts = range(1, self.snapshots + 1)
        return tuple(max(1, self.updates * part // self.snapshots) for part in parts)
