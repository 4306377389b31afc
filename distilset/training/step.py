"""The hot part of evaluation: gradients of one batch, and class scores, at the machine's speed.

Training takes thousands of steps on 10 to 256 images. On a CPU the norms, activations and pooling
are memory-bound, so a batch goes through in chunks that stay in cache, compiled so that they fuse,
with convolutions in bfloat16; weights, their gradients, norms' statistics, the loss and the
optimiser are float32. Compiled code has static shapes: one chunk size serves every batch, and rows
that fill the last chunk up have weight 0. A network with BatchNorm couples the images of a batch:
its batches go through whole and unpadded. On a GPU compiled code is CUDA graphs, whose outputs last
until the next call.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distilset.compilation import compile_options, mark_step, own_code, uses_graphs
from distilset.errors import ConfigError
from distilset.models import has_batch_norm
from distilset.types import ImageSpec

Precision = Literal["fp32", "bf16"]
Labels = Int64[Tensor, " labels"] | Float[Tensor, "labels classes"]
"""An axis of its own: labels that do not fit the images are a DataError, not a type error."""

COMPILE_FROM = 10_000
"""Image passes of 32x32 pixels from which compiling (10 to 30 s, first time) pays for itself."""


@dataclass(frozen=True)
class TrainSettings:
    """How to compute; every field decides bits.

    Attributes:
        device: where to train and score.
        precision: ``bf16`` runs convolutions and matrix products in bfloat16.
        compile: whether compilation is allowed; `settle` decides by the amount of work.
        together: how many networks are trained at once, at most; None decides by rule.

    Raises:
        ConfigError: ``together`` below 1.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    compile: bool = False
    together: int | None = None

    def __post_init__(self) -> None:
        if self.together is not None and self.together < 1:
            raise ConfigError(f"together must be 1 or more; got {self.together}")


def settle(settings: TrainSettings, passes: int, spec: ImageSpec) -> tuple[TrainSettings, str]:
    """Decide how ``passes`` image passes of training are computed, and say why.

    By the amount of work, never by timing. Eager bfloat16 is slower than eager float32 on a CPU
    (33 against 23 ms for a step on 10 images), so short work is done in float32 there.
    """
    if settings.compile and passes * spec.height * spec.width < COMPILE_FROM * 1024:
        return eager(settings), "too short to compile"
    return settings, "as set"


def eager(settings: TrainSettings) -> TrainSettings:
    """Return the settings that are best without compilation: float32 on a CPU."""
    precision = "fp32" if torch.device(settings.device).type == "cpu" else settings.precision
    return replace(settings, compile=False, precision=precision)


