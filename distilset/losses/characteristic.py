"""The characteristic function of last features, at random frequencies.

A class mean of ``cos(t phi)`` and ``sin(t phi)`` is the empirical characteristic function of the
class at ``t``; two distributions are equal where these agree at all frequencies, while means of
``phi`` say nothing of its spread. With normal frequencies the squared distance estimates the
maximum mean discrepancy of a Gaussian kernel (Rahimi and Recht, "Random features for large-scale
kernel machines", NeurIPS 2007). M3D (Zhang et al., AAAI 2024) and NCFM (Wang et al., CVPR 2025)
distil by such distances; unit features, fixed frequencies and the squared distance are ours.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from distilset.rng import Rng

OCTAVES = (0.5, 1.0, 2.0)
"""The bandwidths of a third of the frequencies each, as multiples of the one that is asked for."""


@lru_cache(maxsize=8)
def draw_frequencies(width: int, count: int, bandwidth: float) -> Float[Tensor, "width count"]:
    """Draw ``count`` frequencies for features of ``width`` values; always the same ones.

    Each is normal with the standard deviation ``bandwidth``, half of it, or twice it. The features
    are unit vectors: their differences have a norm of 1 or so, and so has the kernel's width.
    """
    drawn = torch.randn(width, count, generator=Rng(0).torch("frequencies"))
    octaves = torch.tensor(OCTAVES).repeat(-(-count // len(OCTAVES)))[:count]
    return drawn * octaves * bandwidth


def characteristic(
    last: Float[Tensor, "n width"], frequencies: Float[Tensor, "width count"]
) -> Float[Tensor, "n values"]:
    """Return ``cos(t u)`` and ``sin(t u)`` of unit features ``u = phi / ||phi||``, float32.

    Divided by the root of the number of frequencies, so that the squared distance of two class
    means is a mean over frequencies, at most 4.
    """
    phase = normalize(last.float(), dim=1) @ frequencies
    return torch.cat([phase.cos(), phase.sin()], dim=1) / frequencies.shape[1] ** 0.5
