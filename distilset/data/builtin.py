"""Data that comes with an installed package: nothing to download."""

import numpy as np

from distilset.data.parts import Part, Raw


def read_digits() -> Raw:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 grey, their 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    pixels = np.rint(np.asarray(values).reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    part = Part(pixels, np.asarray(labels, dtype=np.int64))
    return Raw(part, None, tuple(str(digit) for digit in range(10)))