def chunk_size(batches: Sequence[int], most: int) -> int:
    """Return the chunk size up to ``most`` that wastes least on batches of these sizes.

    The cost counted is the rows computed, filling included, and 4 rows' worth for every pass; of
    equal costs the larger size wins.

    Example:
        >>> chunk_size([100], 32), chunk_size([10], 32), chunk_size([64, 36], 32)
        (25, 10, 22)
    """

    def cost(size: int) -> tuple[int, int]:
        passes = sum(-(-batch // size) for batch in batches)
        return passes * (size + 4), -size

    return min(range(1, most + 1), key=cost)


class Step:
    """Gradients and scores of one network module, computed as ``settings`` say.

    ``note`` is empty, or says why something that was to be compiled is not. The module is drawn
    anew in place between trainings; compiled code stays good.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings) -> None:
        self.network = network.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.settings = settings
        self.note = ""
        self.coupled = has_batch_norm(network)
        self._loss: Callable[[Tensor, Tensor, Tensor], Tensor] = self._compiled(self._make_loss())
        self._scores: Callable[[Tensor], Tensor] = self._compiled(self._make_scores())

    @property
    def compiled(self) -> bool:
        """Whether code is (to be) compiled."""
        return self.settings.compile

    @property
    def graphs(self) -> bool:
        """Whether compiled code is CUDA graphs."""
        return self.compiled and uses_graphs(self.settings.device)

    def _compiled(self, function: FunctionType) -> Callable[..., Tensor]:
        if not self.compiled:
            return function
        options = compile_options(self.settings.device)
        return torch.compile(own_code(function), fullgraph=True, **options)

    def _forward(self) -> Callable[[Tensor], Tensor]:
        network, device = self.network, torch.device(self.settings.device).type
        reduced = self.settings.precision == "bf16"

        def forward(images: Tensor) -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=reduced):
                return network(images).float()

        return forward

    def _make_loss(self) -> FunctionType:
        forward = self._forward()

        def weighted_loss(images: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
            return cross_entropy(forward(images), labels, reduction="none") @ weights

        return weighted_loss  # type: ignore[return-value]

    def _make_scores(self) -> FunctionType:
        forward = self._forward()

        def scores(images: Tensor) -> Tensor:
            return forward(images)

        return scores  # type: ignore[return-value]

    def gradients(
        self, images: Float[Tensor, "n c h w"], labels: Labels, chunk: int
    ) -> Float[Tensor, ""]:
        """Set the gradients of the mean cross-entropy of a batch and return its value.

        The network is to be in training mode. ``chunk`` is not used where images are coupled, nor
        in eager code, where it does not pay.
        """
        try:
            return self._accumulate(images, labels, chunk)
        except Exception as error:
            if not self.compiled:
                raise
            self._give_up(error)
            return self._accumulate(images, labels, chunk)

    def _accumulate(self, images: Tensor, labels: Tensor, chunk: int) -> Tensor:
        mark_step()
        self._clear_gradients()
        if self.coupled or not self.compiled:
            chunk = len(images)
        total = images.new_zeros(())
        for piece in pieces((images, labels), chunk):
            loss = self._loss(*piece)
            loss.backward()
            total += loss.detach()
        return total

    def _clear_gradients(self) -> None:
        """Make the gradients zero, or none at all.

        With CUDA graphs they are kept and zeroed: backward would else hand over the graph's own
        output as a weight's gradient, which the next chunk's pass overwrites.
        """
        if not self.graphs:
            self.network.zero_grad(set_to_none=True)
            return
        trained = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
        torch._foreach_zero_([p.grad for p in trained])  # type: ignore[attr-defined]

    @torch.no_grad()
    def scores(self, images: Float[Tensor, "n c h w"], chunk: int) -> Float[Tensor, "n classes"]:
        """Return class scores, float32; the network is to be in evaluation mode."""
        try:
            return self._score(images, chunk)
        except Exception as error:
            if not self.compiled:
                raise
            self._give_up(error)
            return self._score(images, chunk)

    def _score(self, images: Tensor, chunk: int) -> Tensor:
        n = len(images)
        if self.compiled and n % chunk:
            images = torch.cat([images, images.new_zeros(-n % chunk, *images.shape[1:])])
        images = images.contiguous(memory_format=torch.channels_last)
        scores = (self._scores(piece) for piece in images.split(chunk))
        return torch.cat([part.clone() if self.graphs else part for part in scores])[:n]

    def _give_up(self, error: Exception) -> None:
        """Go on in eager mode; if the error was not the compiler's, it will come again there."""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self.note = f"not compiled: {type(error).__name__}: {lines[0][:200]}"
        self.settings = eager(self.settings)
        self._loss, self._scores = self._make_loss(), self._make_scores()


def pieces(tensors: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield ``size`` rows of images, of what goes with them, and their shares in the batch's mean.

    ``tensors`` are images and whatever has a row for each. Rows that fill the last piece up have a
    share of 0. Images come channels last.
    """
    images, *others = tensors
    n = len(images)
    shares = images.new_full((n,), 1 / n)
    if n % size:
        images, *others, shares = fill((images, *others), shares, -n % size)
    images = images.contiguous(memory_format=torch.channels_last)
    yield from zip(*(each.split(size) for each in (images, *others, shares)), strict=True)


def piece_size(n: int, most: int | None) -> int:
    """Return the rows of a piece of a batch of ``n``, at most ``most``; None is all of them."""
    return n if most is None else chunk_size([n], min(n, most))


def fill(tensors: tuple[Tensor, ...], weights: Tensor, missing: int) -> tuple[Tensor, ...]:
    """Append ``missing`` rows of weight 0, copies of the first ones so that all stays finite."""
    n = len(weights)
    index = torch.arange(n + missing, device=weights.device) % n
    filled = (tensor.index_select(0, index) for tensor in tensors)
    return (*filled, torch.cat([weights, weights.new_zeros(missing)]))
