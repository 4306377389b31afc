"""ZCA whitening (Kessy, Lewin and Strimmer, "Optimal whitening and decorrelation", 2018).

As used by DataDAM, KIP and MTT: fitted on the normalised training images with ``eps`` 0.1 added to
the eigenvalues, so it whitens in part and can be inverted exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import torch
from jaxtyping import Float32
from torch import Tensor

from distilset.errors import ConfigError, DataError

MAX_SIDE = 64
"""Pixels a side above which the matrix, (channels * height * width)^2, is too large."""

_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Zca:
    """A whitening of flattened images and its inverse: ``(x - mean) @ matrix``."""

    mean: Float32[Tensor, " D"]
    matrix: Float32[Tensor, "D D"]
    inverse: Float32[Tensor, "D D"]

    def apply(self, x: Float32[Tensor, "n C H W"]) -> Float32[Tensor, "n C H W"]:
        """Whiten normalised images."""
        return ((x.flatten(1) - self.mean) @ self.matrix).view_as(x)

    def invert(self, x: Float32[Tensor, "n C H W"]) -> Float32[Tensor, "n C H W"]:
        """Return whitened images to normalised ones."""
        return (x.flatten(1) @ self.inverse + self.mean).view_as(x)

    def to(self, device: torch.device | str) -> "Zca":
        """Return the same on a device."""
        return Zca(self.mean.to(device), self.matrix.to(device), self.inverse.to(device))


def fit_zca(x: Tensor, eps: float = 0.1, prepare: Callable[[Tensor], Tensor] | None = None) -> Zca:
    """Fit on images ``[n, C, H, W]``.

    With the eigenvalues ``S`` and vectors ``U`` of their covariance (``n - 1``):
    ``matrix = U (S + eps)^-1/2 U^T`` and ``inverse = U (S + eps)^1/2 U^T``.

    ``prepare`` is applied to chunks of ``x``, so that bytes need not be normalised all at once. The
    products of a chunk are float32, their sum and the decomposition float64.

    Raises:
        ConfigError: images above 64 pixels a side, or ``eps`` not above 0.
        DataError: fewer than two images.
    """
    height, width = x.shape[-2:]
    if max(height, width) > MAX_SIDE:
        size = x[0].numel()
        raise ConfigError(
            f"ZCA of {height}x{width} images needs a matrix of {size}x{size}, "
            f"{4 * size * size / 2**30:.1f} GiB in float32; at most {MAX_SIDE} pixels a side are "
            "allowed"
        )
    if not eps > 0:
        raise ConfigError(f"ZCA needs eps above 0 to be invertible; got {eps}")
    if len(x) < 2:
        raise DataError(f"ZCA needs two training images or more; got {len(x)}")
    mean, covariance = _moments(x, prepare or (lambda chunk: chunk))
    values, vectors = torch.linalg.eigh(covariance)
    scale = (values.clamp_min(0) + eps).sqrt()
    matrix = (vectors / scale) @ vectors.T
    inverse = (vectors * scale) @ vectors.T
    return Zca(mean.float(), matrix.float(), inverse.float())


def zca_digest(zca: Zca | None) -> str | None:
    """Return a hash of a whitening transform's content."""
    if zca is None:
        return None
    hasher = blake2b(digest_size=16)
    for tensor in (zca.mean, zca.matrix, zca.inverse):
        hasher.update(tensor.cpu().contiguous().numpy().data)
    return hasher.hexdigest()


def _moments(x: Tensor, prepare: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and covariance in two passes over chunks, summed in float64."""
    size = x[0].numel()
    mean = torch.zeros(size, dtype=torch.float64)
    for chunk in x.split(_CHUNK):
        mean += prepare(chunk).flatten(1).sum(0, dtype=torch.float64).cpu() / len(x)
    covariance = torch.zeros(size, size, dtype=torch.float64)
    for chunk in x.split(_CHUNK):
        centred = (prepare(chunk).flatten(1).double().cpu() - mean).float()
        covariance += centred.T @ centred
    return mean, covariance / (len(x) - 1)
