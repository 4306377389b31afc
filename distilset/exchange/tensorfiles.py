"""Files of tensors that somebody else wrote: nothing in them is ever run."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distilset.errors import DataError
from distilset.memory import memory_bytes


class _Number:
    """Stands in for a NumPy number, and for its type: what is read is dropped.

    DC's and DataDAM's code keep accuracies beside the images, as NumPy numbers. They are not
    needed, and NumPy's own constructors need not be trusted with a stranger's arguments.
    """

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_HARMLESS = (
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),  # before and since NumPy 2
    "numpy.dtype",
)


def read_object(path: Path) -> Any:
    """Read what ``torch.save`` wrote: tensors, numbers, text, lists and dictionaries of them.

    Raises:
        DataError: the file is missing or damaged, or holds anything else; that is not run.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    check_unpacked(path)
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([(_Number, name) for name in _HARMLESS]),
        ):
            warnings.simplefilter("ignore")  # on pickles of other protocols, which are refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything in the unpickler
        raise DataError(_refusal(path, str(error))) from None


def _refusal(path: Path, reason: str) -> str:
    found = re.search(r"GLOBAL (\S+)", reason)
    if found:
        return (
            f"{path} holds more than tensors ({found[1]}), which could run code and is not opened; "
            "save its images and labels alone, as tensors, with torch.save"
        )
    return f"{path} is damaged or no file of tensors that torch.save wrote"


def check_unpacked(path: Path) -> None:
    """Refuse an archive whose content is larger than the machine's memory.

    Raises:
        DataError: naming both sizes.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            size = sum(entry.file_size for entry in file.infolist())
    except (OSError, ValueError, zipfile.BadZipFile):
        raise DataError(f"{path} is damaged: its table of contents cannot be read") from None
    if size > (memory_bytes() or size):
        raise DataError(
            f"{path} unpacks to {size / 1e9:.0f} GB, more than the memory of this machine"
        )


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
    return value
