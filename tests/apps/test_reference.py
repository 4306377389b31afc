"""Accuracies from a file or the cache: what is damaged is told, or trained again."""

import json
from math import nan

import pytest

from distilset.apps.reference import Cache, Known, read_reference, write_reference
from distilset.cache import entries
from distilset.errors import ConfigError, DataError

FACTS = {"schedule": {"lr": 0.1}, "split": "val", "data": {}, "transform": "", "augmentation": ""}
GOOD = Known(90.0, 80.0, 1.5, "eager")
ODD = [
    ("accuracy", "90"),
    ("accuracy", True),
    ("accuracy", 100.5),
    ("test", -1),
    ("test", [80]),
    ("seconds", "nan"),
    ("seconds", None),
    ("compute", None),
    ("compute", ["eager"]),
]


@pytest.mark.parametrize(("name", "value"), ODD)
def test_values_of_another_kind_are_refused(tmp_path, name, value):
    file = tmp_path / "reference.json"
    write_reference(file, FACTS, {"a": GOOD, "b": Known(nan, None, 1.0, "eager")})
    assert read_reference(file, FACTS)["a"] == Known(90.0, 80.0, 1.5, "eager", "reference.json")
    table = json.loads(file.read_text())
    table["networks"]["a"][name] = value
    file.write_text(json.dumps(table))
    with pytest.raises(DataError, match="is no reference file"):
        read_reference(file, FACTS)


def test_differences_are_one_line(tmp_path):
    file = tmp_path / "reference.json"
    write_reference(file, {**FACTS, "schedule": {"a\n\x1b[2Jb": 1}}, {})
    with pytest.raises(ConfigError) as caught:
        read_reference(file, FACTS)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "value"), [*ODD, ("accuracy", None), ("accuracy", nan)])
def test_a_damaged_entry_of_the_cache_is_none(name, value):
    cache = Cache(FACTS)
    cache.write({"member": "a"}, GOOD)
    assert cache.read({"member": "a"}) == Known(90.0, 80.0, 1.5, "eager", "cache")
    (entry,) = entries()
    assert entry.kind == "reference"
    document = json.loads(entry.path.read_text())
    document["result"][name] = value
    entry.path.write_text(json.dumps(document))
    assert cache.read({"member": "a"}) is None


def test_what_diverged_is_not_kept():
    cache = Cache(FACTS)
    for known in (Known(nan, 80.0, 1.0, "eager"), Known(90.0, nan, 1.0, "eager")):
        cache.write({"member": "a"}, known)
    assert entries() == []
