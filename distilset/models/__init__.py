"""Networks by name, their settings, and drawing fresh ones from a keyed random stream."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Annotated, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn

from distilset.errors import ConfigError, unknown_name
from distilset.models.convnet import Activation, ConvNet, Norm, Pooling, default_depth
from distilset.models.drawing import initialise
from distilset.rng import Rng
from distilset.types import ImageSpec

__all__ = [
    "NETWORKS",
    "NORMS",
    "NetworkConfig",
    "build_network",
    "couples_images",
    "initialise",
    "network_label",
    "network_table",
    "settled",
]

NORMS: tuple[str, ...] = get_args(Norm)


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class NetworkConfig:
    """Which network, and its settings.

    ``depth`` None means by resolution: 3 stages up to 32 pixels, 4 up to 64, then 5.
    """

    name: str = "convnet"
    norm: Norm = "instance"
    width: Annotated[int, Field(ge=4, le=4096, multiple_of=4)] = 128
    depth: Annotated[int, Field(ge=1, le=12)] | None = None
    activation: Activation = "relu"
    pooling: Pooling = "avg"

    def __str__(self) -> str:
        depth = "" if self.depth is None else f"-{self.depth}"
        return f"{self.name}{depth} width {self.width}, norm {self.norm}"


def _convnet(config: NetworkConfig, spec: ImageSpec, classes: int) -> nn.Module:
    return ConvNet(
        spec,
        classes,
        width=config.width,
        depth=config.depth,
        norm=config.norm,
        activation=config.activation,
        pooling=config.pooling,
    )


NETWORKS: Mapping[str, Callable[[NetworkConfig, ImageSpec, int], nn.Module]] = {"convnet": _convnet}


def settled(config: NetworkConfig, spec: ImageSpec) -> NetworkConfig:
    """Return the same with every open setting made concrete for images of ``spec``."""
    if config.name == "convnet" and config.depth is None:
        return replace(config, depth=default_depth(spec))
    return config


def network_label(config: NetworkConfig, spec: ImageSpec) -> str:
    """Return the name with the options, but for norm, that differ from the defaults.

    Example:
        >>> network_label(NetworkConfig(width=64, depth=3), ImageSpec(3, 32, 32))
        'convnet:width=64'
    """
    usual = asdict(settled(NetworkConfig(name=config.name, norm=config.norm), spec))  # type: ignore[call-overload]
    own = asdict(settled(config, spec))  # type: ignore[call-overload]
    options = [f"{key}={value}" for key, value in own.items() if value != usual[key]]
    return ":".join([config.name, ",".join(options)]) if options else config.name


def build_network(config: NetworkConfig, spec: ImageSpec, classes: int) -> nn.Module:
    """Build a network for images of ``spec``; its weights are to be drawn with ``initialise``."""
    if config.name not in NETWORKS:
        raise unknown_name("network", config.name, NETWORKS)
    if not 1 <= spec.channels <= 4:
        raise ConfigError(f"networks take 1 to 4 channels; got images of {spec}")
    if min(spec.height, spec.width) < 4:
        raise ConfigError(f"networks take images of 4x4 pixels and more; got {spec}")
    with Rng(0).as_global("construction"):  # building draws weights: keep the caller's state
        return NETWORKS[config.name](config, spec, classes)


def couples_images(network: nn.Module) -> bool:
    """Tell whether an image's features depend on the other images of its batch (BatchNorm)."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def network_table(text: str) -> dict[str, object]:
    """Read ``name`` or ``name:key=value,...``, e.g. ``convnet:depth=4,width=256``, to settings."""
    name, _, options = text.partition(":")
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    values: dict[str, object] = {"name": name}
    for option in filter(None, options.split(",")):
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals:
            raise ConfigError(f"network options are key=value; got {option!r} in {text!r}")
        values[key] = int(value) if value.isdecimal() else value
    return values
