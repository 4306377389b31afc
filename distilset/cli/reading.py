"""Reading data for a command, with progress and a word on what could not be read."""

import sys
from pathlib import Path
from typing import Any


def find_own_code(*texts: str | None) -> None:
    """Let the user's own modules be found in the working folder, as with ``python -m``."""
    if any(":" in text for text in texts if text):
        sys.path.append(str(Path.cwd()))


def load(data: Any, console: Any) -> Any:
    """Load data as settings of `[data]` say; tell which files are left out."""
    from distilset.data import load_data
    from distilset.terminal import counter

    splits = load_data(
        data.source,
        resolution=data.resolution,
        val=data.val,
        split_seed=data.split_seed,
        like=data.like,
        mapped=data.map_or_rule,
        note=lambda text: console.print(f"note: {text}", markup=False),
        progress=counter(console, "reading images"),
    )
    if splits.info.skipped_count:
        names = ", ".join(splits.info.skipped)
        console.print(
            f"{splits.info.skipped_count} unreadable files are left out: {names}"
            + (" ..." if splits.info.skipped_count > len(splits.info.skipped) else ""),
            markup=False,
        )
    return splits
