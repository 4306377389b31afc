"""Labels of any kind to class indices and class names."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from distilset.errors import DataError

MOST_NAME = 1000
"""Characters of a class name: a sentence or two; a folder's has 255 at most."""


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``2`` comes before ``10``."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple(_number_key(p) if p[0] in "0123456789" else (1, 0, p) for p in pieces)


def _number_key(digits: str) -> tuple[int, int, str]:
    """Order as numbers do, by length and then by digits: ``int`` refuses more than 4,300."""
    number = digits.lstrip("0")
    return (0, len(number), f"{number} {digits}")


def check_names(names: Sequence[str]) -> None:
    """Refuse class names that are empty, doubled, too long or carry control characters.

    Raises:
        DataError: naming the first such class.
    """
    for name in names:
        if not name or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            raise DataError(
                f"class name {name!r} is empty or carries control characters; use plain text"
            )
        if len(name) > MOST_NAME:
            raise DataError(
                f"class name {name[:50]!r}... has {len(name)} characters; at most {MOST_NAME} are "
                "allowed"
            )
    if len(set(names)) < len(names):
        double = Counter(names).most_common(1)[0][0]
        raise DataError(f"class name {double!r} stands for two classes; names must differ")


def encode_labels(
    parts: Sequence[np.ndarray], names: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Int64[np.ndarray, " n"]]]:
    """Turn the labels of the parts (train first) into class indices.

    With ``names``, whole-number labels are indices into them and text labels are looked up.
    Without, the classes are the values found in the first part, in natural order.

    Raises:
        DataError: labels that are neither whole numbers nor text, or that no class has.
    """
    arrays = [_flat(labels) for labels in parts]
    numbers = all(array.dtype.kind in "iu" for array in arrays)
    if names is not None and numbers:
        for array in arrays:
            _check_range(array, len(names))
        return tuple(names), [array.astype(np.int64) for array in arrays]
    if numbers:
        names = [str(value) for value in np.unique(arrays[0])]
    elif names is None:
        names = sorted({str(value) for value in arrays[0]}, key=natural_key)
    index = {name: i for i, name in enumerate(names)}
    return tuple(names), [_look_up(array, index) for array in arrays]


def _flat(labels: np.ndarray) -> np.ndarray:
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"labels must be one value for each image; got shape {array.shape}")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    text = array.dtype.kind == "U" or all(isinstance(value, str) for value in array)
    if array.dtype.kind not in "iuU" and not (array.dtype.kind in "OT" and text):
        raise DataError(f"labels must be whole numbers or text; got {array.dtype} values")
    return array


def _check_range(array: np.ndarray, count: int) -> None:
    if len(array) and not 0 <= array.min() <= array.max() < count:
        raise DataError(
            f"labels must lie in 0..{count - 1} for {count} classes; "
            f"got {array.min()}..{array.max()}"
        )


def _look_up(array: np.ndarray, index: dict[str, int]) -> Int64[np.ndarray, " n"]:
    values, inverse = np.unique(array.astype(str), return_inverse=True)
    unknown = [str(value) for value in values if str(value) not in index]
    if unknown:
        raise DataError(
            f"label {unknown[0]!r} is not among the {len(index)} classes of the training part "
            f"({', '.join(list(index)[:10])}{', ...' if len(index) > 10 else ''})"
        )
    codes = np.array([index[str(value)] for value in values], dtype=np.int64)
    return codes[inverse] if len(codes) else np.zeros(0, dtype=np.int64)
