"""Images that are arrays already: ``.npz`` files and ``torch.utils.data.Dataset`` objects."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from distilset.data.labels import encode_labels
from distilset.data.parts import Part, Progress, Raw, Size
from distilset.data.pixels import fit, scale_16_bit, to_rgb
from distilset.errors import DataError
from distilset.untrusted import check_unpacked

_CHUNK = 4096
_IMAGE_KEYS = ("images", "x", "data")
_LABEL_KEYS = ("labels", "y", "targets")
_TEST_PREFIXES = ("test", "val", "valid", "validation")
_MOST_GROWN = 2**26
"""Pixels of an image while it is brought to size: a strip of 1x100,000 would take 50 GB."""


def read_npz(path: Path, size: Size | None) -> Raw:
    """Read ``images`` and ``labels``, or ``x_train``, ``y_train``, ``x_test``, ``y_test`` and kin.

    Images are NHW, NHWC or NCHW; uint8, uint16 or 32-bit whole numbers up to 255, or floats in
    [0, 1]. Labels are whole numbers or text; ``classes``, if there, names the former.

    Raises:
        DataError: a damaged file, arrays that are missing or do not fit each other.
    """
    arrays = load_arrays(path)
    found = _pair(arrays, "train") or _pair(arrays, None)
    if found is None:
        raise DataError(
            f"{path} has arrays {', '.join(arrays) or '(none)'}; expected images and labels, or "
            "x_train, y_train, x_test, y_test (or train_images, ...)"
        )
    tests = (_pair(arrays, prefix) for prefix in _TEST_PREFIXES)
    pairs = [found, *[pair for pair in tests if pair is not None][:1]]
    for images, labels in pairs:
        _check_pair(images, labels)
    names = [str(name) for name in arrays["classes"].ravel()] if "classes" in arrays else None
    classes, labels = encode_labels([label for _, label in pairs], names)
    parts = [_part(images, codes, size) for (images, _), codes in zip(pairs, labels, strict=True)]
    return Raw(parts[0], parts[1] if len(parts) > 1 else None, classes)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz`` file by their names; pickled ones are refused.

    Raises:
        DataError: a damaged file, or one that unpacks to more than the machine's memory.
    """
    check_unpacked(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".npy")]
            for name in names:
                with archive.open(name) as member:
                    _check_claim(member, archive.getinfo(name).file_size)
        with np.load(path, allow_pickle=False) as file:
            return {name[:-4]: file[name] for name in names}
    except Exception as error:  # damaged bytes raise NumPy's, zipfile's and zlib's errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read as .npz without pickles: {reason}") from None


def _check_claim(member: Any, size: int) -> None:
    """Refuse a header that claims more than there is, before NumPy makes room for it."""
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"arrays of version {version}")
    shape, _, dtype = read[version](member)
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array claims the shape {shape} of {dtype} in {size} bytes")


def _check_pair(images: np.ndarray, labels: np.ndarray) -> None:
    if images.ndim not in (3, 4) or min(images.shape) < 1 or labels.ndim < 1:
        raise DataError(
            f"images must be NHW, NHWC or NCHW of one pixel or more, with a label each; got shapes "
            f"{images.shape} and {labels.shape}"
        )
    if len(images) != len(labels):
        raise DataError(f"{len(images)} images need as many labels; got {len(labels)}")


