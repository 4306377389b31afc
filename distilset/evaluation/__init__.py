"""Training fresh networks on a small set and scoring them on held-out images."""

from distilset.evaluation.baselines import BASELINES, score_baseline
from distilset.evaluation.book import Book, append_baseline
from distilset.evaluation.cells import matrix
from distilset.evaluation.judge import Trainers, TrialResult
from distilset.evaluation.matrix import Entry, Request
from distilset.evaluation.ranking import Ranking, rank
from distilset.evaluation.runner import score_images
from distilset.evaluation.score import Score
from distilset.training.protocols import PROTOCOLS, WHOLE, Protocol, get_protocol
from distilset.training.step import TrainSettings
from distilset.training.trainer import Trainer, accuracy, train

__all__ = [
    "BASELINES",
    "PROTOCOLS",
    "WHOLE",
    "Book",
    "Entry",
    "Protocol",
    "Ranking",
    "Request",
    "Score",
    "TrainSettings",
    "Trainer",
    "Trainers",
    "TrialResult",
    "accuracy",
    "append_baseline",
    "get_protocol",
    "matrix",
    "rank",
    "score_baseline",
    "score_images",
    "train",
]
