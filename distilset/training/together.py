"""Several networks of one shape trained at once, on a GPU that one small network leaves idle.

Weights are stacked, one tensor for each parameter of the shape, and one pass gives the gradients of
all networks (`torch.func.vmap`). Every network keeps its own images, order and augmentation, drawn
from its own stream, so that it becomes what it would have become alone, up to rounding.
"""

from collections.abc import Iterator, Sequence
from types import FunctionType

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from distilset.augment import AugmentConfig, Draw, augment, draw_per_image
from distilset.compilation import Compiled, mark_step
from distilset.errors import DataError
from distilset.hardware import exact_float32, send
from distilset.rng import Rng
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings
from distilset.training.trainer import (
    Progress,
    batches,
    check_labelled,
    make_optimizer,
    report,
)

State = dict[str, Tensor]
"""The parameters and buffers of one network by name; stacked, of several along a first axis."""


def state_of(network: nn.Module) -> State:
    """Return a copy of a network's parameters and buffers."""
    return {name: value.detach().clone() for name, value in _values(network)}


@torch.no_grad()
def load_state(network: nn.Module, state: State) -> None:
    """Copy parameters and buffers into a network, in place."""
    for name, value in _values(network):
        value.copy_(state[name])


def stack(states: Sequence[State]) -> State:
    """Stack states along a first axis.

    Contiguous, whatever the memory format of a network: vmap has no GroupNorm of channels_last.
    """
    return {name: torch.stack([s[name] for s in states]).contiguous() for name in states[0]}


def _values(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


class Together:
    """Trains several networks of the shape of ``network`` at once; compiles once per batch shape.

    ``network`` lends its form; its own weights are neither used nor changed. ``failure`` is None,
    or why code that was to be compiled runs eagerly.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings) -> None:
        self.network = network
        self.settings = settings
        self._compiled: dict[tuple[int, ...], Compiled] = {}

    @property
    def failure(self) -> str | None:
        """Why something was not compiled after all."""
        return next((made.failure for made in self._compiled.values() if made.failure), None)

    def train(
        self,
        starts: Sequence[State],
        images: Sequence[Float[Tensor, "n c h w"]],
        labels: Sequence[Tensor],
        protocol: Protocol,
        rngs: Sequence[Rng],
        augmentation: AugmentConfig | None = None,
        progress: Progress | None = None,
    ) -> list[State]:
        """Train networks from ``starts`` and return their states; see `Trainer.train`.

        Each has its images, labels and stream; where all share one set, that is the same object.
        ``progress`` counts updates, each of which is one of every network.

        Raises:
            DataError: no images, not one label for each, or sets of unequal sizes.
        """
        pool = _Pool(images, labels, self.settings.device)
        stacked = stack(starts)
        weights = {name: stacked[name] for name, _ in self.network.named_parameters()}
        buffers = {name: stacked[name] for name, _ in self.network.named_buffers()}
        optimizer = make_optimizer(weights.values(), protocol)
        draws = [rng.torch("augment") for rng in rngs]
        total = protocol.total_updates(pool.n)
        self.network.train()
        orders = zip(*(batches(pool.n, protocol, rng) for rng in rngs), strict=True)
        with exact_float32(self.settings.device), torch.no_grad():
            for update, rows in enumerate(orders):
                batch, truth = pool.take(torch.stack(rows))
                batch = _augmented(batch, augmentation, draws)
                mark_step()
                gradients = self._gradients(weights, buffers, batch, truth)
                for name, weight in weights.items():  # the fused update wants equal strides
                    weight.grad = gradients[name].contiguous()
                own = [weight.grad for weight in weights.values() if weight.grad is not None]
                clip(own, protocol.clip)
                optimizer.param_groups[0]["lr"] = protocol.lr_at(update, pool.n)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)  # a graph's outputs, gone at its next call
                report(progress, update + 1, total)
        return [{name: value[k] for name, value in stacked.items()} for k in range(len(starts))]

    def _gradients(self, weights: State, buffers: State, images: Tensor, labels: Tensor) -> State:
        """Return the gradients of every network's mean cross-entropy; buffers change in place."""
        shape = tuple(labels.shape)
        if shape not in self._compiled:
            self._compiled[shape] = Compiled(
                gradients_of(self.network, self.settings),
                wanted=self.settings.compile,
                device=self.settings.device,
            )
        return self._compiled[shape](weights, buffers, images, labels)


def clip(gradients: Sequence[Tensor], most: float | None) -> None:
    """Scale the gradients of each network, stacked along a first axis, as `Protocol.clip` says."""
    if most is None:
        return
    squares = torch.stack([gradient.square().flatten(1).sum(1) for gradient in gradients])
    scale = (most / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)  # as PyTorch's clip_grad_norm_
    for gradient in gradients:
        gradient *= scale.view(-1, *[1] * (gradient.ndim - 1))


def gradients_of(network: nn.Module, settings: TrainSettings) -> FunctionType:
    """Return the function from stacked weights, buffers, images and labels to gradients."""
    device, reduced = torch.device(settings.device).type, settings.precision == "bf16"

    def loss(weights: State, buffers: State, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=reduced, cache_enabled=False):
            scores = functional_call(network, {**weights, **buffers}, (images,)).float()
        return cross_entropy(scores, labels)

    def gradients(weights: State, buffers: State, images: Tensor, labels: Tensor) -> State:
        return vmap(grad(loss))(weights, buffers, images, labels)

    return gradients  # type: ignore[return-value]


class _Pool:
    """The images of all networks in one tensor on the device, a shared set only once."""

    def __init__(self, images: Sequence[Tensor], labels: Sequence[Tensor], device: str) -> None:
        for own, truth in zip(images, labels, strict=True):
            check_labelled(own, truth)
        sizes = sorted({len(own) for own in images})
        if len(sizes) > 1:
            raise DataError(f"networks trained together need sets of one size; got {sizes}")
        self.n, self.device = sizes[0], device
        shared = all(own is images[0] for own in images) and all(own is labels[0] for own in labels)
        self.offsets = torch.arange(len(images))[:, None] * (0 if shared else self.n)
        self.images = (images[0] if shared else torch.cat(list(images))).to(device)
        self.labels = (labels[0] if shared else torch.cat(list(labels))).to(device)

    def take(self, rows: Int64[Tensor, "networks batch"]) -> tuple[Tensor, Tensor]:
        """Return the images and labels of each network's rows: ``[networks, batch, ...]``."""
        index = send(rows + self.offsets, self.device)
        return self.images[index], self.labels[index]


def _augmented(
    images: Float[Tensor, "networks batch c h w"],
    config: AugmentConfig | None,
    draws: Sequence[torch.Generator],
) -> Float[Tensor, "networks batch c h w"]:
    """Augment every network's batch by a draw from its own stream."""
    if config is None:
        return images
    own = [draw_per_image(config, generator, images.shape[1]) for generator in draws]
    joined = Draw(
        torch.cat([draw.operation for draw in own]), torch.cat([draw.uniforms for draw in own])
    )
    return augment(images.flatten(0, 1), joined, config).view_as(images)
