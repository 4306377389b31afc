"""Selectors pick real images: the initial images of a distillation, and baselines too.

A selector maps a training set and a number of images per class to rows of that set. `SELECTORS` is
the table of those that have a name.
"""

from distilset.errors import unknown_name
from distilset.selectors import el2n, forgetting, herding, kcenter, kmeans, random
from distilset.selectors.base import Features, Selector

SELECTORS: dict[str, Selector] = {
    "random": random.select,
    "herding": herding.select,
    "kcenter": kcenter.select,
    "kmeans": kmeans.select,
    "forgetting": forgetting.select,
    "el2n": el2n.select,
}

__all__ = ["SELECTORS", "Features", "Selector", "get_selector"]


def get_selector(name: str) -> Selector:
    """Return the selector of that name.

    Raises:
        ConfigError: if there is none.

    """
    if name not in SELECTORS:
        raise unknown_name("selector", name, SELECTORS)
    return SELECTORS[name]
