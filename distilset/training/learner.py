"""Networks in training as values: weights that an update turns into other weights.

One module serves any number of them, and compiled code serves all alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FunctionType

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from distilset.compilation import Compiled, uses_graphs
from distilset.models import couples_images
from distilset.training.step import TrainSettings, chunk_size, fill

Values = dict[str, Tensor]
"""Parameters or buffers of a network by name, or as much of something else."""


@dataclass(frozen=True)
class Rule:
    """SGD as PyTorch has it: ``m <- momentum m + gradient + weight_decay w``, ``w <- w - lr m``."""

    lr: float
    momentum: float
    weight_decay: float


@dataclass(frozen=True)
class Learner:
    """A network in training: its weights, its buffers and what SGD remembers of its gradients."""

    weights: Values
    buffers: Values
    momentum: Values

    @property
    def values(self) -> Values:
        """Weights and buffers."""
        return {**self.weights, **self.buffers}


class _Outputs(nn.Module):
    """A network whose call returns its last features, or its class scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, scores: bool) -> Tensor:
        """Return class scores, or flattened last features."""
        return self.network(images) if scores else self.network.features(images).last  # type: ignore[operator]


class Learners:
    """Trains and asks learners of one network's shape.

    ``chunk`` images go through at a time, of one size, filled up: on a CPU few enough to stay in
    cache. Those of a network with BatchNorm, which couples them, go through whole. The network's
    own weights and buffers are never changed.
    """

    def __init__(self, network: nn.Module, rule: Rule, settings: TrainSettings, chunk: int) -> None:
        self.outputs, self.rule, self.settings = _Outputs(network), rule, settings
        self.chunk = None if couples_images(network) else chunk
        self.graphs = settings.compile and uses_graphs(settings.device)
        self._run = Compiled(self._runs(), wanted=settings.compile, device=settings.device)

    @property
    def failure(self) -> str | None:
        """Why this runs eagerly although it was to be compiled, or None."""
        return self._run.failure

    def _runs(self) -> FunctionType:
        outputs, device = self.outputs, torch.device(self.settings.device).type
        reduced = self.settings.precision == "bf16"

        def run(values: Values, images: Tensor, scores: bool) -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=reduced):
                found = functional_call(outputs, values, (images, scores))
            return found.to(images.dtype)

        return run  # type: ignore[return-value]

    def start(self) -> Learner:
        """Return a learner that begins with the network's weights."""
        weights = {name: p.detach().clone() for name, p in self.outputs.named_parameters()}
        buffers = {name: b.clone() for name, b in self.outputs.named_buffers()}
        return Learner(weights, buffers, {n: torch.zeros_like(w) for n, w in weights.items()})

    def update(
        self, learner: Learner, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]
    ) -> Learner:
        """Return the learner after one update on the mean cross-entropy of a batch."""
        rule, weights = self.rule, learner.weights
        leaves = {name: weight.detach().requires_grad_(True) for name, weight in weights.items()}
        moving = replace(learner, weights=leaves)
        for pixels, truth, shares in self._pieces(images.detach(), labels):
            scores = self._run(moving.values, pixels, True)
            (cross_entropy(scores, truth, reduction="none") @ shares).backward()
        gradients = [leaf.grad for leaf in leaves.values()]
        with torch.no_grad():
            moved, momentum = {}, {}
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                change = weight * rule.weight_decay
                if gradient is not None:
                    change += gradient
                momentum[name] = change.add_(learner.momentum[name], alpha=rule.momentum)
                moved[name] = weight.sub(momentum[name], alpha=rule.lr)
        return replace(learner, weights=moved, momentum=momentum)

    def features(
        self, learner: Learner, images: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n features"]:
        """Return the flattened last features, differentiable in the images."""
        values = learner.values
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        parts = [self._run(values, pixels, False) for pixels, _, _ in self._pieces(images, labels)]
        return torch.cat([part.clone() if self.graphs else part for part in parts])[: len(images)]

    def _pieces(self, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield images, labels and shares in the mean, in pieces of one size.

        Rows that fill the last piece up have a share of 0.
        """
        n = len(images)
        size = n if self.chunk is None else chunk_size([n], min(n, self.chunk))
        shares = images.new_full((n,), 1 / n)
        if n % size:
            images, labels, shares = fill((images, labels), shares, -n % size)
        images = images.contiguous(memory_format=torch.channels_last)
        yield from zip(images.split(size), labels.split(size), shares.split(size), strict=True)
