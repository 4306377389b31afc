"""Class means of per-image statistics: the computation in which distilling spends its time.

Images go through the network in chunks that stay in cache, each chunk's statistics are reduced at
once to weighted sums per class in float32, so that memory grows neither with the real batch nor
with the number of classes. Chunks are cut by the data's classes alone, never by what else a process
holds, so that a process which owns whole pieces computes the same bits as one that owns all.

A network with BatchNorm couples the images of a batch; its batch goes through in one chunk.

Of several processes each computes the pieces with classes of its own (`Share`). On a CPU a piece
that two processes share is computed by both in full, with a stand-in for the other's images: the
shape of a pass decides its bits. On a GPU, and with BatchNorm, each takes its own rows alone, and
BatchNorm's statistics are added up over processes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from types import FunctionType
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from distilset.compilation import Compiled
from distilset.hardware import send
from distilset.losses.statistics import Statistic
from distilset.models import couples_images
from distilset.models.whole import whole_batch
from distilset.share import Share
from distilset.types import Features

Precision = Literal["fp32", "bf16"]
Means = tuple[Float[Tensor, "classes _"], ...]


@dataclass(frozen=True)
class EngineSettings:
    """How to compute; every field decides bits and is written into the run.

    ``chunk`` is the largest number of images in one forward pass of a network without BatchNorm.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    chunk: int = 32
    compile: bool = False


@dataclass(frozen=True)
class Piece:
    """One forward pass: rows of the batch, the classes they belong to, and each row's weight.

    ``size`` is the largest number of rows of a piece of the same batch: a compiled network sees
    batches of this one size, filled up with images of weight 0.
    """

    rows: slice
    classes: slice
    weights: Float[Tensor, "classes rows"]
    size: int

    @cached_property
    def class_of_row(self) -> Int64[Tensor, " rows"]:
        """The class index of every row."""
        return self.weights.argmax(dim=0) + self.classes.start


