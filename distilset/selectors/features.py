"""The vectors in which selectors measure distance."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from distilset.errors import ConfigError
from distilset.models import NetworkConfig, build_network, initialise
from distilset.rng import Rng
from distilset.types import DatasetInfo, ImageSet

Features = Callable[[UInt8[Tensor, "n channels height width"]], Float[Tensor, "n d"]]

_CHUNK = 256


def normalised_pixels(
    images: UInt8[Tensor, "n channels height width"], info: DatasetInfo
) -> Float32[Tensor, "n d"]:
    """Flatten images normalised by the data set's mean and std per channel."""
    mean = torch.tensor(info.mean)[:, None, None]
    std = torch.tensor(info.std)[:, None, None]
    return images.to(torch.float32).div_(255).sub_(mean).div_(std).flatten(1)


@torch.no_grad()
def class_features(
    train: ImageSet, class_index: int, features: Features | None
) -> Float32[Tensor, "m d"]:
    """Return the features of one class's images: ``features`` of them, else normalised pixels.

    Raises:
        ConfigError: if ``features`` does not give one vector per image.

    """
    images = train.of_class(class_index)
    if features is None:
        return normalised_pixels(images, train.info)
    vectors = features(images)
    if vectors.ndim != 2 or len(vectors) != len(images):
        raise ConfigError(
            f"features must map {len(images)} images to as many vectors, [{len(images)}, d]; "
            f"got shape {list(vectors.shape)}"
        )
    return vectors.to(torch.float32)


def network_features(config: NetworkConfig, train: ImageSet, rng: Rng) -> Features:
    """Return the last features of a network with freshly drawn weights, as a function of bytes.

    It sees normalised images; BatchNorm uses its running statistics, so that an image's vector
    does not depend on the others.
    """
    network = build_network(config, train.spec, len(train.classes)).eval()
    initialise(network, rng, "features")

    def features(images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n d"]:
        pixels = normalised_pixels(images, train.info).view(len(images), *train.spec.shape)
        with torch.no_grad():
            parts = [network.features(part).last for part in pixels.split(_CHUNK)]  # type: ignore[operator]
        return torch.cat(parts)

    return features


def distances(vectors: Float32[Tensor, "m d"], point: Float32[Tensor, " d"]) -> Tensor:
    """Return the Euclidean distance of every vector to ``point``: ``[m]``.

    Summed from differences: a product of matrices is no faster for one point, and would give equal
    images unequal distances.
    """
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(vectors, point[None], compute_mode=exact)[:, 0]
