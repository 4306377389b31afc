"""DM: Dataset Condensation with Distribution Matching (Zhao and Bilen, WACV 2023)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from distilset.losses.statistics import Statistic
from distilset.methods.base import STRICT, Weight
from distilset.methods.mean_matching import MeanMatching
from distilset.task import Task


@dataclass(frozen=True, config=STRICT)
class DMConfig:
    """Settings of DM: the weight of the one squared distance (published: 1)."""

    weight: Weight = 1.0


class DM(MeanMatching):
    """Match class means of the last features: ``L = sum_k ||mean real - mean synthetic||^2``."""

    Config: ClassVar[type] = DMConfig
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"distill": {"batch_real": 256}}

    def __init__(self, config: DMConfig, task: Task) -> None:
        super().__init__(task, lambda maps: [Statistic("features", config.weight)])
