"""Training a network on a small set, and its accuracy on held-out images."""

from collections.abc import Callable, Iterable, Iterator
from math import nan

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from distilset.allocator import kept_memory
from distilset.augment import AugmentConfig, augment, draw_per_image
from distilset.data.normalise import Transform
from distilset.errors import DataError
from distilset.hardware import default_chunk, exact_float32, send
from distilset.rng import Rng
from distilset.training.protocols import Protocol
from distilset.training.step import (
    Labels,
    Step,
    TrainSettings,
    chunk_size,
)
from distilset.types import ImageSet, ImageSpec

Progress = Callable[[int, int], None]
"""Called with the updates done and their total."""

Before = Callable[[Tensor, Tensor], None]
"""Called with the rows of a batch and its images, in normalised space, not yet augmented."""

_REPORT_EVERY = 10
_TRANSFORM_ROWS = 1024


class Trainer:
    """Trains and scores one network module as often as wanted, compiling at most once per shape.

    Example:
        >>> import torch
        >>> from distilset.models import NetworkConfig, build_network, initialise
        >>> from distilset.types import ImageSpec
        >>> network = build_network(NetworkConfig(width=8), ImageSpec(1, 8, 8), classes=2)
        >>> initialise(network, Rng(0), "weights")
        >>> protocol = Protocol("short", epochs=2, batch=4, lr=0.01, schedule="cosine")
        >>> trainer = Trainer(network, TrainSettings())
        >>> trainer.train(torch.rand(6, 1, 8, 8), torch.arange(6) % 2, protocol, Rng(0))
    """

    def __init__(self, network: nn.Module, settings: TrainSettings | None = None) -> None:
        self.network = network
        self.settings = settings or TrainSettings()
        self.step = Step(network, self.settings)

    def train(
        self,
        images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"],
        labels: Labels,
        protocol: Protocol,
        rng: Rng,
        augmentation: AugmentConfig | None = None,
        progress: Progress | None = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
        before: Before | None = None,
    ) -> None:
        """Train the network in place, from the weights it has.

        ``images`` are in normalised space, or ``prepare`` brings every batch of them there;
        ``labels`` are class indices ``[n]`` or probabilities ``[n, classes]``. Whether to augment
        is the caller's choice, by ``augmentation``. Nothing is read back from the device in the
        loop: a training that diverges shows in `accuracy`. ``before`` is called ahead of every
        update.

        Raises:
            DataError: no images, or not one label for each.
        """
        check_labelled(images, labels)
        device, n = self.settings.device, len(images)
        images, labels = images.to(device), labels.to(device)
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimizer, draws = make_optimizer(weights, protocol), rng.torch("augment")
        chunk = self._chunk(n, protocol, ImageSpec(*images.shape[1:]))
        self.network.train()
        with exact_float32(device), kept_memory():
            for update, rows in enumerate(batches(n, protocol, rng)):
                index = send(rows, device)
                batch = images[index] if prepare is None else prepare(images[index])
                if before is not None:
                    before(index, batch)
                if augmentation is not None:
                    draw = draw_per_image(augmentation, draws, len(rows))
                    batch = augment(batch, draw, augmentation)
                self.step.gradients(batch, labels[index], chunk)
                if protocol.clip is not None:
                    clip_grad_norm_(weights, protocol.clip)
                optimizer.param_groups[0]["lr"] = protocol.lr_at(update, n)
                optimizer.step()
                report(progress, update + 1, protocol.total_updates(n))
        self.network.zero_grad(set_to_none=True)

    def _chunk(self, n: int, protocol: Protocol, spec: ImageSpec) -> int:
        """Choose the rows of one pass: on a GPU a whole batch.

        On a CPU up to twice those of distilling: what a pass costs whatever its size (gradients of
        the weights, small maps) is a larger part of it, more so in networks deeper than ConvNets.
        """
        whole, tail = divmod(n, protocol.batch)
        sizes = [protocol.batch] * min(whole, 8) + ([tail] if tail else [])
        most = min(2 * default_chunk(spec, self.settings.device), protocol.batch)
        return chunk_size(sizes, most)

    @torch.no_grad()
    def accuracy(
        self,
        images: UInt8[Tensor, "n c h w"],
        labels: Tensor,
        transform: Transform,
        chunk: int | None = None,
    ) -> float:
        """Return the fraction of images whose class has the largest score, in evaluation mode.

        NaN if any score is not a finite number: a network that diverged has no accuracy. ``chunk``
        is the number of images in one forward pass; None is twice that of `default_chunk`.
        """
        device = self.settings.device
        chunk = chunk or 2 * default_chunk(ImageSpec(*images.shape[1:]), device)
        self.network.eval()
        right = torch.zeros((), dtype=torch.int64, device=device)
        finite = torch.ones((), dtype=torch.bool, device=device)
        moved = transform.to(device)
        size = max(1, _TRANSFORM_ROWS // chunk) * chunk
        with exact_float32(device):
            for part, truth in zip(images.split(size), labels.split(size), strict=True):
                scores = self.step.scores(moved.apply(send(part, device)), chunk)
                right += (scores.argmax(1) == send(truth, device)).sum()
                finite &= scores.isfinite().all()
        return int(right) / len(images) if bool(finite) else nan


def check_labelled(images: Tensor, labels: Tensor) -> None:
    """Raise a DataError unless there are images, and one label for each."""
    if len(images) == 0 or len(labels) != len(images):
        got = f"{len(images)} images and labels of shape {tuple(labels.shape)}"
        raise DataError(f"training needs images and one label for each; got {got}")


def make_optimizer(weights: Iterable[Tensor], protocol: Protocol) -> torch.optim.SGD:
    """Return the optimiser of a protocol; its learning rate is set before every update."""
    return torch.optim.SGD(
        weights,
        lr=protocol.lr,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        fused=True,
    )


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell about every tenth update, and the last."""
    if progress is not None and (done % _REPORT_EVERY == 0 or done == total):
        progress(done, total)


def batches(n: int, protocol: Protocol, rng: Rng) -> Iterator[Int64[Tensor, " batch"]]:
    """Yield the rows of every update: an order of its own for every epoch, its tail kept."""
    per_epoch = protocol.updates_per_epoch(n)
    order = torch.arange(n)
    for update in range(protocol.total_updates(n)):
        epoch, position = divmod(update, per_epoch)
        if position == 0:
            order = torch.randperm(n, generator=rng.torch("shuffle", epoch))
        yield order[position * protocol.batch : (position + 1) * protocol.batch]


def train(
    network: nn.Module,
    images: Float[Tensor, "n c h w"],
    labels: Labels,
    protocol: Protocol,
    rng: Rng,
    augmentation: AugmentConfig | None = None,
    settings: TrainSettings | None = None,
) -> str:
    """Train ``network`` in place, once; see `Trainer.train`.

    Returns an empty string, or why it was not compiled although the settings asked for it.
    """
    trainer = Trainer(network, settings)
    trainer.train(images, labels, protocol, rng, augmentation)
    return trainer.step.note


def accuracy(
    network: nn.Module,
    images: ImageSet,
    transform: Transform,
    settings: TrainSettings | None = None,
) -> float:
    """Return the accuracy of ``network`` on a set, as a fraction; see `Trainer.accuracy`."""
    return Trainer(network, settings).accuracy(images.images, images.labels, transform)
