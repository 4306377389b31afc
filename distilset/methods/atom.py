"""ATOM: Attention Mixer for Efficient Dataset Distillation (Khaki et al., CVPR-W 2024)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from distilset.losses.statistics import Statistic, check_layers
from distilset.methods.base import STRICT, Layers, Power, Weight
from distilset.methods.datadam import mmd_weight
from distilset.methods.mean_matching import MeanMatching, check_classifiers
from distilset.task import Task


@dataclass(frozen=True, config=STRICT)
class ATOMConfig:
    """Settings of ATOM; the authors released no code, so powers and weights follow DataDAM's.

    ``layers`` None is every activation map but the last block's. ``mmd_weight`` None is 0.01, above
    64 pixels 0.02. ``scale`` multiplies the whole loss, as in DataDAM's released code, but not
    ``class_weight``, that of the synthetic images' cross-entropy under the step's network: an
    addition, which needs networks that were trained (``experts``).
    """

    spatial_power: Power = 4.0
    channel_power: Power = 4.0
    layers: Layers = None
    spatial_weight: Weight = 1.0
    channel_weight: Weight = 1.0
    mmd_weight: Weight | None = None
    class_weight: Weight = 0.0
    characteristic_weight: Weight = 0.0
    frequencies: Annotated[int, Field(ge=1, le=65536)] = 1024
    bandwidth: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    scale: Weight = 100.0


class ATOM(MeanMatching):
    """Match class means of unit spatial and unit channel attention, and of the last features.

    ``L = L_spatial + L_channel + lambda L_MMD``, each a sum of squares over classes (and layers).
    """

    Config: ClassVar[type] = ATOMConfig
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"distill": {"batch_real": 64}}

    def __init__(self, config: ATOMConfig, task: Task) -> None:
        spatial = config.scale * config.spatial_weight
        channel = config.scale * config.channel_weight
        last = Statistic("features", config.scale * mmd_weight(config.mmd_weight, task))
        if config.class_weight:
            check_classifiers(task)
        scores = Statistic("scores", config.class_weight)
        function = Statistic(
            "characteristic",
            config.scale * config.characteristic_weight,
            frequencies=config.frequencies,
            bandwidth=config.bandwidth,
        )

        def statistics(maps: int) -> list[Statistic]:
            layers = check_layers(config.layers, maps)
            return [
                *(Statistic("spatial", spatial, at, config.spatial_power) for at in layers),
                *(Statistic("channel", channel, at, config.channel_power) for at in layers),
                last,
                function,
                scores,
            ]

        super().__init__(task, statistics)
