"""Saved networks that claim what they do not hold."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import distilset
from distilset.errors import DataError
from distilset.store import DistilledSet
from tests.reporting.runs import make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def network(run, tmp_path):
    distilset.train_network(DistilledSet.load(run), network="mlp", epochs=1, device="cpu").save(
        tmp_path / "net"
    )
    return tmp_path / "net"


def refacted(file, **changes):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()["distilset"])
    save_file(load_file(file), file, {"distilset": json.dumps(facts | changes)})


@pytest.mark.parametrize(
    "changes",
    [
        {"image": [3, 4096, 4096]},
        {"image": [3, 10**9, 10**9]},
        {"image": [True, 8, 8]},
        {"classes": [f"c{i}" for i in range(5000)]},
        {"classes": ["\x1b[2J", "b", "c"]},
        {"mean": ["a", 0, 0]},
        {"std": [0, 1, 1]},
        {"std": [1e400, 1, 1]},
        {"zca": True},
    ],
)
def test_facts_of_a_network_are_checked_before_it_is_built(network, changes, monkeypatch):
    """A first layer for 4096x4096 pixels takes 25 GB, which nothing in the file holds."""
    refacted(network, **changes)
    made = []
    real = torch.nn.Linear.__init__

    def counted(self, inputs, *args, **options):
        made.append((inputs, torch.empty(0).device.type))
        real(self, inputs, *args, **options)

    monkeypatch.setattr(torch.nn.Linear, "__init__", counted)
    with pytest.raises(DataError, match=r"does not hold|damaged"):
        distilset.load_network(network)
    assert all(device == "meta" for _, device in made)
