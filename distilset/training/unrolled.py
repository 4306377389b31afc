"""What training on synthetic images does to a network, and how the images would have to change.

A student takes plain steps of gradient descent. What its last weights are worth is differentiated
by the images of every step, back through all of them (Maclaurin et al., ICML 2015): a step needs
the weights before it, nothing else, so that memory grows by one copy of the weights for a step and
not by the activations of all.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from distilset.compilation import Compiled, mark_step, uses_graphs
from distilset.models import couples_images
from distilset.training.step import TrainSettings, piece_size, pieces
from distilset.training.together import State


@dataclass(frozen=True)
class Batch:
    """What a student sees in one step: images ``[n, C, H, W]`` and their class indices ``[n]``."""

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]


@dataclass(frozen=True)
class Walk:
    """Where a student went: its state before every step, and that after the last."""

    before: tuple[State, ...]
    end: State


class Unrolled:
    """Trains students of a network's shape, and goes back through their training.

    Weights are values by the names of the network's parameters; its own are never changed. States
    may hold its buffers, too, which stay as they are in the start. The loss is the mean
    cross-entropy of a batch; ``chunk`` images go through at a time, those of a network with
    BatchNorm, which normalises by the batch, all at once.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings, chunk: int) -> None:
        self.network, self.settings = _without_statistics(network), settings
        self.names = tuple(name for name, _ in self.network.named_parameters())
        self.constants = tuple(name for name, _ in self.network.named_buffers())
        self.chunk = None if couples_images(self.network) else chunk
        self.graphs = settings.compile and uses_graphs(settings.device)
        loss = self._loss()
        self._gradient = self._compiled(_gradient_of(loss))
        self._product = self._compiled(_product_of(loss))

    @property
    def failures(self) -> tuple[str | None, ...]:
        """Why something runs eagerly although it was to be compiled; None for what does not."""
        return self._gradient.failure, self._product.failure

    def _compiled(self, function: FunctionType) -> Compiled:
        return Compiled(function, wanted=self.settings.compile, device=self.settings.device)

    def _loss(self) -> Callable[..., Tensor]:
        network, device = self.network, torch.device(self.settings.device).type
        reduced = self.settings.precision == "bf16"

        def loss(
            weights: State, constants: State, images: Tensor, labels: Tensor, shares: Tensor
        ) -> Tensor:
            # of attention only the plain kernel can be differentiated twice
            plain = sdpa_kernel(SDPBackend.MATH)
            with torch.autocast(device, torch.bfloat16, enabled=reduced), plain:
                scores = functional_call(network, {**weights, **constants}, (images,))
            errors = cross_entropy(scores.to(images.dtype), labels, reduction="none")
            return (errors * shares).sum()

        return loss

    def gradient(self, state: State, batch: Batch) -> State:
        """Return the gradient of the loss of a batch by the weights."""
        mark_step()
        parts = self._parts(state)
        return _total(self._kept(self._gradient(*parts, *piece)) for piece in self._pieces(batch))

    def _parts(self, state: State) -> tuple[State, State]:
        """Return the weights of a state, and the buffers that it has."""
        weights = {name: state[name] for name in self.names}
        return weights, {name: state[name] for name in self.constants if name in state}

    def product(
        self, state: State, batch: Batch, direction: State
    ) -> tuple[State, Float[Tensor, "n c h w"]]:
        """Return how the slope of the loss along a direction changes with weights and images.

        By the weights that is the product of the loss's Hessian and the direction.
        """
        mark_step()
        parts, along = self._parts(state), {name: direction[name] for name in self.names}
        pieces = self._pieces(batch)
        found = [self._kept(self._product(*parts, *piece, along)) for piece in pieces]
        by_images = torch.cat([images for _, images in found])[: len(batch.images)]
        return _total(by_weights for by_weights, _ in found), by_images

    def _pieces(self, batch: Batch) -> Iterable[tuple[Tensor, ...]]:
        size = piece_size(len(batch.images), self.chunk)
        return pieces((batch.images.detach(), batch.labels), size)

    def _kept(self, found: Any) -> Any:
        """Copy what a CUDA graph gave: its next call overwrites it."""
        return tree_map(torch.clone, found) if self.graphs else found

    @torch.no_grad()
    def train(self, start: State, batches: Iterable[Batch], lr: float) -> Walk:
        """Take a step on every batch, at the rate ``lr``, from the weights ``start``."""
        state, before = start, []
        for batch in batches:
            before.append(state)
            state = {**state, **_moved(state, self.gradient(state, batch), -lr)}
        return Walk(tuple(before), state)

    @torch.no_grad()
    def back(
        self, walk: Walk, batches: Iterable[Batch], lr: float, adjoint: State
    ) -> list[Float[Tensor, "n c h w"]]:
        """Return the derivative by the images of every step, from that by the last weights."""
        found = []
        for state, batch in zip(reversed(walk.before), reversed(list(batches)), strict=True):
            by_weights, by_images = self.product(state, batch, adjoint)
            found.append(-lr * by_images)
            adjoint = _moved(adjoint, by_weights, -lr)
        return found[::-1]


def _gradient_of(loss: Callable[..., Tensor]) -> FunctionType:
    def gradient(weights: State, constants: State, *piece: Tensor) -> State:
        return grad(loss)(weights, constants, *piece)

    return gradient  # type: ignore[return-value]


def _product_of(loss: Callable[..., Tensor]) -> FunctionType:
    """Reverse over reverse: the other way about fails under autocast between convolutions."""

    def product(
        weights: State,
        constants: State,
        images: Tensor,
        labels: Tensor,
        shares: Tensor,
        direction: State,
    ) -> tuple[State, Tensor]:
        def slope(weights: State, images: Tensor) -> Tensor:
            found = grad(loss)(weights, constants, images, labels, shares)
            terms = [(found[name] * along).sum() for name, along in direction.items()]
            return torch.stack(terms).sum()

        return grad(slope, argnums=(0, 1))(weights, images)

    return product  # type: ignore[return-value]


def _moved(state: State, along: State, by: float) -> State:
    return {name: state[name] + by * value for name, value in along.items()}


def _total(states: Iterable[State]) -> State:
    first, *others = states
    for other in others:
        first = {name: value + other[name] for name, value in first.items()}
    return first


def _without_statistics(network: nn.Module) -> nn.Module:
    """Return a copy whose BatchNorms learn no statistics: a pure function may change nothing."""
    copy = deepcopy(network).train()
    for module in copy.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return copy
