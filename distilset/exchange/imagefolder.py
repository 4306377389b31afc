"""Class folders of PNG files."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from distilset.errors import DataError
from distilset.exchange.datacard import write_card
from distilset.exchange.names import folder_names
from distilset.grid import to_bytes
from distilset.store import DistilledSet

LOAD = """\
import distilset as ds
splits = ds.load_data("{path}")        # every fifth image of a class becomes the test part
# or, with torchvision:
# torchvision.datasets.ImageFolder("{path}")
"""


def write_imagefolder(folder: Path, distilled: DistilledSet) -> None:
    """Write ``<class>/00000.png`` and so on, and a card; pixels are clamped and rounded to 8 bits.

    Raises:
        DataError: soft labels, or images of other than 1 or 3 channels.
    """
    check_drawable(distilled)
    if distilled.labels.is_floating_point():
        raise DataError(
            "a class folder gives each image one class, and this set has soft labels; export "
            "parquet, npz or pt"
        )
    write_pictures(folder, distilled, folder_names(distilled.classes))
    write_card(folder, distilled, LOAD)


def check_drawable(distilled: DistilledSet) -> None:
    """Refuse images that PNG has no plain form for.

    Raises:
        DataError: 2 or 4 channels.
    """
    if distilled.spec.channels not in (1, 3):
        raise DataError(
            f"PNG files show images of 1 or 3 channels; these have {distilled.spec.channels}: "
            "export npz or pt"
        )


def write_pictures(folder: Path, distilled: DistilledSet, names: Sequence[str]) -> None:
    """Write every image as PNG into the folder of its class, numbered inside it."""
    labels = distilled.hard_labels
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(to_bytes(distilled.pixels[labels == label].cpu())):
            (folder / name / f"{i:05}.png").write_bytes(png(image))


def png(image: UInt8[Tensor, "c h w"]) -> bytes:
    """Encode one image of 1 or 3 channels."""
    import io

    from PIL import Image

    array = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(array.contiguous().numpy()).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
