"""Training one network, or several together, on a labelled set: protocols, steps, the loop."""

from distilset.training.protocols import PROTOCOLS, WHOLE, Protocol, get_protocol
from distilset.training.step import TrainSettings, settle
from distilset.training.trainer import Trainer, accuracy, train

__all__ = [
    "PROTOCOLS",
    "WHOLE",
    "Protocol",
    "TrainSettings",
    "Trainer",
    "accuracy",
    "get_protocol",
    "settle",
    "train",
]
