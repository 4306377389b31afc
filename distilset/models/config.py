"""Which network, or pool of networks: names, options, and reading both from text."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from inspect import signature
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from distilset.errors import ConfigError, unknown_name
from distilset.models.alexnet import AlexNet
from distilset.models.convnet import ConvNet, default_depth
from distilset.models.layers import Activation, Norm, Pooling
from distilset.models.lenet import LeNet
from distilset.models.mlp import MLP
from distilset.models.resnet import ResNet18
from distilset.models.vgg import VGG, VGG13, VGG16, VGG19
from distilset.models.vit import ViT, default_heads, default_patch
from distilset.types import ImageSpec

NETWORKS: Mapping[str, type[Any]] = {
    "convnet": ConvNet,
    "mlp": MLP,
    "lenet": LeNet,
    "alexnet": AlexNet,
    "vgg11": VGG,
    "vgg13": VGG13,
    "vgg16": VGG16,
    "vgg19": VGG19,
    "resnet18": ResNet18,
    "vit": ViT,
}
"""Networks by name; the keyword arguments of a class are its options, with their defaults."""

NORMS: tuple[Norm, ...] = get_args(Norm)
OPEN: Any = None
"""Stands for the network's own default until `NetworkConfig` has put that in."""


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class NetworkConfig:
    """Which network, and its settings.

    Settings that are left out take the network's own defaults; those a network does not have stay
    None. ``depth`` and ``patch`` None mean by resolution. ``name`` may be
    ``package.module:Callable`` with options of its own (see `distilset.models.own`). ``pool`` names
    further networks, as texts: one of all is drawn for every step.
    """

    name: str = "convnet"
    norm: Norm | Literal["own"] = OPEN
    width: Annotated[int, Field(ge=4, le=4096, multiple_of=4)] | None = None
    depth: Annotated[int, Field(ge=1, le=12)] | None = None
    activation: Activation | None = None
    pooling: Pooling | None = None
    patch: Annotated[int, Field(ge=1, le=64)] | None = None
    heads: Annotated[int, Field(ge=1, le=64)] | None = None
    pool: Annotated[
        tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)
    ] = ()

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem is not None:
            raise ValueError(problem)
        for name, value in options_of(self.name).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for text in self.pool:
            try:
                network_config(network_table(text))
            except ConfigError as error:
                raise ValueError(f"pool: {error}") from None

    def _problem(self) -> str | None:
        """Return what is wrong with the options for this network."""
        if not is_own(self.name) and self.name not in NETWORKS:
            return str(unknown_name("network", self.name, [*NETWORKS, "package.module:Callable"]))
        known = options_of(self.name)
        for option in OPTIONS:
            value = getattr(self, option)
            if value is None:
                continue
            if option not in known:
                allowed = ", ".join(name for name in known if len(choices(self.name, name)) != 1)
                return f"{self.name} has no {option}; it takes {allowed or 'no options'}"
            allowed = choices(self.name, option)
            if allowed and value not in allowed:
                return f"{option} of {self.name} must be {' or '.join(allowed)}; got {value!r}"
        return None

    def __str__(self) -> str:
        if self.pool:
            return "one a step of " + "; ".join(str(one) for one in pool_of(self))
        depth = "" if self.depth is None else f"-{self.depth}"
        width = "" if self.width is None else f" width {self.width},"
        return f"{self.name}{depth}{width or ','} norm {self.norm}"


OPTIONS = tuple(field.name for field in fields(NetworkConfig) if field.name not in ("name", "pool"))


def is_own(name: str) -> bool:
    """Tell whether a network's name is code to import."""
    return ":" in name


def options_of(name: str) -> dict[str, Any]:
    """Return the options of a network with their defaults; None is by resolution."""
    if is_own(name):
        return {"norm": "own"}
    known = signature(NETWORKS[name]).parameters.values()
    options = {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY}
    return {"norm": NETWORKS[name].norms[0], **options}


def choices(name: str, option: str) -> tuple[str, ...]:
    """Return the values that an option of a network may have; empty where any do."""
    if is_own(name):
        return ("own",)
    found = {"norm": "norms", "pooling": "poolings"}.get(option, "")
    return getattr(NETWORKS[name], found, ())


