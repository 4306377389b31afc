"""Somebody's own network, by ``package.module:Callable``.

    def small(spec, classes, width=32): ...                       # in my_nets.py
    --network my_nets:small:width=64,maps=layer1+layer2

The callable is given the images' `ImageSpec`, the number of classes and the options, and returns a
module. One with a method ``features(images) -> Features`` is used as it is; any other is watched by
hooks (see `distilset.models.features`), and ``maps`` and ``last`` name its layers.
"""

from collections.abc import Callable
from copy import deepcopy
from hashlib import blake2b
from importlib import import_module
from typing import Any

import torch
from torch import nn

from distilset.errors import ConfigError
from distilset.models.config import NETWORKS, parse_options
from distilset.models.features import Hooked
from distilset.models.resetting import check_drawable, resets
from distilset.rng import Rng
from distilset.types import Features, ImageSpec


def build_own(name: str, spec: ImageSpec, classes: int) -> nn.Module:
    """Import the callable of ``module:Callable:key=value,...`` and build its network.

    Raises:
        ConfigError: if it cannot be imported or built, or gives something that cannot be used.
    """
    module, attribute, *rest = name.split(":", 2)
    options = parse_options(rest[0] if rest else "")
    maps, last = options.pop("maps", None), options.pop("last", None)
    network = _call(_find(module, attribute), f"{module}:{attribute}", spec, classes, options)
    check_drawable(network)
    _refuse_dropout(network)
    if not callable(getattr(network, "features", None)) or isinstance(network.features, nn.Module):
        names = str(maps).split("+") if maps is not None else []
        network = Hooked(network, names, spec, None if last is None else str(last))
    elif maps is not None or last is not None:
        raise ConfigError(f"{name!r} has features of its own, and takes no maps= and no last=")
    _check_output(network, name, spec, classes)
    return network


def _find(module: str, attribute: str) -> Callable[..., Any]:
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        found = f"network '{module}:{attribute}' cannot be imported"
        raise ConfigError(f"{found}: {error}") from None


def _call(
    make: Callable[..., Any], name: str, spec: ImageSpec, classes: int, options: dict[str, Any]
) -> nn.Module:
    try:
        network = make(spec, classes, **options)
    except TypeError as error:
        raise ConfigError(
            f"network {name!r} cannot be built as Callable(spec, classes, **options): {error}"
        ) from None
    if not isinstance(network, nn.Module):
        raise ConfigError(f"network {name!r} must give an nn.Module; got {type(network).__name__}")
    return network


@torch.no_grad()
def code_digest(network: nn.Module, spec: ImageSpec, *, scores: bool = False) -> str | None:
    """Hash what somebody's own network computes, its features or also its ``scores``.

    None for a network of this package.

    For what is kept under a network's name, since own code changes without changing its name.
    Computed with drawn weights on the CPU in float32, whatever the device.
    """
    if type(network) in NETWORKS.values():
        return None
    copy = deepcopy(network).cpu().eval()
    with Rng(0).as_global("code digest"):
        for reset in resets(copy):
            reset()
        images = torch.randn(2, *spec.shape)
        features = copy.features(images)  # type: ignore[operator]
        found = [*features.maps, features.last, *([copy(images)] if scores else [])]
    hasher = blake2b(digest_size=16)
    for values in found:
        hasher.update(values.float().contiguous().numpy().tobytes())
    return hasher.hexdigest()


def _refuse_dropout(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ConfigError(
                f"{name} drops out by global randomness, so that no run could be repeated; build "
                "the network with a dropout of 0"
            )


@torch.no_grad()
def _check_output(network: nn.Module, name: str, spec: ImageSpec, classes: int) -> None:
    network.eval()
    images = torch.zeros(2, *spec.shape)
    scores, features = network(images), network.features(images)  # type: ignore[operator]
    network.train()
    if tuple(scores.shape) != (2, classes):
        got = list(scores.shape)
        raise ConfigError(f"network {name!r} must give scores [2, {classes}] of 2; got {got}")
    fits = isinstance(features, Features) and features.last.shape[:1] == (2,)
    if not fits or features.last.ndim != 2 or any(m.ndim != 4 for m in features.maps):
        raise ConfigError(
            f"the features of network {name!r} must be Features(maps, last): maps [n, C, H, W], "
            "last [n, d]"
        )
