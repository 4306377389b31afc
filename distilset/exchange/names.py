"""Class names as names of folders, and back."""

import re
import unicodedata
from collections.abc import Sequence

from distilset.data.labels import natural_key
from distilset.errors import DataError

_UNSAFE = re.compile(r'[\\/:*?"<>|\s]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]|conin\$|conout\$)(\..*)?", re.I)
_MOST_BYTES = 120


def folder_name(name: str) -> str:
    """Return a class name as a folder may be called on any system: one step, visible, printable.

    Example:
        >>> folder_name("../x"), folder_name("<b>cat</b>"), folder_name("polar bear")
        ('_x', '_b_cat__b_', 'polar_bear')
    """
    text = unicodedata.normalize("NFC", name)
    text = "".join("_" if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = _UNSAFE.sub("_", text).strip(".")
    text = text.encode()[:_MOST_BYTES].decode(errors="ignore").rstrip(".")
    return f"{text}_" if not text or _RESERVED.fullmatch(text) else text


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return a folder name for each class, so that every reader gives the class its own label.

    Readers number folders in the order of their names. Where the plain names would come in another
    order, or two would be one on a system that ignores case, all are numbered.
    """
    names = [folder_name(name) for name in classes]
    one = len({name.casefold() for name in names}) == len(names)
    natural = sorted(names, key=lambda n: (natural_key(n), n))
    if one and names == sorted(names) == natural:
        return tuple(names)
    width = len(str(len(names) - 1))
    return tuple(f"{c:0{width}}-{name}" for c, name in enumerate(names))


def match_names(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the label of each name of a file among the classes of the data.

    Names match as they are, as folder names, or as the numbers of the labels.

    Raises:
        DataError: another number of classes, or names that match in none of these ways.
    """
    if len(names) != len(classes):
        raise DataError(f"the file has {len(names)} classes and the data have {len(classes)}")
    for known in (tuple(classes), folder_names(classes)):
        if set(names) == set(known):
            return [known.index(name) for name in names]
    numbers = [int(name) for name in names if name.isascii() and name.isdigit()]
    if sorted(numbers) == list(range(len(classes))):
        return numbers
    foreign = next((name for name in names if name not in classes), names[0])
    raise DataError(
        f"class {foreign[:50]!r} of the file is not among those of the data "
        f"({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"
    )
