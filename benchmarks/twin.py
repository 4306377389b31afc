"""The textbook twin: how the public code of the field does a step and a training, and no worse.

Plain eager float32 in NCHW, all classes in one forward pass, activations kept by forward hooks, an
ordinary optimiser loop. The mathematics is that of `distilset`, so losses and gradients can be
compared; the code shares with it only the data, the drawn weights and the augmentation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distilset.augment import AugmentConfig, Draw, augment, draw_per_image


def convnet(channels: int, classes: int, norm: str, side: int = 32, width: int = 128) -> nn.Module:
    """Build the ConvNet of depth 3 as a plain sequence of layers."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        layers.append(nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width, width))
        layers.append(nn.ReLU(inplace=True))
        layers.append(nn.AvgPool2d(2))
        channels = width
    side //= 8
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, classes))


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters in order: both networks have the same ones."""
    with torch.no_grad():
        for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
            theirs.copy_(ours)


class TwinStep:
    """A step of DataDAM, ATOM or DM: real and synthetic batches through one hooked network."""

    def __init__(self, network: nn.Module, method: str, power: float = 4.0) -> None:
        self.network, self.method, self.power = network.train(), method, power
        self.activations: list[Tensor] = []
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for layer in network.children():
            if isinstance(layer, nn.ReLU):
                layer.register_forward_hook(self.keep_output)
            elif isinstance(layer, nn.Linear):
                layer.register_forward_pre_hook(self.keep_input)

    def keep_output(self, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep a ReLU's output."""
        self.activations.append(output)

    def keep_input(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keep what enters the classifier."""
        self.activations.append(inputs[0])

    def run(self, images: Tensor) -> list[Tensor]:
        """Return the activations of every ReLU and the last features."""
        self.activations.clear()
        self.network(images)
        return list(self.activations)

    def attention(self, maps: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Return unit attention vectors."""
        z = maps.abs().pow(self.power).sum(dims).flatten(1)
        return z / z.norm(dim=1, keepdim=True).clamp_min(1e-12)

    def loss(self, real: Tensor, synthetic: Tensor, classes: int) -> Tensor:
        """Return the loss of one step; images lie class by class, equally many of each."""
        ours, theirs = self.run(real), self.run(synthetic)
        last = _distance(ours[-1], theirs[-1], classes)
        if self.method == "dm":
            return last
        dims: Sequence[tuple[int, ...]] = ((1,), (2, 3)) if self.method == "atom" else ((1,),)
        total = 0.01 * last
        for a, b in zip(ours[:-2], theirs[:-2], strict=True):
            for dim in dims:
                total = total + _distance(self.attention(a, dim), self.attention(b, dim), classes)
        return 100 * total


def _distance(real: Tensor, synthetic: Tensor, classes: int) -> Tensor:
    first = real.reshape(classes, -1, real.shape[1]).mean(dim=1)
    second = synthetic.reshape(classes, -1, synthetic.shape[1]).mean(dim=1)
    return ((first - second) ** 2).sum()


def train_twin(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    config: AugmentConfig,
    batch: int = 256,
    seed: int = 0,
) -> None:
    """Train as the DC code's evaluation does: shuffled batches, DSA, SGD, one drop at half."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    network.train()
    for epoch in range(epochs):
        if epoch == epochs // 2:
            for group in optimizer.param_groups:
                group["lr"] *= 0.1
        for rows in torch.randperm(len(images), generator=generator).split(batch):
            draw: Draw = draw_per_image(config, generator, len(rows))
            loss = cross_entropy(network(augment(images[rows], draw, config)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def score_twin(network: nn.Module, images: Tensor, labels: Tensor, batch: int = 256) -> float:
    """Return the accuracy on normalised images, in batches of 256."""
    network.eval()
    hits = 0
    for rows, truth in zip(images.split(batch), labels.split(batch), strict=True):
        hits += int((network(rows).argmax(dim=1) == truth).sum())
    return hits / len(images)
