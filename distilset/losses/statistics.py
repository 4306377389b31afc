"""Statistics of one image under one network: what mean-matching methods take class means of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from distilset.errors import ConfigError
from distilset.losses.attention import channel_attention, spatial_attention
from distilset.types import Features

Kind = Literal["features", "spatial", "channel"]


@dataclass(frozen=True)
class Statistic:
    """One vector per image, and the weight of its squared distance in the loss.

    ``layer`` indexes the network's activation maps (0 is the shallowest) and ``power`` is the
    exponent of the attention; both mean nothing for ``features``, the input of the classifier.
    """

    kind: Kind
    weight: float
    layer: int = -1
    power: float = 1.0

    def __str__(self) -> str:
        return (
            self.kind if self.kind == "features" else f"{self.kind} attention of map {self.layer}"
        )

    def __call__(self, features: Features) -> Float[Tensor, "n d"]:
        """Compute the vectors of a batch, in float32."""
        match self.kind:
            case "features":
                return features.last.float()
            case "spatial":
                return spatial_attention(features.maps[self.layer], self.power)
            case "channel":
                return channel_attention(features.maps[self.layer], self.power)

    def entries(self, shapes: Sequence[tuple[int, int, int]]) -> int:
        """Return the length of an attention vector, given each map's ``(C, H, W)``."""
        channels, height, width = shapes[self.layer]
        return height * width if self.kind == "spatial" else channels


def usable(
    statistics: Sequence[Statistic], shapes: Sequence[tuple[int, int, int]]
) -> tuple[tuple[Statistic, ...], tuple[Statistic, ...]]:
    """Part statistics into those that carry something and those that cannot.

    A unit vector of one entry is 1 for every image, so attention on a 1x1 map (or of one channel)
    is left out. An error is raised if nothing with a weight is left.
    """
    wanted = [s for s in statistics if s.weight > 0]
    empty = tuple(s for s in wanted if s.kind != "features" and s.entries(shapes) < 2)
    kept = tuple(s for s in wanted if s not in empty)
    if not kept:
        raise ConfigError(
            "nothing is left to match: every statistic has weight 0 or lies on a map of one entry; "
            f"the network's maps are {', '.join('x'.join(map(str, s)) for s in shapes)}"
        )
    return kept, empty


def check_layers(layers: Sequence[int] | None, maps: int) -> tuple[int, ...]:
    """Resolve the maps to match: None is every map but the last block's (DataDAM).

    A network with one map keeps that one. Negative numbers count from the deepest map.

    Raises:
        ConfigError: a layer that the network does not have; a network without maps (an MLP).
    """
    if not maps:
        raise ConfigError(
            "the network has no activation maps, so that there is no attention to match; take "
            "method dm, or another network"
        )
    if layers is None:
        return tuple(range(max(maps - 1, 1)))
    wrong = [layer for layer in layers if not -maps <= layer < maps]
    if wrong:
        raise ConfigError(f"layer {wrong[0]} does not exist; allowed are {-maps} to {maps - 1}")
    return tuple(sorted({layer % maps for layer in layers}))
