"""A vision transformer for small images (Dosovitskiy et al., ICLR 2021)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from distilset.errors import ConfigError
from distilset.models.layers import SMALLEST_MAP, Norm, Size
from distilset.types import Features, ImageSpec

_SPREAD = 0.02
"""Standard deviation of fresh class tokens and positions."""


def default_patch(spec: ImageSpec) -> int:
    """Return the side of a patch: 4 up to 64 pixels, 8 up to 128, then 16."""
    side = max(spec.height, spec.width)
    return 4 if side <= 64 else 8 if side <= 128 else 16


class Tokens(nn.Module):
    """Patches of an image as tokens, behind a class token, with learned positions.

    Images whose sides are no multiples of the patch are filled up with zeros (mean pixels).
    """

    def __init__(self, spec: ImageSpec, width: int, patch: int) -> None:
        super().__init__()
        self.fill = (0, -spec.width % patch, 0, -spec.height % patch)
        self.grid: Size = (-(-spec.height // patch), -(-spec.width // patch))
        self.conv = nn.Conv2d(spec.channels, width, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw class token and positions; the convolution draws its own weights."""
        nn.init.normal_(self.class_token, std=_SPREAD)
        nn.init.normal_(self.positions, std=_SPREAD)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens ``[n, 1 + positions, width]``."""
        tokens = self.conv(pad(images, self.fill)).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(images), -1, -1)
        return torch.cat([first, tokens], dim=1) + self.positions


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def extra_repr(self) -> str:
        """Name what the layers do not show."""
        return f"heads={self.heads}"

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens ``[n, tokens, width]``."""
        split = self.into(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(split[0], split[1], split[2])
        return self.out(mixed.transpose(1, 2).flatten(2))


def attend(
    queries: Float[Tensor, "n heads tokens d"],
    keys: Float[Tensor, "n heads tokens d"],
    values: Float[Tensor, "n heads tokens d"],
) -> Float[Tensor, "n heads tokens d"]:
    """Return the values mixed by scaled dot-product attention.

    Written out on a CPU, where the fused kernel's backward pass takes a third of a training step
    on the few tokens of a small image.
    """
    if queries.device.type != "cpu":
        return scaled_dot_product_attention(queries, keys, values)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    return scores.softmax(-1).to(values.dtype) @ values


class Block(nn.Module):
    """Attention, then two linear layers, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        wide = 4 * width
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens ``[n, tokens, width]``."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Tokens, blocks, a norm; the class token enters one linear classifier.

    The defaults are DeiT-Tiny's width and heads (Touvron et al., ICML 2021) at half its depth.
    ``patch`` None is by resolution (see `default_patch`), and never more than half the shorter
    side; ``heads`` None is one for every 64 of the width. The maps are the patches' tokens after
    every block, ``[n, width, H, W]``.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("layer",)

    def __init__(
        self,
        spec: ImageSpec,
        classes: int,
        *,
        width: int = 192,
        depth: int = 6,
        patch: int | None = None,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        heads = default_heads(width) if heads is None else heads
        if width % heads:
            raise ConfigError(
                f"the width of a vit must be a multiple of its heads; got {width} and {heads}"
            )
        most = max(1, min(spec.height, spec.width) // SMALLEST_MAP)
        self.tokens = Tokens(spec, width, min(patch or default_patch(spec), most))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def features(self, images: Float[Tensor, "n c h w"]) -> Features:
        """Return the token grid after every block, and the class token after the last norm."""
        maps = []
        x = self.tokens(images)
        for block in self.blocks:
            x = block(x)
            maps.append(x[:, 1:].transpose(1, 2).unflatten(2, self.tokens.grid))
        return Features(tuple(maps), self.norm(x)[:, 0])

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return class scores."""
        return self.classifier(self.features(images).last)


def default_heads(width: int) -> int:
    """Return the number of heads: one for every 64 of the width."""
    return max(1, width // 64)
