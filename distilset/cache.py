"""Where things are kept that several runs share: whitening transforms, whole-data accuracies."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Return (and make) the cache folder of one kind of thing.

    It lies in the user's cache directory, or in the folder that ``DISTILSET_CACHE`` names.
    """
    from platformdirs import user_cache_path

    base = os.environ.get("DISTILSET_CACHE")
    folder = (Path(base) if base else user_cache_path("distilset", appauthor=False)) / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
