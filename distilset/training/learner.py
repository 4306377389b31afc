"""Several networks of one shape in training, each its own weights, on one module.

One module serves any number of them, and compiled code serves all alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from distilset.compilation import Compiled, uses_graphs
from distilset.models import couples_images
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings, piece_size, pieces
from distilset.training.together import State, state_of
from distilset.training.trainer import make_optimizer


@dataclass(frozen=True)
class Learner:
    """A network in training: its weights, which the optimiser moves in place, and its buffers."""

    weights: State
    buffers: State
    optimizer: torch.optim.Optimizer

    @property
    def values(self) -> State:
        """Weights, cut from their gradients, and buffers."""
        return {**{name: w.detach() for name, w in self.weights.items()}, **self.buffers}


class _Outputs(nn.Module):
    """A network whose call returns its last features, or its class scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, scores: bool) -> Tensor:
        """Return class scores, or flattened last features."""
        return self.network(images) if scores else self.network.features(images).last  # type: ignore[operator]


class Learners:
    """Trains and asks learners of one network's shape, by the constant rate of a protocol.

    ``chunk`` images go through at a time, of one size, filled up: on a CPU few enough to stay in
    cache. Those of a network with BatchNorm, which couples them, go through whole. The network's
    own weights and buffers are never changed.
    """

    def __init__(
        self, network: nn.Module, protocol: Protocol, settings: TrainSettings, chunk: int
    ) -> None:
        self.outputs, self.protocol, self.settings = _Outputs(network), protocol, settings
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

        def run(values: State, images: Tensor, scores: bool) -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=reduced):
                found = functional_call(outputs, values, (images, scores))
            return found.to(images.dtype)

        return run  # type: ignore[return-value]

    def start(self) -> Learner:
        """Return a learner that begins with the network's weights."""
        state = state_of(self.outputs)
        weights = {
            name: state.pop(name).requires_grad_(True)
            for name, _ in self.outputs.named_parameters()
        }
        return Learner(weights, state, make_optimizer(weights.values(), self.protocol))

    def update(
        self, learner: Learner, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]
    ) -> None:
        """Make one update of the learner on the mean cross-entropy of a batch."""
        values = {**learner.weights, **learner.buffers}
        for pixels, truth, shares in self._pieces(images.detach(), labels):
            scores = self._run(values, pixels, True)
            (cross_entropy(scores, truth, reduction="none") @ shares).backward()
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)

    def features(
        self, learner: Learner, images: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n features"]:
        """Return the flattened last features, differentiable in the images."""
        values = learner.values
        parts = [self._run(values, pixels, False) for pixels, _ in self._pieces(images)]
        return torch.cat([part.clone() if self.graphs else part for part in parts])[: len(images)]

    def _pieces(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        return pieces(tensors, piece_size(len(tensors[0]), self.chunk))
