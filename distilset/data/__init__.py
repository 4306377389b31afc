"""Real images in: every source of a data set ends as ``Splits`` of uint8 images sorted by class."""

from distilset.data.known import KNOWN, KnownDataset
from distilset.data.load import load_data
from distilset.data.normalise import Transform, channel_statistics, fit_transform
from distilset.data.zca import Zca, fit_zca

__all__ = [
    "KNOWN",
    "KnownDataset",
    "Transform",
    "Zca",
    "channel_statistics",
    "fit_transform",
    "fit_zca",
    "load_data",
]
