from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of ``<root>/<class>/<i>.png`` from counts per class."""

    def make(counts: dict[str, int], under: str = "", name="images", **shape) -> Path:
        root = tmp_path / name
        for c, (label, count) in enumerate(counts.items()):
            (root / under / label).mkdir(parents=True)
            for i in range(count):
                pixels = draw(1000 * c + i + len(under), **shape)
                Image.fromarray(pixels).save(root / under / label / f"{i}.png")
        return root

    return make
