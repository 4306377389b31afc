"""DataDAM: Efficient Dataset Distillation with Attention Matching (Sajedi et al., ICCV 2023)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from distilset.losses.statistics import Statistic, check_layers
from distilset.methods.base import STRICT, Layers, Power, Weight
from distilset.methods.mean_matching import MeanMatching
from distilset.task import Task


@dataclass(frozen=True, config=STRICT)
class DataDAMConfig:
    """Settings of DataDAM.

    ``power`` is 4 in the paper's table and 1 in the released code. ``layers`` None is every
    activation map but the last block's. ``mmd_weight`` None is 0.01, above 64 pixels 0.02.
    ``scale`` multiplies the whole loss: 100 in the released code, absent from the paper.
    """

    power: Power = 4.0
    layers: Layers = None
    attention_weight: Weight = 1.0
    mmd_weight: Weight | None = None
    scale: Weight = 100.0


class DataDAM(MeanMatching):
    """Match class means of unit spatial attention, and of the last features.

    ``L = L_SAM + lambda L_MMD``, each a sum of squares over classes (and layers).
    """

    Config: ClassVar[type] = DataDAMConfig
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"distill": {"batch_real": 64}}

    def __init__(self, config: DataDAMConfig, task: Task) -> None:
        spatial = config.scale * config.attention_weight
        last = Statistic("features", config.scale * mmd_weight(config.mmd_weight, task))

        def statistics(maps: int) -> list[Statistic]:
            layers = check_layers(config.layers, maps)
            return [*(Statistic("spatial", spatial, at, config.power) for at in layers), last]

        super().__init__(task, statistics)


def mmd_weight(given: float | None, task: Task) -> float:
    """Return lambda: as given, or the published value for the images' size."""
    if given is not None:
        return given
    return 0.01 if max(task.train.spec.height, task.train.spec.width) <= 64 else 0.02
