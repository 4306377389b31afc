"""Statistics of one image under one network: what mean-matching methods take class means of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

from distilset.errors import ConfigError
from distilset.losses.attention import channel_attention, spatial_attention
from distilset.losses.characteristic import characteristic, draw_frequencies
from distilset.losses.means import squared_distances
from distilset.types import Features

Kind = Literal["features", "spatial", "channel", "characteristic", "scores"]


@dataclass(frozen=True)
class Statistic:
    """One vector per image, and the weight of its distance in the loss.

    ``layer`` indexes the network's activation maps (0 is the shallowest) and ``power`` is the
    exponent of the attention; both mean nothing for ``features``, the input of the classifier,
    their ``characteristic`` function at so many ``frequencies`` of a ``bandwidth``, and ``scores``,
    the logarithms of the probabilities that the classifier gives the classes. ``width`` is the
    length of the last features, which only ``characteristic`` has to know (`of_width`).
    """

    kind: Kind
    weight: float
    layer: int = -1
    power: float = 1.0
    frequencies: int = 0
    bandwidth: float = 1.0
    width: int = 0

    @property
    def matched(self) -> bool:
        """Whether real images have a part in it: not in ``scores``."""
        return self.kind != "scores"

    @property
    def on_map(self) -> bool:
        """Whether it is an attention, of one of the maps."""
        return self.kind in ("spatial", "channel")

    def __str__(self) -> str:
        return f"{self.kind} attention of map {self.layer}" if self.on_map else self.kind

    @property
    def name(self) -> str:
        """What tells its values from those of others: the stem of a file of them."""
        parts = [self.kind]
        if self.on_map:
            parts += [str(self.layer), f"{self.power:g}"]
        if self.kind == "characteristic":
            parts += [str(self.frequencies), f"{self.bandwidth:g}"]
        return "-".join(parts)

    def of_width(self, width: int) -> "Statistic":
        """Return the same for last features of so many values."""
        return replace(self, width=width) if self.kind == "characteristic" else self

    def table(self) -> Tensor | None:
        """Return the constant that its values are computed with; None for most."""
        if self.kind != "characteristic":
            return None
        return draw_frequencies(self.width, self.frequencies, self.bandwidth)

    def __call__(
        self,
        features: Features,
        scores: Float[Tensor, "n classes"] | None = None,
        table: Float[Tensor, "width count"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Compute the vectors of a batch, in float32.

        ``scores`` are those of its images, ``table`` is what `table` gave, on the device.
        """
        match self.kind:
            case "features":
                return features.last.float()
            case "scores":
                assert scores is not None, "whoever matches scores has them computed"
                return log_softmax(scores.float(), 1)
            case "characteristic":
                assert table is not None, "whoever matches frequencies has them drawn"
                return characteristic(features.last, table)
            case "spatial":
                return spatial_attention(features.maps[self.layer], self.power)
            case "channel":
                return channel_attention(features.maps[self.layer], self.power)

    def distances(
        self, means: Float[Tensor, "some d"], goals: Float[Tensor, "some d"] | None, classes: slice
    ) -> Float[Tensor, " some"]:
        """Return what every class of ``classes`` adds to the loss, before the weight.

        That is the squared distance of the synthetic mean from the real one; of ``scores``, the
        cross-entropy of the synthetic images, whatever the real ones' is.
        """
        if self.kind == "scores":
            own = torch.arange(classes.start, classes.stop, device=means.device)
            return -means.gather(1, own[:, None])[:, 0]
        assert goals is not None, "what is matched has a goal"
        return squared_distances(means, goals)

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
    empty = tuple(s for s in wanted if s.on_map and s.entries(shapes) < 2)
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
