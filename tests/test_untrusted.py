"""Text, numbers and code that loading a run or a setting once stumbled over, each with its test."""

import json
import math
import os
import struct

import pytest
import torch
from PIL import Image

from distilset import untrusted
from distilset.checkpoint import CURRENT, PREVIOUS, load_checkpoint, save_checkpoint
from distilset.errors import ConfigError, DataError
from distilset.guard import Progress
from distilset.optimise import State
from distilset.reporting.collect import read_run
from distilset.reporting.page import Real, compose, to_html
from distilset.stated import load_preset, named_code
from distilset.store import DistilledSet
from tests.reporting.runs import add_baseline, add_scores, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    ["a." * 300 + "a=1", "a=" + "[" * 5000, "a=0x" + "f" * 5000, "a=" + "9" * 5000, '"\\ud800"=1'],
)
def test_toml_that_would_take_hours_or_cannot_be_printed(tmp_path, text):
    (tmp_path / "x.toml").write_text(f"[distill]\n{text}\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_preset(str(tmp_path / "x.toml"))


def test_text_larger_than_any_of_ours_is_not_read(tmp_path, run):
    with (run / "run.toml").open("wb") as file:
        file.truncate(untrusted.MOST_TOML + 1)
    with pytest.raises(DataError, match="more than"):
        DistilledSet.load(run)
    with pytest.raises(ConfigError, match="more than"):
        load_preset(str(run / "run.toml"))


def test_a_pipe_is_not_waited_for(tmp_path, run):
    """As run.toml it would be no regular file; as a checkpoint reading it would never end."""
    images = torch.zeros(1, 1, 4, 4)
    for step in (1, 2):
        save_checkpoint(tmp_path, Progress(State(images, {}, step)))
    (tmp_path / CURRENT).unlink()
    os.mkfifo(tmp_path / CURRENT)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found[0].state.step == 1
    assert "no regular file" in found[1][0]
    assert (tmp_path / PREVIOUS).is_file()


def test_a_header_that_claims_gigabytes(run):
    (run / "distilled.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(DataError, match="header claims"):
        DistilledSet.load(run)


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"step": 1, "loss": 1%s, "seconds": 1}' % ("0" * 400), '{"step": true}',
     '{"step": 3, "loss": 1e999, "seconds": 1}', '{"step": 3, "loss": 5e-324, "seconds": 1e300}'],
)  # fmt: skip
def test_lines_of_metrics_that_are_none(run, line):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"\n{line}\n")
    facts = read_run(run)
    assert len(facts.losses) in (4, 5)
    assert "<svg" in to_html(compose([facts], {facts.name: Real(None)}))


@pytest.mark.parametrize(
    "changes",
    [{"ipc": []}, {"ipc": "x"}, {"images": 1e300}, {"accuracies": [1e300, 0]}, {"seconds": -1}],
)
def test_baselines_that_cannot_be(run, changes):
    add_baseline(run, "random", [50.0])
    row = json.loads((run / "baselines.jsonl").read_text())
    (run / "baselines.jsonl").write_text(json.dumps(row | changes) + "\n")
    with pytest.raises(DataError, match=r"baselines.jsonl is damaged"):
        read_run(run)


@pytest.mark.parametrize("accuracy", ["inf", "1e300", "-5"])
def test_accuracies_that_cannot_be(run, accuracy):
    add_scores(run, [accuracy])
    with pytest.raises(DataError, match="no accuracy"):
        read_run(run)


@pytest.mark.parametrize(
    "network",
    [
        {"name": "convnet:evil"},
        {"name": "convnet", "pool": ["convnet:width=8,evil_module:Net"]},
        {"name": "evil_module:Net"},
        {"name": "mlp", "pool": ["evil_module:Net:width=8"]},
    ],
)
def test_no_file_names_code_in_whatever_disguise(tmp_path, network):
    """``convnet:evil`` would import a module that is called convnet."""
    assert "--network" in named_code({"network": network})
    (tmp_path / "x.toml").write_text(
        "[network]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in network.items())
    )
    with pytest.raises(ConfigError, match="names code to import"):
        load_preset(str(tmp_path / "x.toml"))


def test_no_bound_refuses_what_users_have(tmp_path):
    """A card of 50,000 selected images of 1,000 classes, and axes of a long run."""
    card = {"rows": list(range(1_200_000, 1_250_000)), "classes": ["name " * 5] * 1000}
    assert len(json.dumps(card)) < untrusted.MOST_JSON / 50
    assert math.prod((12_000, 7_000)) < (Image.MAX_IMAGE_PIXELS or math.inf)
