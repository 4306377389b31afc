"""Training fresh networks on a small set and scoring them on held-out images."""

from distilset.evaluation.baselines import BASELINES, score_baseline
from distilset.evaluation.judge import Trainers, TrialResult
from distilset.evaluation.matrix import Entry, Request, append_scores, matrix
from distilset.evaluation.runner import score_images
from distilset.evaluation.score import Score
from distilset.training.protocols import PROTOCOLS, WHOLE, Protocol, get_protocol
from distilset.training.step import TrainSettings
from distilset.training.trainer import Trainer, accuracy, train

__all__ = [
    "BASELINES",
    "PROTOCOLS",
    "WHOLE",
    "Entry",
    "Protocol",
    "Request",
    "Score",
    "TrainSettings",
    "Trainer",
    "Trainers",
    "TrialResult",
    "accuracy",
    "append_scores",
    "get_protocol",
    "matrix",
    "score_baseline",
    "score_images",
    "train",
]
