"""Herding, greedy k-center and the best k-center, in float64 with plain loops."""

from itertools import combinations

import numpy as np


def herding(vectors, ipc):
    """Indices: each next one brings the mean of the picks nearest the mean of all."""
    vectors = np.asarray(vectors, dtype=np.float64)
    mean = vectors.mean(axis=0)
    picked = []
    for _ in range(ipc):
        errors = {
            i: np.linalg.norm(mean - vectors[[*picked, i]].mean(axis=0))
            for i in range(len(vectors))
            if i not in picked
        }
        picked.append(min(errors, key=lambda i: errors[i]))
    return picked


def kcenter(vectors, ipc):
    """Indices: first the one nearest the mean, then the farthest from its nearest pick."""
    vectors = np.asarray(vectors, dtype=np.float64)
    mean = vectors.mean(axis=0)
    picked = [min(range(len(vectors)), key=lambda i: np.linalg.norm(vectors[i] - mean))]
    while len(picked) < ipc:
        gaps = {
            i: min(np.linalg.norm(vectors[i] - vectors[j]) for j in picked)
            for i in range(len(vectors))
            if i not in picked
        }
        picked.append(max(gaps, key=lambda i: gaps[i]))
    return picked


def radius(vectors, picked):
    """The largest distance of a vector from its nearest pick."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return max(min(np.linalg.norm(v - vectors[j]) for j in picked) for v in vectors)


def smallest_radius(vectors, ipc):
    """The radius of the best picks there are, by trying them all."""
    return min(radius(vectors, picks) for picks in combinations(range(len(vectors)), ipc))
