"""A picture of a distilled set: one row for each class."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from distilset.files import write_atomically

MOST_IMAGES, MOST_CLASSES, TARGET_WIDTH = 10, 20, 640


def to_bytes(pixels: Float[Tensor, "n c h w"]) -> UInt8[Tensor, "n c h w"]:
    """Clamp pixels to [0, 1] and round them to 8 bits."""
    return pixels.clamp(0, 1).mul(255).round().to(torch.uint8)


def draw_grid(
    pixels: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], classes: int
) -> np.ndarray:
    """Lay out up to 10 images of the first 20 classes: uint8 ``[H, W]`` or ``[H, W, 3]``."""
    rows = [to_bytes(pixels[labels == c][:MOST_IMAGES]) for c in range(min(classes, MOST_CLASSES))]
    columns = max(len(row) for row in rows)
    channels, height, width = pixels.shape[1:]
    gap = max(1, height // 16)
    canvas = torch.full(
        (channels, gap + len(rows) * (height + gap), gap + columns * (width + gap)), 255
    ).to(torch.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = gap + r * (height + gap), gap + c * (width + gap)
            canvas[:, top : top + height, left : left + width] = image
    return (canvas[0] if channels in (1, 2) else canvas[:3].permute(1, 2, 0)).numpy()


def save_grid(
    path: Path, pixels: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"], classes: int
) -> None:
    """Draw the grid into a PNG file; small images are enlarged, unsmoothed."""
    from PIL import Image

    picture = Image.fromarray(draw_grid(pixels, labels, classes))
    factor = max(1, round(TARGET_WIDTH / picture.width))
    picture = picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
    buffer = BytesIO()  # Pillow's own writing would hide why a disk refuses
    picture.save(buffer, format="PNG")

    def write(partial: Path) -> None:
        partial.write_bytes(buffer.getvalue())

    write_atomically(path, write)
