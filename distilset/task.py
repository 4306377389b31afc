"""What a method is given to work with: real images, a network to draw, keyed randomness."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from distilset.augment import AugmentConfig, Draw, augment, draw_per_class
from distilset.data.normalise import Transform
from distilset.engine import EngineSettings
from distilset.errors import ConfigError
from distilset.experts import Experts
from distilset.formation import decode
from distilset.hardware import fits, send
from distilset.models import initialise
from distilset.rng import Rng
from distilset.share import Share
from distilset.training.step import TrainSettings
from distilset.training.together import State, state_of
from distilset.types import Features, ImageSet

MOST_WHITENED = 4 << 30
"""Bytes of whitened real images that are kept; above, they are whitened whenever they are drawn."""

WHITENED_AT_ONCE = 1024


@dataclass(frozen=True)
class Task:
    """Everything a method sees: real images, the network to draw from, and keyed randomness.

    The same ``step`` always gives the same network, real images and augmentation. Synthetic images
    are handed in separately: ``[classes * ipc, C, H, W]`` in normalised space, class by class.
    These are stored ones: with a ``factor`` above 1 networks see what `decode` makes of them.
    ``pool`` holds further networks: one of all is drawn for every step. ``experts`` has those of
    every network, or none: weights of networks that were trained for a while are drawn then in the
    place of fresh ones. ``bank`` is the number of targets of a bank, 0 for fresh ones; see
    `distilset.bank`. At most ``bank_workers`` processes build it, each with ``bank_threads``
    threads (None: PyTorch's). ``steps`` are those of the run. ``share`` says which classes this
    process owns, if it is one of several; its synthetic images are theirs.
    """

    train: ImageSet
    transform: Transform
    augmentation: AugmentConfig
    network: nn.Module
    rng: Rng
    ipc: int
    batch_real: int
    settings: EngineSettings
    bank: int = 0
    bank_seed: int = 0
    bank_workers: int = 1
    bank_threads: int | None = None
    pool: tuple[nn.Module, ...] = ()
    steps: int = 0
    share: Share | None = None
    factor: int = 1
    experts: tuple[Experts, ...] = ()

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.train.classes)

    @property
    def decoded_ipc(self) -> int:
        """How many images of a class networks see: ``factor ** 2`` of each stored one."""
        return self.ipc * self.factor**2

    @property
    def own(self) -> range:
        """The classes that this process owns."""
        return (
            range(self.classes) if self.share is None else range(self.share.first, self.share.last)
        )

    @property
    def own_rows(self) -> slice:
        """The real images that this process may fetch: those of its classes, and a few beside.

        They begin and end where whitening in one process has its parts, so that bits are the same.
        """
        offsets, part = self.train.offsets, WHITENED_AT_ONCE
        begin, end = offsets[self.own.start], offsets[self.own.stop]
        return slice(begin // part * part, min(-(-end // part) * part, offsets[-1]))

    @property
    def training(self) -> TrainSettings:
        """How networks are trained in the run: as everything else of it is computed."""
        settings = self.settings
        return TrainSettings(settings.device, settings.precision, settings.compile)

    @property
    def labels(self) -> Int64[Tensor, " m"]:
        """The class index of every image that networks see of the synthetic ones."""
        return torch.arange(self.classes).repeat_interleave(self.decoded_ipc)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks to draw from."""
        return (self.network, *self.pool)

    def alone(self, number: int) -> "Task":
        """Return the same task with one of its networks only."""
        experts = self.experts[number : number + 1]
        return replace(self, network=self.networks[number], pool=(), experts=experts)

    def with_chunk(self, chunk: int) -> "Task":
        """Return the same task with another engine chunk; what is kept of the images is shared."""
        task = replace(self, settings=replace(self.settings, chunk=chunk))
        kept = ("whitened", "_resident")
        vars(task).update({name: vars(self)[name] for name in kept if name in vars(self)})
        return task

    def map_shapes(self, number: int = 0) -> list[tuple[int, int, int]]:
        """Return ``(C, H, W)`` of each activation map of a network, shallow to deep."""
        return [(m.shape[1], m.shape[2], m.shape[3]) for m in self._features(number).maps]

    def last_width(self, number: int = 0) -> int:
        """Return the length of the last features of a network."""
        return self._features(number).last.shape[1]

    @torch.no_grad()
    def _features(self, number: int) -> Features:
        network = self.networks[number]
        device = next(network.parameters()).device
        images = torch.zeros(2, *self.train.spec.shape, device=device)
        return network.features(images)  # type: ignore[operator]

    def choice(self, step: int) -> int:
        """Draw which of the networks is the step's."""
        word = int(self.rng.words("which network", step, [0], 1)[0, 0])
        return word * len(self.networks) >> 32

    def draw_network(self, step: int) -> nn.Module:
        """Draw the weights, in place, of the step's network: fresh ones, or an expert's."""
        number = self.choice(step)
        network = self.networks[number]
        if self.experts and not self.experts[number].asleep:
            self.experts[number].load(network, self.rng, step)
        else:
            initialise(network, self.rng, "network", step)
        return network

    def draw_segment(self, step: int, span: int, latest: int) -> tuple[State, State]:
        """Draw where a student of the step's network starts, and where it is to go.

        Both are an expert's weights and buffers, by name, ``span`` of its moments apart; see
        `Experts.segment`. While experts are asleep they are two fresh networks'.

        Raises:
            ConfigError: the task has no experts.
            DataError: they are not in the cache, or damaged.
        """
        if not self.experts:
            raise ConfigError("there are no trained networks to follow: give --experts 1 or more")
        number = self.choice(step)
        network, experts = self.networks[number], self.experts[number]
        if not experts.asleep:
            return experts.segment(network, self.rng, step, span, latest)
        found = []
        for which in ("network", "another"):
            initialise(network, self.rng, which, step)
            found.append(state_of(network))
        return found[0], found[1]

    def train_experts(self, report: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Train the experts that are missing, if the task has any.

        Raises:
            DataError: a network diverged.
        """
        if not self.experts:
            return
        whole = self if self.share is None else replace(self, share=None)
        prepare = None if whole.whitened is not None else whole.transform.apply
        images = self.train.images if whole.whitened is None else whole.whitened
        for network, experts in zip(self.networks, self.experts, strict=True):
            experts.train(network, images, self.train.labels, prepare, report)

    def draw_real(self, step: int) -> list[Int64[Tensor, " n"]]:
        """Draw row indices of real images, uniformly without replacement inside each class.

        Returns a list with one index tensor per class; a class smaller than the batch gives all
        of its images. In the place of other processes' classes stands one of our own images.
        """
        counts, own = self.train.counts, self.own
        drawn = {
            c: torch.from_numpy(self.rng.sample("batch", step, c, counts[c], self.batch_real))
            + self.train.offsets[c]
            for c in own
        }
        other = drawn[own[0]][:1]
        return [
            drawn[c] if c in drawn else other.expand(min(count, self.batch_real))
            for c, count in enumerate(counts)
        ]

    def draw_augmentation(self, step: int) -> Draw:
        """Draw one operation and its parameters for each class."""
        return draw_per_class(self.augmentation, self.rng, step, range(self.classes))

    @cached_property
    def whitened(self) -> Float[Tensor, "n c h w"] | None:
        """`own_rows` whitened, once: a product with the ZCA matrix costs more than a step.

        None without ZCA, and where they would be larger than `MOST_WHITENED`.
        """
        size = 4 * self.train.images.numel()
        if self.transform.zca is None or size > MOST_WHITENED:
            return None
        device = self.settings.device
        own = self.train.images[self.own_rows].split(WHITENED_AT_ONCE)
        return torch.cat([self.transform.apply(part.to(device)) for part in own])

    @cached_property
    def _resident(self) -> UInt8[Tensor, "n c h w"] | None:
        """`own_rows` as bytes on a GPU, where they fit."""
        images, device = self.train.images[self.own_rows], self.settings.device
        return images.to(device) if fits(images.numel(), device) else None

    @property
    def reads_disk(self) -> bool:
        """Whether `stored` may have to wait for a disk."""
        return self.train.mapped and self.whitened is None and self._resident is None

    def real(self, rows: Tensor) -> Float[Tensor, "n c h w"]:
        """Fetch real images by row index, in normalised space, on the device."""
        return self.normalised(self.stored(rows))

    def stored(self, rows: Tensor) -> UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]:
        """Fetch real images by row index as they are kept: bytes, or whitened already."""
        device = self.settings.device
        if self.whitened is not None:
            return self.whitened[send(rows - self.own_rows.start, device)]
        if self._resident is not None:
            return self._resident[send(rows - self.own_rows.start, device)]
        return self.train.images[rows]

    def normalised(
        self, images: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Bring what `stored` gave into normalised space, on the device."""
        if images.dtype == torch.uint8:
            return self.transform.apply(send(images, self.settings.device))
        return images

    def decode(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "m c h w"]:
        """Make the images that networks see of stored synthetic ones; see `distilset.formation`."""
        return decode(images, self.factor)

    def augmented(
        self, images: Float[Tensor, "n c h w"], draw: Draw, classes: int | Int64[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Apply each class's draw to its images; ``classes`` has their class indices, or one."""
        if isinstance(classes, int):
            classes = torch.full((len(images),), classes)
        return augment(images, draw.rows(classes), self.augmentation)
