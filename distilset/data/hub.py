"""Data sets of the Hugging Face hub, and local copies of the known ones."""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distilset.data.decode import Source
from distilset.data.folder import FolderSource, has_class_folders
from distilset.data.known import KNOWN, KnownDataset
from distilset.data.tables import TableSource, find_columns, find_parquet, open_parquet
from distilset.errors import DataError

LOCAL_COPIES = "DISTILSET_DATA"
"""Environment variable: a folder with local copies, one folder for each known name."""

_PATIENCE = 7.0  # seconds; with what follows, the one try stays below 10
_TEST_NAMES = ("test", "validation", "valid", "val")


def find_known(known: KnownDataset) -> tuple[Source, str]:
    """Find a known data set: its local copy if there is one, else on the hub.

    Returns the data, not yet read, and where they come from.

    Raises:
        DataError: neither can be had.
    """
    found = _local_copy(known)
    if found is None:
        return find_hub(known.hub_id, known.config, known), known.hub_id
    path, subset = found
    return find_local(path, known, subset), str(path)


def _local_copy(known: KnownDataset) -> tuple[Path, tuple[int, ...] | None] | None:
    """Find ``$DISTILSET_DATA/<name>``, or for a subset of ImageNet the folder of the whole."""
    root = os.environ.get(LOCAL_COPIES)
    if not root:
        return None
    own = Path(root).expanduser() / known.name
    if own.is_dir():
        return own, None
    parents = [k for k in KNOWN.values() if k.hub_id == known.hub_id and not k.class_subset]
    whole = Path(root).expanduser() / parents[0].name
    return (whole, known.class_subset) if whole.is_dir() and known.class_subset else None


def find_local(
    path: Path, known: KnownDataset | None = None, class_subset: tuple[int, ...] | None = None
) -> Source:
    """Find out what is in a folder of class folders or of parquet files.

    Raises:
        DataError: it is neither, or its tables are unfit.
    """
    if path.is_dir() and (has_class_folders(path) or not find_parquet(path)):
        return FolderSource(path, class_subset)
    columns = (known.image_column, known.label_column) if known else (None, None)
    config = known.config if known else None
    return open_parquet(path, config=config, columns=columns, class_subset=class_subset)


def find_hub(hub_id: str, config: str | None, known: KnownDataset | None = None) -> Source:
    """Download (or take from the library's cache) a data set of the hub.

    Raises:
        DataError: the hub cannot be reached, does not have it, or its columns are unfit.
    """
    import pyarrow.dataset as pads

    reachable = _reachable()
    try:
        with _mode(offline=not reachable):
            parts = _download(hub_id, config, known)
    except DataError:
        raise
    except Exception as error:  # the library raises its own, requests' and Arrow's errors
        if not reachable:
            raise DataError(_unreachable(hub_id, known)) from None
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{hub_id!r} could not be read from the hub ({type(error).__name__}: {reason}); "
            f"{_advice(known)}"
        ) from None
    tables = [pads.dataset(part.data.table) for part in parts]
    files = tuple(Path(file["filename"]) for part in parts for file in part.cache_files)
    named = (known.image_column, known.label_column) if known else (None, None)
    columns = find_columns(tables[0].schema, *named)
    test = tables[1] if len(tables) > 1 else None
    subset = known.class_subset if known else None
    made = " ".join(str(part._fingerprint) for part in parts)
    return TableSource(tables[0], test, columns, files, subset, hub_id, made)


def _download(hub_id: str, config: str | None, known: KnownDataset | None) -> list[Any]:
    """Return the library's data sets of train and, if there is one, test."""
    from datasets import load_dataset

    load: Any = load_dataset  # its declared return type is a union of four
    if known is not None:
        splits = [known.train_split, known.test_split]
        return list(load(hub_id, config, split=splits))
    found = load(hub_id, config)
    if "train" not in found:
        raise DataError(f"{hub_id!r} has no split train; its splits are {', '.join(found)}")
    test = next((name for name in _TEST_NAMES if name in found), None)
    return [found[name] for name in ("train", test) if name is not None]


def _reachable() -> bool:
    """Try the hub once. In a thread, for looking up a name cannot be given a time limit."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return False
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(_probe()), daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return bool(answers and answers[0])


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def _probe() -> bool:
    request = urllib.request.Request(_endpoint(), method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _mode(offline: bool) -> Iterator[None]:
    """Keep the library from retrying when there is no network; its cache is still looked into."""
    from datasets import config
    from huggingface_hub import constants

    before = (config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    if offline:
        config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _unreachable(hub_id: str, known: KnownDataset | None) -> str:
    here = "" if known else f", and there is no folder {hub_id} here"
    return f"{_endpoint()} could not be reached to read {hub_id!r}{here}; {_advice(known)}"


def _advice(known: KnownDataset | None) -> str:
    """Say how to use a local copy."""
    if known is None:
        return "give a local folder of class folders or of parquet files instead"
    return (
        f"put a copy (train/<class>/*.png and test/<class>/*.png, or the hub's parquet files) into "
        f"a folder named {known.name} and set {LOCAL_COPIES} to the folder that holds it, or give "
        f"the copy's path as the data"
    )
