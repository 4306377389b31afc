"""ZCA whitening in float64, by the singular values of the centred images themselves."""

import numpy as np


def zca(x, eps=0.1):
    """Mean, matrix and inverse of images ``[n, ...]`` flattened to rows."""
    rows = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    mean = rows.mean(axis=0)
    _, singular, vectors = np.linalg.svd(rows - mean, full_matrices=True)
    values = np.zeros(rows.shape[1])
    values[: len(singular)] = singular**2 / (len(rows) - 1)
    matrix = sum(
        np.outer(u, u) / np.sqrt(value + eps) for value, u in zip(values, vectors, strict=True)
    )
    inverse = sum(
        np.outer(u, u) * np.sqrt(value + eps) for value, u in zip(values, vectors, strict=True)
    )
    return mean, matrix, inverse
