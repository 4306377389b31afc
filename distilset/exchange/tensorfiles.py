"""Files of tensors that somebody else wrote: nothing in them is ever run.

Both forms of `torch.save` are read: the archive (a zip file), and the stream of pickles that
PyTorch wrote before 1.6 and DC's code still does.
"""

import math
import sys
import zipfile
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distilset.errors import DataError
from distilset.exchange.machine import Damaged, Dropped, Maker, Refused, run
from distilset.untrusted import check_memory, check_unpacked

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MOST_PICKLE = 64 * 2**20
"""Bytes of an archive's pickle: tensors lie beside it."""
_MOST_AXES = 8

_KINDS: Mapping[str, torch.dtype] = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
}


def read_object(path: Path) -> Any:
    """Read what ``torch.save`` wrote: tensors, numbers, text, lists and dictionaries of them.

    Raises:
        DataError: the file is missing or damaged, or holds anything else; that is not run.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    check_unpacked(path)
    try:
        return _read_archive(path) if zipfile.is_zipfile(path) else _read_stream(path)
    except Refused as refused:
        raise DataError(
            f"{path} holds more than tensors ({str(refused)[:100]}), which could run code and is "
            "not opened; save its images and labels alone, as tensors, with torch.save"
        ) from None
    except Exception as error:  # damaged bytes can raise anything
        reason = (str(error).splitlines() or [""])[0][:100]
        raise DataError(
            f"{path} is damaged or no file of tensors that torch.save wrote"
            + (f" ({reason})" if reason else "")
        ) from None


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        main = next(name for name in sizes if name.count("/") == 1 and name.endswith("/data.pkl"))
        folder = main.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in sizes and archive.read(order).decode() != sys.byteorder:
            raise Damaged(f"its numbers are not {sys.byteorder}-endian, as this machine's are")
        if sizes[main] > MOST_PICKLE:
            raise Damaged(f"its pickle has {sizes[main]:,} bytes; at most {MOST_PICKLE:,} are read")
        found: dict[str, np.ndarray] = {}

        def storage(named: tuple[Any, ...]) -> Tensor:
            dtype, key, count = _storage(named)
            if key not in found:
                entry = f"{folder}data/{key}"
                _check_held(sizes[entry], count * dtype.itemsize)
                found[key] = np.empty(sizes[entry], dtype=np.uint8)
                with archive.open(entry) as file:
                    _fill(file, found[key])  # type: ignore[arg-type]
            return _as(found[key], dtype, count)

        with archive.open(main) as file:
            return run(file, _names(_rebuild), storage)  # type: ignore[arg-type]


def _read_stream(path: Path) -> Any:
    """Read the older form: pickles, of which the fourth is the object, then the storages' bytes.

    The object is gone through twice: first to learn the types of the storages, which come after it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        nothing = _names(lambda *_: None)
        if [_plain(file), _plain(file)] != [MAGIC, PROTOCOL]:
            raise Damaged("it does not begin as torch.save's files do")
        if _plain(file).get("little_endian") is not (sys.byteorder == "little"):
            raise Damaged(f"its numbers are not {sys.byteorder}-endian, as this machine's are")
        start, kinds = file.tell(), {}

        def note(named: tuple[Any, ...]) -> None:
            dtype, key, _ = _storage(named)
            kinds[key] = dtype

        run(file, nothing, note)
        keys, found = _plain(file), {}
        for key in dict.fromkeys(map(str, keys)):
            count = int.from_bytes(file.read(8), "little", signed=True)
            _check_held(size - file.tell(), count * kinds[key].itemsize)
            found[key] = np.empty(count * kinds[key].itemsize, dtype=np.uint8)
            _fill(file, found[key])
        file.seek(start)

        def storage(named: tuple[Any, ...]) -> Tensor:
            dtype, key, count = _storage(named)
            return _as(found[key], dtype, count)

        return run(file, _names(_rebuild), storage)


def _plain(file: BufferedIOBase) -> Any:
    """Read a pickle that names nothing."""
    return run(file, {}, _storage)


