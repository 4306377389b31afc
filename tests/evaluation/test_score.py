import json

import numpy as np
import pytest

from distilset.evaluation import Score

FACTS = {
    "run": "runs/a",
    "method": "atom",
    "dataset": "digits",
    "ipc": 1,
    "network": "convnet",
    "norm": "instance",
    "protocol": "dm",
    "epochs": 1000,
    "labels": "hard",
    "augmentation": "dsa",
    "split": "test",
    "images": 10,
    "seed": 0,
    "device": "cpu",
}
FIELDS = [
    *("run", "method", "dataset", "ipc", "factor", "network", "norm", "protocol"),
    *("epochs", "trials"),
    *("labels", "augmentation", "pixels", "split", "images", "seed", "device"),
    *("accuracy_mean", "accuracy_std", "accuracies", "seconds"),
]


def test_arithmetic_is_numpys():
    values = [54.1, 53.0, 55.4, 54.9]
    score = Score.of(values, seconds=1.0, **FACTS)
    assert score.trials == 4
    assert score.accuracy_mean == pytest.approx(np.mean(values))
    assert score.accuracy_std == pytest.approx(np.std(values))


def test_row_has_the_agreed_fields_in_order():
    row = Score.of([50.0, 60.0], seconds=1.0, **FACTS).as_row()
    assert list(row) == FIELDS
    assert row["accuracies"] == [50.0, 60.0]
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_divergence_is_null_in_the_row_and_nan_in_the_line():
    score = Score.of([50.0, float("nan")], seconds=1.0, **FACTS)
    assert score.as_row()["accuracies"] == [50.0, None]
    assert score.as_row()["accuracy_mean"] is None
    assert "accuracy nan" in str(score)


def test_line():
    assert str(Score.of([50.0, 51.0], seconds=1.0, **FACTS)).startswith(
        "accuracy 50.50 ± 0.50 % (2 networks, atom on digits, ipc 1"
    )
    assert "(1 network," in str(Score.of([50.0], seconds=1.0, **FACTS))
