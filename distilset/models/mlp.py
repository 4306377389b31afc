"""The multilayer perceptron of the dataset-condensation line of work (Zhao et al., ICLR 2021)."""

from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from distilset.models.layers import Activation, Norm, make_activation
from distilset.types import Features, ImageSpec


class MLP(nn.Module):
    """Flattened pixels, hidden layers, one linear classifier; published with two of 128.

    It has no activation maps: only its last features can be matched.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("none",)

    def __init__(
        self,
        spec: ImageSpec,
        classes: int,
        *,
        width: int = 128,
        depth: int = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        sizes = [spec.channels * spec.height * spec.width, *[width] * depth]
        layers = [(nn.Linear(a, b), make_activation(activation)) for a, b in pairwise(sizes)]
        self.hidden = nn.Sequential(*(module for pair in layers for module in pair))
        self.classifier = nn.Linear(width, classes)

    def features(self, images: Float[Tensor, "n c h w"]) -> Features:
        """Return no maps, and the activations of the last hidden layer."""
        return Features((), self.hidden(images.flatten(1)))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return class scores."""
        return self.classifier(self.features(images).last)
