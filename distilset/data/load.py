"""The front door of the data: one function for every kind of source."""

import re
from pathlib import Path
from typing import Any

from distilset.data.assemble import assemble
from distilset.data.decode import Source, decode_listed
from distilset.data.known import KNOWN, KnownDataset
from distilset.data.mapped import Note, mapped_splits, too_large
from distilset.data.parts import Progress, Raw, Size, square
from distilset.data.split import check_fraction
from distilset.errors import ConfigError, DataError, unknown_name
from distilset.files import expanded
from distilset.types import DatasetInfo, Splits

Found = tuple[Raw | Source, str, str]
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w.-]+))?")


def load_data(
    source: Any,
    *,
    resolution: int | None = None,
    val: float = 0.0,
    split_seed: int = 0,
    like: str | None = None,
    mapped: bool | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Splits:
    """Read a data set into uint8 images, sorted by class and split into train, test and val.

    Args:
        source: ``"digits"`` (built in); a known name (``KNOWN``); a path to a folder of images, a
            folder of parquet files, an ``.npz`` or a ``.parquet`` file; ``"owner/name"`` (or
            ``"owner/name:config"``) on the Hugging Face hub; a ``torch.utils.data.Dataset`` of
            ``(image, label)``, or a pair of them, train and test. A name wins over a folder of the
            same name; ``./name`` is always the folder.
        resolution: bring every image to this square (short side resized, centre cut out); without
            it, a known data set's own, else the common size of the images.
        val: fraction of train that is carved out as ``val``.
        split_seed: decides every carved part, together with the order of the images alone.
        like: a known data set whose published mean, std and mirror rule apply (for a local copy);
            without it, a known name's own, else measured on train.
        mapped: keep the images of a folder or a table in a file of the cache, decoded once, of
            which only what is looked at is read; None does so where they are larger than
            `distilset.data.mapped.limit_bytes`. The images are the same.
        progress: called with the images done and their total.
        note: called with what is worth telling: that a file of the cache is made, and its size.

    Raises:
        ConfigError: an unknown name or setting.
        DataError: a source that is missing, damaged or unfit; too little disk for the cache.

    Example:
        >>> splits = load_data("digits")
        >>> len(splits.train), len(splits.test), str(splits.train.spec)
        (1438, 359, '1x8x8')
    """
    check_fraction(val)
    size = square(resolution)
    known = _known(source, like)
    if resolution is None and isinstance(source, str) and source in KNOWN:
        resolution = KNOWN[source].resolution
        size = square(resolution)
    found, name, where = _find(source, size, progress)
    info = DatasetInfo(
        name=name,
        source=where,
        mean=(),
        std=(),
        mirror=known.mirror if known else where != "scikit-learn",  # a mirrored digit is another
        resolution=resolution,
        split_seed=split_seed,
        val_fraction=val,
        like=like,
    )
    if isinstance(found, Raw):
        if mapped:
            raise ConfigError(
                f"{name} comes as an array, which is in memory already; a memory map (--mapped) is "
                "made of folders and tables of images"
            )
        return assemble(found, info, known)
    if too_large(found, size) if mapped is None else mapped:
        return mapped_splits(found, info, known, size, progress, note or _silent)
    return assemble(decode_listed(found.list(), size, progress), info, known)


def _silent(text: str) -> None:
    """Tell nobody."""


def _known(source: Any, like: str | None) -> KnownDataset | None:
    if like is not None and like not in KNOWN:
        raise unknown_name("data set", like, KNOWN)
    name = source if like is None else like
    return KNOWN.get(name) if isinstance(name, str) else None


def _find(source: Any, size: Size | None, progress: Progress | None) -> Found:
    """Return the data, their name and where they come from."""
    if isinstance(source, Path):
        return _find_path(expanded(source), size)
    if isinstance(source, str):
        return _find_name(source, size)
    from distilset.data.arrays import read_torch

    sets = list(source) if isinstance(source, (tuple, list)) else [source]
    if not 1 <= len(sets) <= 2 or not all(hasattr(s, "__getitem__") for s in sets):
        raise ConfigError(
            f"data must be a name, a path, a torch Dataset or a pair of them; got {source!r:.80}"
        )
    name = type(sets[0]).__name__
    return read_torch(sets, size, progress), name, f"python:{type(sets[0]).__module__}.{name}"


def _find_name(source: str, size: Size | None) -> Found:
    if source == "digits":
        return _read_digits(size)
    if source in KNOWN:
        from distilset.data.hub import find_known

        found, where = find_known(KNOWN[source])
        return found, source, where
    path = expanded(source)
    if source and _exists(path):
        return _find_path(path, size)
    match = _HUB_ID.fullmatch(source)
    if match and path.suffix not in (".npz", ".parquet"):
        from distilset.data.hub import find_hub

        return find_hub(match[1], match[2]), match[1], source
    if re.fullmatch(r"[\w-]+", source):
        raise ConfigError(
            f"{unknown_name('data set', source, ['digits', *KNOWN])}; or a path that exists, or a "
            "hub id owner/name"
        )
    raise DataError(
        f"there is no file or folder {source!r}; give a path that exists, a known name "
        "(digits, cifar10, ...) or a hub id owner/name"
    )


def _read_digits(size: Size | None) -> Found:
    import torch

    from distilset.data.arrays import resize
    from distilset.data.builtin import read_digits
    from distilset.data.parts import Part

    raw = read_digits()
    if size is not None:
        images = resize(torch.from_numpy(raw.train.images), size).numpy()
        raw = Raw(Part(images, raw.train.labels), None, raw.classes)
    return raw, "digits", "scikit-learn"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a folder that may not be looked into
        return False


def _resolved(path: Path) -> Path:
    """Return the absolute path, which is kept in runs and so has to be text."""
    try:
        where = path.resolve()
        str(where).encode()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long
        raise DataError(f"{str(path)[:200]!r} cannot be used as a path: {_why(error)}") from None
    return where


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it is not UTF-8"
    if isinstance(error, RuntimeError):
        return "its links lead back to themselves"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _find_path(path: Path, size: Size | None) -> Found:
    """Find a folder or a file; its name is the last piece of the path."""
    where = _resolved(path)
    if path.suffix.lower() == ".npz" and path.is_file():
        from distilset.data.arrays import read_npz

        return read_npz(path, size), where.stem, str(where)
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".parquet"):
        raise DataError(
            f"{path} {'is no kind of data set' if path.exists() else 'does not exist'}; give a "
            "folder of images, a folder of parquet files, or an .npz or .parquet file"
        )
    from distilset.data.hub import find_local

    return find_local(path), where.stem if path.is_file() else where.name, str(where)
