"""The error of predicting one batch's labels from another's by kernel ridge regression."""

import torch
from jaxtyping import Float
from torch import Tensor


def ridge_error(
    support: Float[Tensor, "n features"],
    known: Float[Tensor, "n outputs"],
    query: Float[Tensor, "m features"],
    wanted: Float[Tensor, "m outputs"],
    ridge: float,
) -> Float[Tensor, ""]:
    """Return half the squared error of ``query``, summed over outputs, its mean over rows.

    ``query support' (support support' + r I)^-1 known`` against ``wanted``; r is ``ridge`` times
    the mean squared length of the rows of ``support`` (Nguyen et al., ICLR 2021; Zhou et al.,
    NeurIPS 2022).

    Example:
        >>> points = torch.eye(2)
        >>> float(ridge_error(points, points, points, points, 1.0))  # all are halved
        0.125
    """
    kernel = support @ support.T
    strength = ridge * kernel.diagonal().mean()
    regular = kernel + strength * torch.eye(len(kernel), device=kernel.device, dtype=kernel.dtype)
    predicted = (query @ support.T) @ torch.linalg.solve(regular, known)
    return 0.5 * (predicted - wanted).square().sum(1).mean()
