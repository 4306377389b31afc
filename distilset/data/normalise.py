"""Pixels to the space in which images are optimised and networks see them, and back."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from distilset.data.whitening import fit_once
from distilset.data.zca import Zca
from distilset.types import ImageSet

_CHUNK = 2048
_Constants = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Transform:
    """Pixels in [0, 1] to and from the normalised (with ZCA: whitened) space, where images live.

    Example:
        >>> transform = Transform((0.5,), (0.25,))
        >>> transform.apply(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)).unique()
        tensor([2.])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    zca: Zca | None = None
    _cache: dict[torch.device, _Constants] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def _constants(self, device: torch.device) -> _Constants:
        """Scale and shift of bytes, then of floats: ``x * scale + shift``."""
        if device not in self._cache:
            mean = torch.tensor(self.mean, dtype=torch.float64)[:, None, None]
            std = torch.tensor(self.std, dtype=torch.float64)[:, None, None]
            rows = (1 / (255 * std), 1 / std, mean, std)
            self._cache[device] = tuple(row.float().to(device) for row in rows)  # type: ignore
        return self._cache[device]

    def apply(
        self, images: UInt8[Tensor, "n C H W"] | Float[Tensor, "n C H W"]
    ) -> Float32[Tensor, "n C H W"]:
        """Normalise (and whiten) bytes, or floats that are pixels in [0, 1]; keeps gradients."""
        byte_scale, scale, mean, std = self._constants(images.device)
        # In place on the fresh float copy: 1 ms for 1,000 CIFAR-10 images, 12 ms with addcmul.
        if images.dtype == torch.uint8:
            x = images.float().mul_(byte_scale).sub_(mean / std)
        else:
            x = (images.float() - mean).mul_(scale)
        return x if self.zca is None else self.zca.apply(x)

    def invert(self, x: Float[Tensor, "n C H W"]) -> Float32[Tensor, "n C H W"]:
        """Return pixels, which may leave [0, 1]: nothing is clamped."""
        _, _, mean, std = self._constants(x.device)
        x = x.float() if self.zca is None else self.zca.invert(x.float())
        return x * std + mean

    def to(self, device: torch.device | str) -> "Transform":
        """Return the same with its tensors on a device."""
        return Transform(self.mean, self.std, None if self.zca is None else self.zca.to(device))


def fit_transform(train: ImageSet, zca: bool = False, eps: float = 0.1) -> Transform:
    """Make the transform of a training set: its mean and std, and ZCA fitted on it if asked for.

    The whitening of images of 1,000 values and more is kept in the cache.

    Raises:
        ConfigError: ZCA above 64 pixels a side.
    """
    plain = Transform(train.info.mean, train.info.std)
    if not zca:
        return plain
    fitted = fit_once(train, eps, plain.mean, plain.std, plain.apply)
    return Transform(plain.mean, plain.std, fitted)


def channel_statistics(
    images: UInt8[np.ndarray, "n C H W"] | UInt8[Tensor, "n C H W"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (ddof 0) of each channel, of pixels in [0, 1].

    Exact: from counts of the 256 values. A constant channel gets std 1, which leaves it constant.
    """
    array = images.numpy() if isinstance(images, Tensor) else images
    counts = np.zeros((array.shape[1], 256), dtype=np.int64)
    for start in range(0, len(array), _CHUNK):
        counts += count_values(array[start : start + _CHUNK])
    return statistics_of(counts)


def count_values(images: UInt8[np.ndarray, "n C H W"]) -> Int64[np.ndarray, "C 256"]:
    """Count each channel's values."""
    channels = range(images.shape[1])
    return np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in channels])


def statistics_of(
    counts: Int64[np.ndarray, "C 256"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the channels' mean and std from counts of values; see `channel_statistics`."""
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in counts:
        share = channel / channel.sum()
        mean.append(float(share @ values))
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)) or 1.0)
    return tuple(mean), tuple(std)