def cut(counts: Sequence[int], chunk: int | None) -> list[Piece]:
    """Cut a batch, sorted by class with ``counts`` images each, into pieces.

    Small classes share a piece, as many as fit by the largest count; a class larger than ``chunk``
    is cut into pieces of nearly equal size. None means one piece. The weights of a class add up to
    1 over its pieces.
    """
    fits = len(counts) if chunk is None else max(1, chunk // max(counts))
    together = -(-len(counts) // -(-len(counts) // fits))  # as many groups, nearly equal
    return _cut_at([*range(0, len(counts), together), len(counts)], counts, chunk)


def cut_evenly(ipc: int, classes: int, chunk: int) -> list[Piece]:
    """Cut synthetic images, ``ipc`` of each class, into groups of whole classes.

    As many groups as `cut` makes, but spread so that the classes can be halved between groups.
    """
    number = -(-classes // max(1, chunk // ipc))
    edges = [i * classes // number for i in range(number + 1)]
    return _cut_at(edges, [ipc] * classes, max(chunk, ipc))


def _cut_at(edges: Sequence[int], counts: Sequence[int], chunk: int | None) -> list[Piece]:
    """Cut between classes at ``edges``, and what is larger than ``chunk`` in itself."""
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    spans = []
    for first, last in pairwise(edges):
        begin, end = starts[first], starts[last]
        number = 1 if chunk is None else -(-(end - begin) // chunk)
        size = -(-(end - begin) // number)
        spans += [
            (slice(row, min(row + size, end)), slice(first, last))
            for row in range(begin, end, size)
        ]
    largest = max(rows.stop - rows.start for rows, _ in spans)
    return [
        Piece(rows, classes, _weights(starts, classes.start, classes.stop, rows), largest)
        for rows, classes in spans
    ]


def _weights(starts: Sequence[int], first: int, last: int, rows: slice) -> Tensor:
    weights = torch.zeros(last - first, rows.stop - rows.start)
    for c in range(first, last):
        begin, end = max(starts[c], rows.start), min(starts[c + 1], rows.stop)
        if begin < end:
            weights[c - first, begin - rows.start : end - rows.start] = 1 / (
                starts[c + 1] - starts[c]
            )
    return weights


def per_image(
    network: nn.Module, statistics: Sequence[Statistic], settings: EngineSettings
) -> FunctionType:
    """Return the function from images to every statistic of every image: what gets compiled."""
    device, reduced = torch.device(settings.device).type, settings.precision == "bf16"
    scored = any(statistic.kind == "scores" for statistic in statistics)
    tables = tuple(statistic.table() for statistic in statistics)
    tables = tuple(None if table is None else table.to(settings.device) for table in tables)

    def compute(images: Tensor) -> tuple[Tensor, ...]:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=reduced):
            features = network.features(images)  # type: ignore[operator]
            scores = network.classifier(features.last) if scored else None  # type: ignore[operator]
        return tuple(
            _values(statistic, features, scores, table)
            for statistic, table in zip(statistics, tables, strict=True)
        )

    return compute  # type: ignore[return-value]


def _values(
    statistic: Statistic, features: Features, scores: Tensor | None, table: Tensor | None
) -> Tensor:
    """Compute a statistic; those of one's own take features alone."""
    if table is not None:
        return statistic(features, table=table)
    return statistic(features) if statistic.matched else statistic(features, scores)


class Engine:
    """Per-image statistics of one network module, computed as the settings say.

    The module is drawn anew in place for every target; the engine holds no state of a step. With a
    ``share`` pieces are those of this process.
    """

    def __init__(
        self,
        network: nn.Module,
        statistics: Sequence[Statistic],
        settings: EngineSettings,
        share: Share | None = None,
    ) -> None:
        self.network = network
        self.statistics = tuple(statistics)
        self.matched = tuple(one for one in statistics if one.matched)
        self.settings = settings
        self.share = share
        self.coupled = couples_images(network)
        self.apart = share is not None and takes_own_rows(self.coupled, settings.device)
        self.forward = Compiled(
            per_image(network, self.statistics, settings),
            # statistics that are added up over processes stand between the layers
            wanted=settings.compile and not (self.coupled and share is not None),
            device=settings.device,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was made of: compiled code belongs to its process."""
        return type(self), (self.network, self.statistics, self.settings)

    def cut(self, counts: Sequence[int]) -> list[Piece]:
        """Cut a batch as this network allows."""
        chunk = None if self.coupled else self.settings.chunk
        return self._owned(counts, lambda some: cut(some, chunk))

    def groups(self, ipc: int, classes: int) -> list[Piece]:
        """Cut the synthetic images into groups of whole classes: each is one part of the loss."""
        chunk = classes * ipc if self.coupled else max(ipc, self.settings.chunk)
        return self._owned([ipc] * classes, lambda some: cut_evenly(ipc, len(some), chunk))

    def _owned(
        self, counts: Sequence[int], make: Callable[[Sequence[int]], list[Piece]]
    ) -> list[Piece]:
        """Return the pieces with classes of this process."""
        if self.share is None:
            return make(counts)
        if not self.apart:
            return [piece for piece in make(counts) if self.share.touches(piece.classes)]
        first, last = self.share.first, self.share.last
        before = sum(counts[:first])
        return [
            replace(piece, rows=_moved(piece.rows, before), classes=_moved(piece.classes, first))
            for piece in make(counts[first:last])
        ]

    def per_image(
        self, images: Float[Tensor, "n c h w"], size: int = 0
    ) -> tuple[Float[Tensor, "n _"], ...]:
        """Return every statistic of every image, float32.

        A compiled network is given at least ``size`` images: blank ones are added, and their
        statistics dropped. Where images are coupled, none may be added. On a GPU the values are
        overwritten by the next call: use them up, as `means` does, or copy them.
        """
        n = len(images)
        if self.settings.compile and n < size and not self.coupled:
            blank = images.new_zeros(size - n, *images.shape[1:])
            return tuple(values[:n] for values in self.forward(torch.cat([images, blank])))
        with self._whole_batch():
            return self.forward(images)

    def _whole_batch(self) -> AbstractContextManager[None]:
        if self.coupled and self.share is not None:
            return whole_batch(self.network, self.share.total)
        return nullcontext()

    def means(self, images: Float[Tensor, "n c h w"], piece: Piece) -> Means:
        """Return the weighted sums of one piece, one row for each of its classes."""
        weights = send(piece.weights, images.device)
        return tuple(weights @ values for values in self.per_image(images, piece.size))

    @torch.no_grad()
    def class_means(
        self, pieces: Sequence[Piece], classes: int, fetch: Callable[[Piece], Tensor]
    ) -> Means:
        """Return the class means of a batch that ``fetch`` delivers a piece at a time.

        They are those of the statistics that are ``matched``.
        """
        totals: list[Tensor] | None = None
        for piece in pieces:
            found = zip(self.statistics, self.means(fetch(piece), piece), strict=True)
            means = [mean for statistic, mean in found if statistic.matched]
            if totals is None:
                totals = [mean.new_zeros(classes, mean.shape[1]) for mean in means]
            for total, mean in zip(totals, means, strict=True):
                total[piece.classes] += mean
        assert totals is not None, "a batch has at least one piece"
        return tuple(totals)

    def parts(
        self,
        pieces: Sequence[Piece],
        target: Means,
        fetch: Callable[[Piece], Tensor],
        tell: Callable[[Tensor], None] = lambda losses: None,
    ) -> Iterator[Float[Tensor, ""]]:
        """Yield the loss group by group; the sum is the whole, each may go backward at once.

        Of a group it is the loss of the classes that this process owns, which ``tell`` is told
        class by class.
        """
        matched = [at for at, one in enumerate(self.statistics) if one.matched]
        goals = dict(zip(matched, target, strict=True))
        for piece in pieces:
            means = self.means(fetch(piece), piece)
            pairs = enumerate(zip(self.statistics, means, strict=True))
            terms = [_weighted(one, mean, goals.get(at), piece) for at, (one, mean) in pairs]
            losses = torch.stack(terms).sum(0)
            if self.share is not None:
                losses = losses[self.share.within(piece.classes)]
            tell(losses.detach())
            yield losses.sum()


def _weighted(
    statistic: Statistic, means: Tensor, goal: Tensor | None, piece: Piece
) -> Float[Tensor, " some"]:
    """Return what a statistic adds to the loss of every class of a piece."""
    own = None if goal is None else goal[piece.classes]
    return statistic.weight * statistic.distances(means, own, piece.classes)


def takes_own_rows(coupled: bool, device: str) -> bool:
    """Tell whether a process takes its own rows of a piece alone, which changes bits."""
    return coupled or torch.device(device).type != "cpu"


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
