"""Networks by name, their settings, and drawing fresh ones from a keyed random stream."""

from torch import nn

from distilset.errors import ConfigError
from distilset.models.config import (
    NETWORKS,
    NORMS,
    NetworkConfig,
    choices,
    inherit_norm,
    is_own,
    names_code,
    network_config,
    network_label,
    network_table,
    options_of,
    pool_of,
    settled,
    split,
)
from distilset.models.drawing import initialise
from distilset.models.own import build_own, code_digest
from distilset.rng import Rng
from distilset.types import ImageSpec

__all__ = [
    "NETWORKS",
    "NORMS",
    "NetworkConfig",
    "build_network",
    "choices",
    "code_digest",
    "couples_images",
    "has_batch_norm",
    "inherit_norm",
    "initialise",
    "is_own",
    "names_code",
    "network_config",
    "network_label",
    "network_table",
    "options_of",
    "pool_of",
    "settled",
    "split",
]


def build_network(config: NetworkConfig, spec: ImageSpec, classes: int) -> nn.Module:
    """Build a network for images of ``spec``; its weights are to be drawn with ``initialise``.

    Of a pool, its first network.

    Raises:
        ConfigError: if the network cannot take such images, or is somebody's own and cannot be
            imported, built or drawn anew.
    """
    if not 1 <= spec.channels <= 4:
        raise ConfigError(f"networks take 1 to 4 channels; got images of {spec}")
    if min(spec.height, spec.width) < 4:
        raise ConfigError(f"networks take images of 4x4 pixels and more; got {spec}")
    with Rng(0).as_global("construction"):  # building draws weights: keep the caller's state
        if is_own(config.name):
            return build_own(config.name, spec, classes)
        kind = NETWORKS[config.name]
        options = {name: getattr(config, name) for name in options_of(config.name)}
        if len(kind.norms) == 1:
            del options["norm"]
        return kind(spec, classes, **options)


def couples_images(network: nn.Module) -> bool:
    """Tell whether an image's features depend on the other images of its batch.

    They do under BatchNorm, but not where it is in evaluation mode and has running statistics.
    """
    return any(layer.training or layer.running_mean is None for layer in _batch_norms(network))


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether a network has BatchNorm, whatever its mode."""
    return bool(_batch_norms(network))


def _batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    kind = nn.modules.batchnorm._BatchNorm
    return [module for module in network.modules() if isinstance(module, kind)]
