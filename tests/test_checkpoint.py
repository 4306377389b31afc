import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distilset.checkpoint import CURRENT, FRESH, PREVIOUS, load_checkpoint, save_checkpoint
from distilset.errors import DataError
from distilset.optimise import State
from tests.small import mutations


def state(step, momentum=True):
    images = torch.full((2, 1, 4, 4), float(step))
    return State(images, images * 2 if momentum else None, step)


def loaded(run):
    found = load_checkpoint(run)
    assert found is not None
    return found


@pytest.mark.parametrize("momentum", [True, False])
def test_what_was_saved_comes_back(tmp_path, momentum):
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, state(3, momentum), 1.5)
    found, seconds, problems = loaded(tmp_path)
    assert torch.equal(found.images, state(3).images)
    assert (found.momentum is not None) == momentum
    assert (found.step, seconds, problems) == (3, 1.5, [])


def test_the_previous_one_is_kept_and_no_more(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, state(step), 0.0)
    assert {p.name for p in tmp_path.iterdir()} == {CURRENT, PREVIOUS}
    assert loaded(tmp_path)[0].step == 3
    (tmp_path / CURRENT).unlink()
    assert loaded(tmp_path)[0].step == 2


def test_a_kill_between_the_renames_loses_nothing(tmp_path):
    save_checkpoint(tmp_path, state(1), 0.0)
    save_checkpoint(tmp_path, state(2), 0.0)
    (tmp_path / CURRENT).rename(tmp_path / FRESH)
    found, _, problems = loaded(tmp_path)
    assert found.step == 2
    assert problems == []
    save_checkpoint(tmp_path, state(3), 0.0)
    assert loaded(tmp_path)[0].step == 3


def test_any_damage_is_noticed_and_the_previous_one_used(tmp_path):
    save_checkpoint(tmp_path, state(1), 0.0)
    save_checkpoint(tmp_path, state(2), 0.0)
    whole = (tmp_path / CURRENT).read_bytes()
    for damaged in mutations(whole, 60):
        if damaged == whole:
            continue
        (tmp_path / CURRENT).write_bytes(damaged)
        found, _, problems = loaded(tmp_path)
        if found.step == 2:  # the change hit the spent seconds, which no hash covers
            assert torch.equal(found.images, state(2).images)
            continue
        assert found.step == 1
        assert len(problems) == 1
        assert problems[0].startswith(f"{CURRENT} is damaged (")


def test_a_sentence_says_that_none_can_be_used(tmp_path):
    save_checkpoint(tmp_path, state(1), 0.0)
    save_checkpoint(tmp_path, state(2), 0.0)
    for name in (CURRENT, PREVIOUS):
        (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(DataError, match="no usable checkpoint") as caught:
        load_checkpoint(tmp_path)
    assert all(word in str(caught.value) for word in (CURRENT, PREVIOUS, "--overwrite"))


@pytest.mark.parametrize(
    "facts",
    ["3", "[]", "null", "{}", '{"version": "x"}', '{"version": 9, "step": 1, "hash": ""}', "{"],
)
def test_facts_that_are_none_are_damage(tmp_path, facts):
    save_file({"images": torch.zeros(1, 1, 2, 2)}, tmp_path / CURRENT, metadata={"state": facts})
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_checkpoint(tmp_path)


def test_other_contents_than_was_hashed_are_damage(tmp_path):
    save_checkpoint(tmp_path, state(1), 0.0)
    tensors = load_file(tmp_path / CURRENT)
    tensors["momentum"] += 1
    facts = {"version": 1, "step": 1, "seconds": 0.0, "hash": "0"}
    save_file(tensors, tmp_path / CURRENT, metadata={"state": json.dumps(facts)})
    with pytest.raises(DataError, match="does not fit its hash"):
        load_checkpoint(tmp_path)