def network_config(table: Mapping[str, Any]) -> NetworkConfig:
    """Check settings of a network.

    Raises:
        ConfigError: naming the bad setting.
    """
    try:
        return NetworkConfig(**table)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"][:1])
        message = problem["msg"].removeprefix("Value error, ")
        got = f"; got {problem['input']!r}" if where else ""
        raise ConfigError(f"network {where}: {message}{got}" if where else message) from None


def inherit_norm(table: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's settings with the norm of another one's, where nothing else is stated.

    Only where both have a choice of norms and this one has that norm: the ``none`` of an MLP is
    not what a ResNet is to go without.
    """
    given, norm = str(run.get("name", "convnet")), run.get("norm")
    has_choice = given not in NETWORKS or len(choices(given, "norm")) > 1
    name = str(table.get("name", "convnet"))
    allowed = choices(name, "norm") if name in NETWORKS else ()
    takes = has_choice and len(allowed) > 1 and norm in allowed
    return {"norm": norm, **table} if takes else dict(table)


def pool_of(config: NetworkConfig) -> tuple[NetworkConfig, ...]:
    """Return the networks to draw from: the one, or all of a pool."""
    run = {"name": config.name, "norm": config.norm}
    others = (network_config(inherit_norm(network_table(text), run)) for text in config.pool)
    return (replace(config, pool=()), *others)


_BY_RESOLUTION: Mapping[str, Callable[[NetworkConfig, ImageSpec], dict[str, Any]]] = {
    "convnet": lambda config, spec: {"depth": default_depth(spec)},
    "vit": lambda config, spec: {
        "patch": default_patch(spec),
        "heads": default_heads(config.width or 0),
    },
}


def settled(config: NetworkConfig, spec: ImageSpec) -> NetworkConfig:
    """Return the same with every open setting made concrete for images of ``spec``.

    The texts of a pool stay as they were given: a resumed run compares them.
    """
    found = _BY_RESOLUTION.get(config.name, lambda config, spec: {})(config, spec)
    return replace(config, **{k: v for k, v in found.items() if getattr(config, k) is None})


def network_label(config: NetworkConfig, spec: ImageSpec) -> str:
    """Return the name with the options, but for norm, that differ from the defaults.

    Example:
        >>> network_label(NetworkConfig(width=64, depth=3), ImageSpec(3, 32, 32))
        'convnet:width=64'
    """
    if config.pool:
        return ",".join(network_label(one, spec) for one in pool_of(config))
    usual, own = settled(NetworkConfig(name=config.name), spec), settled(config, spec)
    values = {option: getattr(own, option) for option in OPTIONS if option != "norm"}
    options = [f"{key}={value}" for key, value in values.items() if value != getattr(usual, key)]
    return ":".join([config.name, ",".join(options)]) if options else config.name


def network_table(text: str) -> dict[str, object]:
    """Read networks as the command line names them to settings.

    ``name`` or ``name:key=value,...``, e.g. ``convnet:depth=4,width=256``; or several of these,
    with commas between: a pool. ``package.module:Callable:key=value,...`` is somebody's own.
    """
    first, *others = split(text)
    table = _own_table(first) if names_code(first) else _table(first)
    return {**table, "pool": others} if others else table


def split(text: str) -> list[str]:
    """Split at the commas that part networks, not at those that part options of one."""
    texts: list[str] = []
    for piece in text.split(","):
        if texts and (not piece.strip() or re.match(r"\s*\w+\s*=", piece)):
            texts[-1] += f",{piece}"
        else:
            texts.append(piece.strip())
    return texts


def names_code(text: str) -> bool:
    """Tell whether a text names a network by code to import."""
    name, colon, rest = text.partition(":")
    return bool(colon) and name not in NETWORKS and not rest.partition(":")[0].count("=")


def _own_table(text: str) -> dict[str, object]:
    for option in filter(None, text.split(":", 2)[2:3]):
        parse_options(option)
    return {"name": text}


def _table(text: str) -> dict[str, object]:
    name, _, options = text.partition(":")
    if name not in NETWORKS:
        raise unknown_name("network", name, [*NETWORKS, "package.module:Callable"])
    return {"name": name, **parse_options(options)}


def parse_options(text: str) -> dict[str, object]:
    """Read ``key=value,...``; digits are whole numbers."""
    values: dict[str, object] = {}
    for option in filter(None, text.split(",")):
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals:
            raise ConfigError(f"network options are key=value; got {option!r} in {text!r}")
        values[key] = int(value) if value.isdecimal() else value
    return values
