"""Cards that cannot be: one sentence each."""

import json
import shutil

import pytest

from distilset import DataError, DistilledSet
from tests.small import distil


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "run"
    distil(steps=0).save(folder)
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def refusal(folder) -> str:
    with pytest.raises(DataError) as caught:
        DistilledSet.load(folder).tensors()
    text = str(caught.value)
    assert str(folder) in text
    return text


def edit_card(folder, **changes):
    path = folder / "distilled.json"
    card = json.loads(path.read_text("utf-8"))
    for key, value in changes.items():
        if key in card["dataset"] and key not in card:
            card["dataset"][key] = value
        else:
            card[key] = value
    path.write_text(json.dumps(card), "utf-8")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"schema_version": 3}, "schema version 3; this distilset reads up to 2"),
        ({"factor": 0}, "factor"),
        ({"factor": "many"}, "factor"),
        ({"factor": 3}, "factor 3 does not divide"),
        ({"factor": 4}, "less than 4 pixels"),
        ({"factor": 10**300}, "does not divide"),
        ({"schema_version": "one"}, "schema_version"),
        ({"kind": "magic"}, "kind"),
        ({"classes": "abc"}, "classes"),
        ({"classes": []}, "classes"),
        ({"classes": ["a", "b"]}, "labels outside 0..1"),
        ({"dataset": None}, "dataset"),
        ({"dataset": []}, "dataset"),
        ({"ipc": 0}, "ipc"),
        ({"ipc": "many"}, "ipc"),
        ({"steps": -1}, "steps"),
        ({"mean": [0.5]}, "mean (0.5,)"),
        ({"mean": [0.5], "std": [0.5]}, "channels"),
        ({"mean": [], "std": []}, "mean ()"),
        ({"std": [0.0, 1.0, 1.0]}, "std above 0"),
        ({"std": [-1.0, 1.0, 1.0]}, "std above 0"),
        ({"mean": [float("nan"), 0.0, 0.0]}, "NaN is no number"),
        ({"mean": [1e400, 0.0, 0.0]}, "Infinity is no number"),
        ({"std": ["a", 1, 1]}, "std"),
        ({"image": [3, 8]}, "image"),
        ({"image": [1, 8, 8]}, "the card says float32 [n, 1, 8, 8]"),
        ({"image": [-3, 8, 8]}, "the card says"),
        ({"versions": [1]}, "versions"),
        ({"zca": "abc"}, "is missing: the run's images are whitened"),
        ({"zca": 5}, "zca"),
    ],
)
def test_cards_that_cannot_be_are_refused(copy, changes, part):
    edit_card(copy, **changes)
    assert part in refusal(copy)


def test_unknown_facts_of_a_card_are_passed_over(copy):
    edit_card(copy, mood="good")
    assert len(DistilledSet.load(copy)) == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "[" * 100000, '{"kind": ' * 5, "\udcff"]
)
def test_a_card_that_is_no_card_is_refused(copy, text):
    (copy / "distilled.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "is damaged" in refusal(copy)
