"""``.npz`` and ``.pt`` files: float pixels, labels, class names."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilset.exchange.own import MARK
from distilset.grid import to_bytes
from distilset.store import DistilledSet


def write_npz(path: Path, distilled: DistilledSet) -> None:
    """Write ``images`` (bytes, NHWC), ``pixels`` (float32, NCHW, not clamped) and the rest.

    ``labels`` are class indices, ``soft_labels`` are there if the set has some, ``classes`` are
    names, ``mean`` and ``std`` those of the data, ``notes`` the card's.
    """
    pixels, info = distilled.pixels.cpu(), distilled.card.dataset
    arrays: dict[str, Any] = {
        "images": to_bytes(pixels).permute(0, 2, 3, 1).contiguous().numpy(),
        "labels": distilled.hard_labels.cpu().numpy(),
        "classes": np.array(distilled.classes),
        "pixels": pixels.numpy(),
        "mean": np.array(info.mean, dtype=np.float32),
        "std": np.array(info.std, dtype=np.float32),
        "notes": np.array(distilled.card.notes, dtype=np.str_),
    }
    if distilled.labels.is_floating_point():
        arrays["soft_labels"] = distilled.labels.cpu().numpy()
    with path.open("wb") as file:  # a path would be given the suffix .npz
        np.savez_compressed(file, **arrays)


def write_pt(path: Path, distilled: DistilledSet) -> None:
    """Write a dictionary for ``torch.load(path, weights_only=True)``.

    ``images`` are float pixels, not clamped; ``labels`` indices or probabilities. A set of a run
    that whitens has ``zca_mean``, ``zca_matrix`` and ``zca_inverse`` as well.
    """
    card, zca = distilled.card, distilled.transform.zca
    values: dict[str, Any] = {
        "format": MARK,
        "images": distilled.pixels.cpu().contiguous(),
        "labels": distilled.labels.cpu().contiguous(),
        "classes": list(distilled.classes),
        "mean": torch.tensor(distilled.transform.mean),
        "std": torch.tensor(distilled.transform.std),
        "dataset": card.dataset.name,
        "method": card.method,
        "ipc": card.ipc,
        "notes": list(card.notes),
    }
    for name, tensor in {} if zca is None else vars(zca).items():
        values[f"zca_{name}"] = tensor.cpu()
    torch.save(values, path)
