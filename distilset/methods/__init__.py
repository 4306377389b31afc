"""Methods by name; ``package.module:Class`` names anybody else's."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from distilset.errors import ConfigError, unknown_name
from distilset.methods.atom import ATOM
from distilset.methods.base import Method
from distilset.methods.datadam import DataDAM
from distilset.methods.dm import DM
from distilset.methods.frepo import FRePo
from distilset.methods.mtt import MTT

__all__ = ["METHODS", "Method", "get_method"]

METHODS: Mapping[str, type[Any]] = {
    "atom": ATOM,
    "datadam": DataDAM,
    "dm": DM,
    "frepo": FRePo,
    "mtt": MTT,
}


def get_method(name: str) -> type[Any]:
    """Return the class of a method (see `Method`).

    ``package.module:Class`` is imported: only the command line and Python may name code this way.
    """
    if ":" not in name:
        if name not in METHODS:
            raise unknown_name("method", name, [*METHODS, "package.module:Class"])
        return METHODS[name]
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"method {name!r} cannot be imported: {error}") from None
    missing = [a for a in ("Config", "defaults", "episode") if not hasattr(found, a)]
    if missing:
        raise ConfigError(
            f"method {name!r} lacks {', '.join(missing)}; see docs/adding-a-method.md"
        )
    return found
