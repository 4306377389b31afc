"""Differentiable siamese augmentation (DSA; Zhao and Bilen, ICML 2021).

One operation of a short list is applied to an image. While distilling, one operation is drawn per
class and step, and one set of parameters serves all real and synthetic images of that class
(`draw_per_class`); while training on the result, one operation is drawn per batch and every image
has parameters of its own (`draw_per_image`). A draw is a small table of numbers on the CPU;
`augment` applies it, differentiably, on the device of the images.

Each operation is a pure function of images and of uniform numbers in [0, 1), a row per image.
Images are in normalised space: the zeros that `crop`, `cutout`, `scale` and `rotate` fill in are
the mean pixel. The formulas are those of the authors' code (``VICO-UoE/DatasetCondensation``), with
one extension: `rotate` turns non-square images, too, by a true angle.

On CUDA the backward of the bilinear sampling in `scale` and `rotate` adds atomically, hence in an
order that varies from run to run; everything else here is deterministic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Annotated

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import BeforeValidator, ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass as validated
from torch import Tensor
from torch.nn.functional import grid_sample

from distilset.errors import unknown_name
from distilset.hardware import send
from distilset.rng import Rng

Images = Float[Tensor, "n channels height width"]
Uniforms = Float[Tensor, "n k"]

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _list_to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # TOML has no tuples


@validated(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class AugmentConfig:
    """Which operations may be drawn, each equally often, and how strong they are.

    ``operations`` are names of `OPERATIONS`, without repetition; empty means no augmentation. The
    strengths are the published ones (DataDAM's hyper-parameter table). ``crop`` and ``cutout`` are
    fractions of the image's side, ``flip`` a probability, ``scale`` the largest factor and its
    inverse the smallest, ``rotate`` an angle in degrees.

    Raises:
        pydantic.ValidationError: (a ``ValueError``) with a sentence for every bad field.

    """

    operations: Annotated[tuple[str, ...], BeforeValidator(_list_to_tuple)] = (
        "color",
        "crop",
        "cutout",
        "flip",
        "scale",
        "rotate",
    )
    brightness: Strength = 1.0
    saturation: Strength = 2.0
    contrast: Strength = 0.5
    crop: Fraction = 0.125
    cutout: Fraction = 0.5
    flip: Fraction = 0.5
    scale: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.2
    rotate: Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)] = 15.0

    @field_validator("operations")
    @classmethod
    def _check_operations(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in OPERATIONS:
                raise ValueError(str(unknown_name("augmentation operation", name, OPERATIONS)))
            if names.count(name) > 1:
                raise ValueError(f"augmentation operation {name!r} is listed more than once")
        return names

    def without_flip(self) -> "AugmentConfig":
        """Return the same without ``flip``, for images that have no mirror image (digits)."""
        return replace(self, operations=tuple(name for name in self.operations if name != "flip"))


@dataclass(frozen=True)
class Draw:
    """Operations and their random numbers, a row per class or per image; kept on the CPU.

    ``operation`` indexes ``AugmentConfig.operations``; ``uniforms`` are in [0, 1), of which each
    operation uses as many leading ones as it needs.
    """

    operation: Int64[Tensor, " m"]
    uniforms: Float32[Tensor, "m k"]

    def rows(self, index: Int64[Tensor, " n"]) -> "Draw":
        """Return the rows at ``index``: a class draw becomes one for images by their labels.

        ``index`` counts the rows of the draw, that is, positions in the list of classes drawn.
        """
        return Draw(self.operation[index], self.uniforms[index])


def draw_per_class(config: AugmentConfig, rng: Rng, step: int, classes: Sequence[int]) -> Draw:
    """Draw one operation and one set of parameters for each of ``classes``.

    A class's row depends on the seed, the step and the class, not on what else is asked for.
    """
    drawn = torch.from_numpy(rng.uniform("augment", step, classes, 1 + UNIFORMS))
    operation = (drawn[:, 0] * len(config.operations)).long()
    # 24 bits of the 32: float32 would round the largest up to 1
    return Draw(operation, ((drawn[:, 1:] * 2**24).floor() / 2**24).float())


def draw_per_image(config: AugmentConfig, generator: torch.Generator, n: int) -> Draw:
    """Draw one operation for a batch of ``n`` images, and parameters for every image."""
    operation = torch.randint(max(1, len(config.operations)), (1,), generator=generator)
    return Draw(operation.expand(n), torch.rand(n, UNIFORMS, generator=generator))


def augment(images: Images, draw: Draw, config: AugmentConfig) -> Images:
    """Apply to every image the operation and the parameters in its row of ``draw``.

    Differentiable in the images; dtype and memory format are kept (the arithmetic of bfloat16 and
    float16 images is done in float32). With no operations the images are returned as they are.

    Raises:
        ValueError: if the draw has not one row per image.

    """
    if len(draw.operation) != len(images):
        raise ValueError(f"{len(images)} images need as many draws; got {len(draw.operation)}")
    if not config.operations or not len(images):
        return images
    channels_last = not images.is_contiguous() and images.is_contiguous(
        memory_format=torch.channels_last
    )
    precision = torch.promote_types(images.dtype, torch.float32)
    # contiguous: sampling a channels_last image takes twice the time, this copy a tenth of it
    result = _augment_mixed(images.contiguous(), draw, draw.uniforms.to(precision), config)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return result.contiguous(memory_format=layout)


def _augment_mixed(images: Tensor, draw: Draw, uniforms: Tensor, config: AugmentConfig) -> Tensor:
    """Bring images of one operation together, apply each operation once, and put them back."""
    counts = torch.bincount(draw.operation, minlength=len(config.operations)).tolist()
    present = [OPERATIONS[config.operations[i]] for i, count in enumerate(counts) if count]
    if len(present) == 1:
        return present[0](images, send(uniforms, images.device), config)
    order = torch.argsort(draw.operation, stable=True)
    back = send(torch.argsort(order), images.device)
    counts = [count for count in counts if count]
    groups = images.index_select(0, send(order, images.device)).split(counts)
    rows = send(uniforms[order], images.device).split(counts)
    done = [apply(x, u, config) for apply, x, u in zip(present, groups, rows, strict=True)]
    return torch.cat(done).index_select(0, back)


def color(images: Images, u: Uniforms, config: AugmentConfig) -> Images:
    """Change brightness, saturation and contrast, in that order.

    ``x + (u0 - 0.5) brightness``; ``(x - m) saturation u1 + m`` with m the mean over channels at
    each pixel; ``(x - m)(u2 + contrast) + m`` with m the image's mean. The three are affine, so one
    pass over the image computes them: with gray the mean over channels and mean the image's mean,
    ``c s x + c (1 - s) gray + b + (1 - c) mean``.
    """
    x = images.to(u.dtype)
    b, s, c = (value[:, None, None, None] for value in u[:, :3].unbind(1))
    b, s, c = (b - 0.5) * config.brightness, s * config.saturation, c + config.contrast
    gray = x.mean(1, keepdim=True)
    mean = gray.mean((2, 3), keepdim=True)
    return torch.addcmul(c * (1 - s) * gray + (b + (1 - c) * mean), x, c * s).to(images.dtype)


def crop(images: Images, u: Uniforms, config: AugmentConfig) -> Images:
    """Shift by whole pixels, uniform within +-int(crop side + 0.5) on either axis, zero fill.

    ``u0`` shifts rows, ``u1`` columns.
    """
    height, width = images.shape[2:]
    row, row_inside = _shifted(u[:, 0], height, config.crop)
    column, column_inside = _shifted(u[:, 1], width, config.crop)
    source = row[:, :, None] * width + column[:, None, :]
    source = source.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    moved = images.flatten(2).gather(2, source).view_as(images)
    return moved * _rectangle(row_inside, column_inside, images)


def _shifted(u: Tensor, side: int, fraction: float) -> tuple[Tensor, Tensor]:
    """Where each position of a shifted axis comes from, and whether that lies in the image."""
    most = int(fraction * side + 0.5)
    position = torch.arange(side, device=u.device) + (_integer(u, 2 * most + 1) - most)[:, None]
    return position.clamp(0, side - 1), (position >= 0) & (position < side)


def cutout(images: Images, u: Uniforms, config: AugmentConfig) -> Images:
    """Put a rectangle of int(cutout side + 0.5) pixels to zero, its centre uniform over the image.

    The rectangle of side k starts k // 2 before its centre and is clipped at the border; centres
    are 0 .. side - 1, and also ``side`` where k is even, which makes the two borders alike. ``u0``
    draws the row, ``u1`` the column.
    """
    height, width = images.shape[2:]
    rows = _covered(u[:, 0], height, config.cutout)
    columns = _covered(u[:, 1], width, config.cutout)
    return images * (1 - _rectangle(rows, columns, images))


def _covered(u: Tensor, side: int, fraction: float) -> Tensor:
    """Which positions of an axis the cut-out covers: ``[n, side]``."""
    size = int(fraction * side + 0.5)
    start = _integer(u, side + 1 - size % 2)[:, None] - size // 2
    position = torch.arange(side, device=u.device)
    return (position >= start) & (position < start + size)


def flip(images: Images, u: Uniforms, config: AugmentConfig) -> Images:
    """Mirror left and right where ``u0 < flip``."""
    column = torch.arange(images.shape[3], device=u.device)
    source = torch.where((u[:, 0] < config.flip)[:, None], column.flip(0), column)
    return images.gather(3, source[:, None, None].expand_as(images))


def scale(images: Images, u: Uniforms, config: AugmentConfig) -> Images:
    """Sample on a grid scaled about the centre by factors uniform in [1 / scale, scale].

    ``u0`` draws the factor along the width, ``u1`` along the height; a factor above 1 shrinks the
    image. Bilinear, zero fill.
    """
    low = 1 / config.scale
    factor = u[:, :2] * (config.scale - low) + low
    return _sample(images, torch.diag_embed(factor))


def rotate(images: Images, u: Uniforms, config: AugmentConfig) -> Images:
    """Rotate about the centre by an angle uniform within +-rotate degrees, bilinear, zero fill."""
    height, width = images.shape[2:]
    angle = (u[:, 0] - 0.5) * (2 * config.rotate * pi / 180)
    cos, sin = angle.cos(), angle.sin()
    # the grid's unit is half a side, so an angle in pixels needs the ratio of the sides
    matrix = torch.stack([cos, -sin * (height / width), sin * (width / height), cos], 1)
    return _sample(images, matrix.view(-1, 2, 2))


def _sample(images: Tensor, matrix: Tensor) -> Tensor:
    """Sample bilinearly at ``matrix @ (x, y)``; x and y run over pixel centres in (-1, 1).

    What ``affine_grid(align_corners=False)`` computes, as one matrix product: 1 ms against 9 for
    1280 grids of 32x32 on 2 cores.
    """
    n, _, height, width = images.shape
    x = (torch.arange(width, device=matrix.device, dtype=matrix.dtype) * 2 + 1) / width - 1
    y = (torch.arange(height, device=matrix.device, dtype=matrix.dtype) * 2 + 1) / height - 1
    points = torch.stack([x.repeat(height), y.repeat_interleave(width)])
    grid = (matrix.reshape(2 * n, 2) @ points).view(n, 2, height, width).permute(0, 2, 3, 1)
    sampled = grid_sample(images.to(matrix.dtype), grid, align_corners=False)
    return sampled.to(images.dtype)


def _rectangle(rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """Ones where row and column are true, else zeros, for all channels (faster than booleans)."""
    return rows.to(like.dtype)[:, None, :, None] * columns.to(like.dtype)[:, None, None, :]


def _integer(u: Tensor, n: int) -> Tensor:
    """Turn uniforms of at most 24 bits into integers 0 .. n - 1 (the product never rounds to n)."""
    return (u * n).long()


Operation = Callable[[Tensor, Tensor, AugmentConfig], Tensor]

OPERATIONS: dict[str, Operation] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
UNIFORMS = 3  # the most that an operation needs