def _pair(arrays: dict[str, np.ndarray], part: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    lower = {key.lower(): array for key, array in arrays.items()}

    def find(keys: Sequence[str]) -> np.ndarray | None:
        named = [k for key in keys for k in (f"{key}_{part}", f"{part}_{key}")] if part else keys
        return next((lower[key] for key in named if key in lower), None)

    images, labels = find(_IMAGE_KEYS), find(_LABEL_KEYS)
    return None if images is None or labels is None else (images, labels)


def _part(images: np.ndarray, labels: np.ndarray, size: Size | None) -> Part:
    pixels = to_bytes(_channels_first(images))
    if size is not None and len(pixels):
        pixels = resize(torch.from_numpy(pixels), size).numpy()
    return Part(pixels, labels)


def _channels_first(images: np.ndarray) -> np.ndarray:
    """View NHW, NHWC or NCHW as NCHW; what could be both is taken as NHWC."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and 1 <= images.shape[3] <= 4:
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 4 and 1 <= images.shape[1] <= 4:
        return images
    raise DataError(
        f"images must be NHW, NHWC or NCHW with 1 to 4 channels; got shape {images.shape}"
    )


def to_bytes(values: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Bring pixels of any type to bytes: uint16 and floats in [0, 1] are scaled and rounded.

    Raises:
        DataError: values outside the range of their type, such as normalised floats.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    result = np.empty(values.shape, dtype=np.uint8)
    if values.ndim == 0:
        raise DataError("images must be arrays; got a single number")
    for start in range(0, len(values), _CHUNK):
        result[start : start + _CHUNK] = _chunk_to_bytes(values[start : start + _CHUNK])
    return result


def _chunk_to_bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        return scale_16_bit(values)
    if values.dtype.kind not in "iuf":
        raise DataError(f"images must be numbers; got an array of {values.dtype}")
    limit = 1 if values.dtype.kind == "f" else 255
    if values.size and not (values.min() >= 0 and values.max() <= limit):
        raise DataError(
            f"{values.dtype} images must lie in 0..{limit}; got {values.min():g}..{values.max():g} "
            "(leave normalisation out: it is done here)"
        )
    return np.rint(values.astype(np.float64) * (255 / limit)).astype(np.uint8)


def resize(images: UInt8[Tensor, "n c h w"], size: Size) -> UInt8[Tensor, "n c height width"]:
    """Bring the short side to ``size`` (bicubic, antialiased) and cut the centre out."""
    old = (images.shape[2], images.shape[3])
    if old == size:
        return images
    ratio = max(size[0] / old[0], size[1] / old[1])
    grown = [max(new, round(side * ratio)) for side, new in zip(old, size, strict=True)]
    if grown[0] * grown[1] > _MOST_GROWN:
        raise DataError(
            f"images of {old[0]}x{old[1]} pixels are too long and narrow to be brought to "
            f"{size[0]}x{size[1]}; give a smaller resolution"
        )
    step = max(1, min(256, _MOST_GROWN // (grown[0] * grown[1])))
    top, left = (grown[0] - size[0]) // 2, (grown[1] - size[1]) // 2
    result = torch.empty(*images.shape[:2], *size, dtype=torch.uint8)
    for start in range(0, len(images), step):
        rows = slice(start, start + step)
        big = interpolate(images[rows].float(), size=grown, mode="bicubic", antialias=True)
        cut = big[..., top : top + size[0], left : left + size[1]]
        result[rows] = cut.round().clamp(0, 255).to(torch.uint8)
    return result


def read_torch(datasets: Sequence[Any], size: Size | None, progress: Progress | None) -> Raw:
    """Read one data set, or a train and a test one, whose items are ``(image, label)``.

    An image is a PIL image, a tensor (CHW or HW) or a NumPy array (HWC or HW), of bytes or of
    floats in [0, 1]. Class names come from an attribute ``classes``, also behind ``Subset``.

    Raises:
        DataError: items of another kind, images of different shapes, normalised pixels.
    """
    counts = [_length(dataset) for dataset in datasets]
    names = _class_names(datasets[0])
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for i, dataset in enumerate(datasets):
        part_images, part_labels = _read_items(
            dataset, counts[i], size, progress, (sum(counts[:i]), sum(counts))
        )
        images.append(part_images)
        labels.append(part_labels)
    if len({array.shape[1] for array in images}) > 1:
        images = [np.repeat(a, 3, axis=1) if a.shape[1] == 1 else a for a in images]
    if len({array.shape[1:] for array in images}) > 1:
        raise DataError(f"train and test images differ in shape: {[a.shape[1:] for a in images]}")
    classes, codes = encode_labels(labels, names)
    parts = [Part(array, code) for array, code in zip(images, codes, strict=True)]
    return Raw(parts[0], parts[1] if len(parts) > 1 else None, classes)


def _length(dataset: Any) -> int:
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        count = 0
    if not count:
        raise DataError(
            f"a torch Dataset needs a length above 0 and items (image, label); got "
            f"{type(dataset).__name__} without"
        )
    return count


def _class_names(dataset: Any) -> list[str] | None:
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return None if names is None else [str(name) for name in names]


def _read_items(
    dataset: Any,
    count: int,
    size: Size | None,
    progress: Progress | None,
    before_and_total: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    labels: list[int | str] = []
    canvas: np.ndarray | None = None
    pictures = True
    for i in range(count):
        item = dataset[i]
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise DataError(f"items must be (image, label); item {i} is {type(item).__name__}")
        pixels = _item_pixels(item[0], size)
        pictures = pictures and isinstance(item[0], Image.Image)
        if canvas is None:
            canvas = np.empty((count, *pixels.shape), dtype=np.uint8)
        if pixels.shape != canvas.shape[1:]:
            raise DataError(
                f"images differ in shape: {canvas.shape[1:]} and {pixels.shape} (item {i}); "
                "give the side they are all brought to (resolution=N)"
            )
        canvas[i] = pixels
        labels.append(_item_label(item[1], i))
        if progress is not None and ((i + 1) % 256 == 0 or i + 1 == count):
            progress(before_and_total[0] + i + 1, before_and_total[1])
    assert canvas is not None
    if pictures and all((canvas[:, :1] == canvas[:, c : c + 1]).all() for c in (1, 2)):
        canvas = np.ascontiguousarray(canvas[:, :1])
    return canvas, np.asarray(labels)


def _item_pixels(image: Any, size: Size | None) -> UInt8[np.ndarray, "channels height width"]:
    if isinstance(image, Image.Image):
        return np.asarray(fit(to_rgb(image), size)).transpose(2, 0, 1)
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        array = array[None] if array.ndim == 2 else array
    elif isinstance(image, np.ndarray):
        array = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    else:
        raise DataError(
            f"an image must be a PIL image, a tensor or an array; got {type(image).__name__}"
        )
    if array.ndim != 3 or not 1 <= array.shape[0] <= 4:
        raise DataError(f"an image must have 1 to 4 channels; got shape {tuple(image.shape)}")
    pixels = to_bytes(array)
    if size is not None:
        pixels = resize(torch.from_numpy(pixels)[None], size)[0].numpy()
    return pixels


def _item_label(label: Any, i: int) -> int | str:
    if isinstance(label, (Tensor, np.ndarray)) and np.prod(label.shape) != 1:
        raise DataError(f"item {i} needs one label; got shape {tuple(label.shape)}")
    value = label.item() if isinstance(label, (Tensor, np.ndarray, np.generic)) else label
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return value
    raise DataError(f"labels must be whole numbers or text; item {i} has {value!r}")