def _fill(file: BufferedIOBase, into: np.ndarray) -> None:
    view, done = into.data, 0
    while done < len(into):
        count = file.readinto(view[done:])
        if not count:
            raise Damaged("a tensor is cut off")
        done += count


def _check_held(held: int, claimed: int) -> None:
    if not 0 <= claimed <= held:
        raise Damaged(f"a tensor claims {claimed:,} bytes and has {held:,}")


def _storage(named: tuple[Any, ...]) -> tuple[torch.dtype, str, int]:
    """Return type, key and number of values of the storage that a persistent id names."""
    if len(named) < 5 or named[0] != "storage" or not isinstance(named[1], torch.dtype):
        raise Damaged("a storage is not named as torch.save does")
    if not isinstance(named[2], str) or not isinstance(named[4], int) or named[4] < 0:
        raise Damaged("a storage has no name or size")
    if any(view is not None for view in named[5:]):
        raise Damaged("a storage is a view of another, which is not read")
    return named[1], named[2], named[4]


def _as(content: np.ndarray, dtype: torch.dtype, count: int) -> Tensor:
    _check_held(len(content), count * dtype.itemsize)
    if not count:  # NumPy's empty arrays have strides that PyTorch does not view
        return torch.empty(0, dtype=dtype)
    return torch.from_numpy(content)[: count * dtype.itemsize].view(dtype)


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
    """Make a tensor of a storage; one that would reach or repeat beyond it is refused."""
    numbers = (offset, *size, *stride)
    if not all(isinstance(number, int) and 0 <= number < 2**62 for number in numbers):
        raise Damaged("a tensor has a shape that is no shape")
    if len(size) != len(stride) or len(size) > _MOST_AXES:
        raise Damaged("a tensor has more axes than strides, or too many")
    reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    if math.prod(size) > len(storage) or (math.prod(size) and reach > len(storage)):
        raise Damaged(f"a tensor claims the shape {tuple(size)} and has {len(storage)} values")
    return torch.as_strided(storage, size, stride, offset)


def _names(rebuild: Callable[..., Any]) -> dict[str, Any]:
    """Return all that a pickle may name."""
    first = Maker(lambda data, *_: data)
    names: dict[str, Any] = {
        "torch._utils._rebuild_tensor": Maker(rebuild),
        "torch._utils._rebuild_tensor_v2": Maker(rebuild),
        "torch._utils._rebuild_parameter": first,
        "torch._utils._rebuild_parameter_with_state": first,
        "torch._tensor._rebuild_from_type_v2": Maker(_from_type),
        "collections.OrderedDict": Maker(_ordered),
    }
    for kind, dtype in _KINDS.items():
        names[f"torch.{kind}Storage"] = names[f"torch.storage.{kind}Storage"] = dtype
    names["torch.storage.UntypedStorage"] = names["torch.UntypedStorage"] = torch.uint8
    # DC's and DataDAM's code keep accuracies beside the images, as NumPy numbers: not needed.
    dropped = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
    dropped += ("_codecs.encode", "torch.Size", "torch.device")
    return names | dict.fromkeys(dropped, Maker(Dropped))


def _from_type(maker: Any, _type: Any, arguments: Any, *_state: Any) -> Any:
    if not (isinstance(maker, Maker) and isinstance(arguments, tuple)):
        raise Damaged("something is called that is no function")
    return maker.function(*arguments)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    if pairs:
        raise Damaged("a dictionary is not built as torch.save does")
    return {}


def check_tensor(path: Path, what: str, value: Any) -> Tensor:
    """Return an ordinary tensor of real numbers that holds as many values as it claims.

    Raises:
        DataError: it is something else, such as a small storage that claims a huge shape.
    """
    if not isinstance(value, Tensor):
        raise DataError(f"{path} has {type(value).__name__} for {what}; tensors are read")
    value = value.detach()
    kind = value.dtype
    if value.layout != torch.strided or value.is_quantized or kind.is_complex or value.is_meta:
        raise DataError(f"{path} has {what} of {kind}, {value.layout}; plain numbers are read")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise DataError(
            f"{path} has {what} that claim the shape {tuple(value.shape)} and hold fewer values"
        )
    check_memory(f"{path}, as float32,", 4 * value.numel())
    return value
