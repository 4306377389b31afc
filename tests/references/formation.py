"""The pieces of an image, each enlarged bilinearly, in float64 NumPy and one at a time."""

import numpy as np


def weights(full, small):
    """Interpolation along one side: centres lie at i + 1/2, beyond the border is repeated."""
    matrix = np.zeros((full, small))
    for i in range(full):
        at = min(max((i + 0.5) * small / full - 0.5, 0), small - 1)
        low = min(int(np.floor(at)), small - 1)
        high = min(low + 1, small - 1)
        matrix[i, low] += 1 - (at - low)
        matrix[i, high] += at - low
    return matrix


def decoded(image, factor):
    """Return the ``factor ** 2`` images of a stored one, row by row: [C, H, W] each."""
    _, height, width = image.shape
    h, w = height // factor, width // factor
    down, across = weights(height, h), weights(width, w)
    return [
        np.stack([down @ one[i * h : (i + 1) * h, j * w : (j + 1) * w] @ across.T for one in image])
        for i in range(factor)
        for j in range(factor)
    ]
