"""Search spaces: lists of networks, and of ways to train one, by name, file or Python."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from itertools import product
from math import isfinite, prod
from pathlib import Path
from typing import Any

from distilset.augment import OPERATIONS, AugmentConfig
from distilset.errors import ConfigError, unknown_name
from distilset.models import NetworkConfig, is_own, names_code, network_config, network_table
from distilset.models import settled as settled_network
from distilset.models.config import OPTIONS
from distilset.training.protocols import Protocol
from distilset.types import ImageSpec
from distilset.untrusted import MOST_TOML, parse_toml, read_text

TRAINING = ("lr", "weight_decay", "augmentation")
"""Factors that are no option of a network but of its training."""

MOST_MEMBERS = 100_000
"""Combinations of levels in a space; a few lines of a file could ask for billions."""


@dataclass(frozen=True)
class Member:
    """A network of a space, and where its training departs from the protocol.

    ``lr`` and ``weight_decay`` take the place of the protocol's, on proxies and on the whole data;
    ``augmentation`` is ``none``, ``dsa``, or operations of DSA with ``+`` between
    (``crop+flip``). None leaves the protocol's.

    Raises:
        ConfigError: a number or an operation that cannot be.
    """

    network: NetworkConfig
    lr: float | int | None = None
    weight_decay: float | int | None = None
    augmentation: str | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "augmentation"):
            _check(name, getattr(self, name))
        if self.network.pool:
            raise ConfigError(f"a member of a space is one network; got a pool ({self.network})")
        if self.augmentation is not None:
            self.operations(AugmentConfig())

    @cached_property
    def name(self) -> str:
        """All options of the network, as the command line writes them, then of its training."""
        own = [f"{key}={value}" for key, value in self.levels.items() if key in OPTIONS]
        network = self.network.name
        if own and not is_own(network):
            network += ":" + ",".join(own)
        training = [f"{key}={value}" for key, value in self.levels.items() if key in TRAINING]
        return "; ".join([network, ",".join(training)]) if training else network

    @cached_property
    def levels(self) -> dict[str, str]:
        """The level of every factor that this member states."""
        stated = {key: getattr(self.network, key) for key in OPTIONS}
        stated |= {key: getattr(self, key) for key in TRAINING}
        shown = {key: f"{v:g}" if isinstance(v, float) else str(v) for key, v in stated.items()}
        return {"network": self.network.name} | {k: v for k, v in shown.items() if v != "None"}

    def protocol(self, base: Protocol) -> Protocol:
        """Return a protocol as this member has it."""
        stated = {"lr": self.lr, "weight_decay": self.weight_decay}
        changes: dict[str, Any] = {k: float(v) for k, v in stated.items() if v is not None}
        if self.augmentation is not None:
            changes["augment"] = self.augmentation != "none"
        return replace(base, **changes)

    def operations(self, base: AugmentConfig) -> AugmentConfig:
        """Return the augmentation as this member has it.

        Raises:
            ConfigError: an unknown operation.
        """
        if self.augmentation in (None, "none", "dsa"):
            return base
        names = tuple(str(self.augmentation).split("+"))
        for name in names:
            if name not in OPERATIONS:
                raise unknown_name("augmentation", name, ["none", "dsa", *OPERATIONS])
        return replace(base, operations=names)

    def settled(self, spec: ImageSpec) -> "Member":
        """Return the same with every open option made concrete."""
        return replace(self, network=settled_network(self.network, spec))


@dataclass(frozen=True)
class Space:
    """Networks to choose from; ``pools_fit`` leaves out those with more poolings than pixels allow.

    A ConvNet whose map would shrink below 2 pixels leaves poolings out when it is built; in a space
    that varies pooling and depth such a member is not what its name says.
    """

    name: str
    members: tuple[Member, ...]
    pools_fit: bool = False


def _check(name: str, value: Any) -> None:
    """Refuse what a setting of training cannot be; files hold anything."""
    if value is None:
        return
    if name == "augmentation":
        if not isinstance(value, str):
            raise ConfigError(f"augmentation of a space must be a text; got {value!r}")
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not number or value < 0 or (name == "lr" and not value):
        least = "above 0" if name == "lr" else "0 or more"
        raise ConfigError(f"{name} of a space must be a number {least}; got {value!r}")


def factorial(
    name: str, network: Mapping[str, Any], factors: Mapping[str, Any], **options: Any
) -> Space:
    """Return the space of all combinations of levels; factors are options or `TRAINING`.

    Raises:
        ConfigError: an unknown factor, one without levels, a level that the network does not take.
    """
    for factor, levels in factors.items():
        if factor not in (*OPTIONS, *TRAINING):
            raise unknown_name("factor", factor, [*OPTIONS, *TRAINING])
        if not isinstance(levels, list | tuple) or not levels:
            raise ConfigError(f"factor {factor} needs a list of levels; got {levels!r}")
        for level in levels if factor in TRAINING else ():
            _check(factor, level)
    if prod(len(levels) for levels in factors.values()) > MOST_MEMBERS:
        raise ConfigError(f"space {name} has more than {MOST_MEMBERS:,} combinations of levels")
    members = []
    for values in product(*factors.values()):
        own = dict(zip(factors, values, strict=True))
        training = {key: own.pop(key) for key in TRAINING if key in own}
        members.append(Member(network_config({**network, **own}), **training))
    return Space(name, tuple(members), **options)


def convnet720(_network: Mapping[str, Any]) -> Space:
    """Return the 720 ConvNets of DC's line of work (Zhao et al., DC, ICLR 2021, section 4.3)."""
    factors = {
        "width": (32, 64, 128, 256),
        "depth": (1, 2, 3, 4),
        "norm": ("none", "batch", "layer", "instance", "group"),
        "activation": ("sigmoid", "relu", "leakyrelu"),
        "pooling": ("none", "max", "avg"),
    }
    return factorial("convnet720", {"name": "convnet"}, factors, pools_fit=True)


