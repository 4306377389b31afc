"""Dataset distillation: a folder of labelled images in, a few synthetic images per class out."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "load_data": "distilset.data",
    "distill": "distilset.api",
    "select": "distilset.api",
    "evaluate": "distilset.api",
    "report": "distilset.reporting",
    "continual": "distilset.apps.continual",
    "ReplayMemory": "distilset.apps.memory",
    "train_network": "distilset.api",
    "load_network": "distilset.trained",
    "import_set": "distilset.exchange",
    "export_set": "distilset.exchange",
    "search": "distilset.apps.nas",
    "DistilledSet": "distilset.store",
    "ImageSet": "distilset.types",
    "Splits": "distilset.types",
    "ConfigError": "distilset.errors",
    "DataError": "distilset.errors",
}

__all__ = [
    "ConfigError",
    "DataError",
    "DistilledSet",
    "ImageSet",
    "ReplayMemory",
    "Splits",
    "__version__",
    "continual",
    "distill",
    "evaluate",
    "export_set",
    "import_set",
    "load_data",
    "load_network",
    "report",
    "search",
    "select",
    "train_network",
]

if TYPE_CHECKING:
    from distilset.api import distill, evaluate, select, train_network
    from distilset.apps.continual import continual
    from distilset.apps.memory import ReplayMemory
    from distilset.apps.nas import search
    from distilset.data import load_data
    from distilset.errors import ConfigError, DataError
    from distilset.exchange import export_set, import_set
    from distilset.reporting import report
    from distilset.store import DistilledSet
    from distilset.trained import load_network
    from distilset.types import ImageSet, Splits


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``import distilset`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'distilset' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
