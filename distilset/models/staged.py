"""What LeNet, AlexNet and VGG share: stages, pooling after each, a head, one linear classifier."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from distilset.types import Features


class Staged(nn.Module):
    """Stages and the pooling after each; ``head`` turns the last map into vectors.

    A stage is what lies between two poolings. Its map is its last activation, before pooling: for
    attention, as with ConvNet, a stage counts once, however many layers it has.
    """

    def __init__(
        self,
        stages: Iterable[tuple[nn.Module, nn.Module]],
        head: nn.Module,
        width: int,
        classes: int,
    ) -> None:
        super().__init__()
        pairs = list(stages)
        self.stages = nn.ModuleList(stage for stage, _ in pairs)
        self.pools = nn.ModuleList(pool for _, pool in pairs)
        self.head = head
        self.classifier = nn.Linear(width, classes)

    def features(self, images: Float[Tensor, "n c h w"]) -> Features:
        """Return the last activation of every stage and what enters the classifier."""
        maps = []
        x = images
        for stage, pool in zip(self.stages, self.pools, strict=True):
            x = stage(x)
            maps.append(x)
            x = pool(x)
        return Features(tuple(maps), self.head(x))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return class scores."""
        return self.classifier(self.features(images).last)
