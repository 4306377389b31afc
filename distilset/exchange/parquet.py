"""Parquet files as dataset hubs lay them out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distilset.errors import DataError
from distilset.exchange.datacard import write_card
from distilset.exchange.imagefolder import check_drawable, png
from distilset.grid import to_bytes
from distilset.store import DistilledSet

FILE = "data/train-00000-of-00001.parquet"
SOFT = "soft_label"
LOAD = """\
import distilset as ds
splits = ds.load_data("{path}")        # every fifth image of a class becomes the test part
# or, with the library datasets, here or after uploading the folder to a hub:
# datasets.load_dataset("{path}", split="train")
"""


def write_parquet(folder: Path, distilled: DistilledSet) -> None:
    """Write one file with the columns ``img`` (PNG bytes) and ``label``, and a data card.

    Soft labels are a third column, ``soft_label``; ``label`` is then the most probable class.

    Raises:
        DataError: images of other than 1 or 3 channels.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_drawable(distilled)
    labels = distilled.hard_labels.tolist()
    images = [
        {"bytes": png(image), "path": f"{i:05}.png"}
        for i, image in enumerate(to_bytes(distilled.pixels.cpu()))
    ]
    columns: dict[str, Any] = {"img": images, "label": labels}
    if distilled.labels.is_floating_point():
        columns[SOFT] = distilled.labels.tolist()
    table = pa.Table.from_pydict(columns, schema=_schema(distilled))
    (folder / FILE).parent.mkdir(parents=True)
    pq.write_table(table, folder / FILE)
    write_card(folder, distilled, LOAD, parquet=True)


def _schema(distilled: DistilledSet) -> Any:
    from datasets import ClassLabel, Features, Image, Sequence, Value

    features: dict[str, Any] = {
        "img": Image(),
        "label": ClassLabel(names=list(distilled.classes)),
    }
    if distilled.labels.is_floating_point():
        features[SOFT] = Sequence(Value("float32"), length=len(distilled.classes))
    return Features(features).arrow_schema


def read_soft_labels(path: Path) -> Float[Tensor, "n classes"] | None:
    """Read the soft labels of an export of ours, if it has some.

    Raises:
        DataError: rows of different lengths, or of anything but numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / FILE if path.is_dir() else path
    try:
        if not file.is_file() or SOFT not in pq.read_schema(file).names:
            return None
        rows = pq.read_table(file, columns=[SOFT]).column(SOFT).to_pylist()
        return torch.from_numpy(np.asarray(rows, dtype=np.float32))
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{file} has soft labels that cannot be read: {error}") from None