def hyper(network: Mapping[str, Any]) -> Space:
    """Return 60 ways to train one network: learning rate, weight decay, augmentation."""
    factors = {
        "lr": (0.004, 0.01, 0.02, 0.04, 0.1),
        "weight_decay": (0.0, 5e-4, 5e-3),
        "augmentation": ("none", "dsa", "crop+flip", "color+cutout"),
    }
    return factorial("hyper", network, factors)


SPACES: Mapping[str, Callable[[Mapping[str, Any]], Space]] = {
    "convnet720": convnet720,
    "hyper": hyper,
}
"""Spaces by name; those over training take the network that is fixed."""

Given = str | Space | Iterable[NetworkConfig | Member | str]


def get_space(given: Given, network: Mapping[str, Any]) -> Space:
    """Return a space: by name, from a TOML file, from ``module:function``, or of a list.

    ``network`` is the one that a space over training is about.

    Raises:
        ConfigError: an unknown space, or one that cannot be read.
    """
    if isinstance(given, Space):
        return given
    if not isinstance(given, str):
        return _listed("own", given)
    if given in SPACES:
        return SPACES[given](network)
    if given.endswith(".toml"):
        return _from_file(Path(given), network)
    if ":" in given:
        return _listed(given, _imported(given))
    raise unknown_name("space", given, [*SPACES, "FILE.toml", "module:function"])


def _from_file(path: Path, network: Mapping[str, Any]) -> Space:
    """Read ``network`` (a text, may be left out) and ``[factors]`` from a file."""
    try:
        table = parse_toml(read_text(path, MOST_TOML))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from None
    text, factors = table.pop("network", None), table.pop("factors", None)
    if table or not isinstance(factors, dict) or not isinstance(text, str | None):
        raise ConfigError(f"{path} must have a table [factors] and may have network = 'NAME'")
    if text is not None and names_code(text):
        raise ConfigError(f"{path} names code to import ({text!r}), which a file may not")
    return factorial(path.stem, network if text is None else network_table(text), factors)


def _imported(text: str) -> Any:
    module, _, attribute = text.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"space {text!r} cannot be imported: {error}") from None
    return found() if callable(found) else found


def _listed(name: str, given: Any) -> Space:
    if isinstance(given, Space):
        return given
    try:
        items = list(given)
    except TypeError:
        raise ConfigError(
            f"space {name!r} must give a list of networks; got {type(given).__name__}"
        ) from None
    members = tuple(_member(item) for item in items)
    return Space(name, members)


def _member(item: object) -> Member:
    if isinstance(item, Member):
        return item
    if isinstance(item, NetworkConfig):
        return Member(item)
    if isinstance(item, str):
        return Member(network_config(network_table(item)))
    raise ConfigError(
        "a space is of NetworkConfig, Member or texts like 'convnet:width=64'; "
        f"got {type(item).__name__}"
    )
