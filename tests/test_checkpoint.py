import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from distilset.checkpoint import CURRENT, FRESH, PREVIOUS, load_checkpoint, save_checkpoint
from distilset.errors import DataError
from distilset.guard import Progress
from distilset.optimise import State
from tests.small import mutations


def state(step, momentum=True, halvings=0):
    images = torch.full((2, 1, 4, 4), float(step))
    return State(images, {"momentum": images * 2} if momentum else {}, step, halvings)


def of_adam(step, updates):
    images = torch.full((2, 1, 4, 4), float(step))
    moments = {"momentum": images * 2, "square": images * 3} if updates else {}
    return State(images, moments, step, updates=updates)


def save(run, step, **more):
    save_checkpoint(run, Progress(state(step), **more))


def loaded(run):
    found = load_checkpoint(run)
    assert found is not None
    return found


def facts_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["state"])


def rewrite(path, facts, tensors=None):
    """Put other facts into a checkpoint, and leave its hash as it is."""
    save_file(tensors or load_file(path), path, metadata={"state": json.dumps(facts)})


@pytest.mark.parametrize("momentum", [True, False])
def test_what_was_saved_comes_back(tmp_path, momentum):
    assert load_checkpoint(tmp_path) is None
    kept = state(2, momentum=not momentum, halvings=1)
    written = Progress(state(3, momentum, halvings=1), 1.5, ("one", "two"), kept)
    save_checkpoint(tmp_path, written)
    progress, problems = loaded(tmp_path)
    assert (progress.seconds, progress.notes, problems) == (1.5, ("one", "two"), [])
    for found, expected in ((progress.state, written.state), (progress.kept, kept)):
        assert_equal(found, expected)
        assert (found.step, found.halvings) == (expected.step, 1)
    assert facts_of(tmp_path / CURRENT)["version"] == 2  # earlier ones can go on from it


def assert_equal(found, expected):
    assert torch.equal(found.images, expected.images)
    assert found.moments.keys() == expected.moments.keys()
    for name, moment in expected.moments.items():
        assert torch.equal(found.moments[name], moment)
    assert (found.step, found.updates) == (expected.step, expected.updates)


@pytest.mark.parametrize("before", [0, 4])
def test_adams_second_moment_and_updates_come_back(tmp_path, before):
    written = Progress(of_adam(3, 7), kept=of_adam(2, before))
    save_checkpoint(tmp_path, written)
    progress, _ = loaded(tmp_path)
    assert_equal(progress.state, written.state)
    assert_equal(progress.kept, written.kept)
    assert facts_of(tmp_path / CURRENT)["version"] == 3  # earlier ones would forget the square


@pytest.mark.parametrize("updates", [[0, 4], [7, 0], [-1, 4], ["x", 4], [7], 7, None])
def test_updates_that_do_not_fit_the_moments_are_damage(tmp_path, updates):
    save_checkpoint(tmp_path, Progress(of_adam(3, 7), kept=of_adam(2, 4)))
    tensors, facts = load_file(tmp_path / CURRENT), facts_of(tmp_path / CURRENT)
    del facts["hash"]
    facts["updates"] = updates
    facts["hash"] = hashed_by_hand(tensors, json.dumps(facts, sort_keys=True))
    rewrite(tmp_path / CURRENT, facts, tensors)
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_checkpoint(tmp_path)


def test_a_kept_state_that_is_the_state_is_not_written_twice(tmp_path):
    save_checkpoint(tmp_path, Progress(state(3), kept=state(3)))
    assert set(load_file(tmp_path / CURRENT)) == {"images", "momentum"}
    assert loaded(tmp_path)[0].kept is None


def test_the_previous_one_is_kept_and_no_more(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert {p.name for p in tmp_path.iterdir()} == {CURRENT, PREVIOUS}
    assert loaded(tmp_path)[0].state.step == 3
    (tmp_path / CURRENT).unlink()
    assert loaded(tmp_path)[0].state.step == 2


def test_a_kill_between_the_renames_loses_nothing(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / CURRENT).rename(tmp_path / FRESH)
    progress, problems = loaded(tmp_path)
    assert progress.state.step == 2
    assert problems == []
    save(tmp_path, 3)
    assert loaded(tmp_path)[0].state.step == 3


def test_a_kill_before_the_renames_loses_nothing_either(tmp_path):
    save(tmp_path, 2)
    (tmp_path / CURRENT).rename(tmp_path / "newer")
    save(tmp_path, 1)
    (tmp_path / "newer").rename(tmp_path / FRESH)
    assert loaded(tmp_path)[0].state.step == 2
    (tmp_path / FRESH).write_bytes(b"half")
    progress, problems = loaded(tmp_path)
    assert progress.state.step == 1
    assert FRESH in problems[0]


def test_any_damage_is_noticed_and_the_previous_one_used(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2, notes=("a note",), kept=state(1))
    whole = (tmp_path / CURRENT).read_bytes()
    for damaged in mutations(whole, 60):
        if damaged == whole:
            continue
        (tmp_path / CURRENT).write_bytes(damaged)
        progress, problems = loaded(tmp_path)
        assert progress.state.step == 1
        assert len(problems) == 1
        assert problems[0].startswith(f"{CURRENT} is damaged (")


def test_a_sentence_says_that_none_can_be_used(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    for name in (CURRENT, PREVIOUS):
        (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(DataError, match="no usable checkpoint") as caught:
        load_checkpoint(tmp_path)
    assert all(word in str(caught.value) for word in (CURRENT, PREVIOUS, "--overwrite"))


@pytest.mark.parametrize(
    "facts",
    [
        *("3", "[]", "null", "{}", "{", '{"version": "x"}', '{"version": 9e999, "step": 1}'),
        *('{"version": 2, "step": 1, "hash": ""}', '{"version": [9], "step": 1}'),
    ],
)
def test_facts_that_are_none_are_damage(tmp_path, facts):
    save_file({"images": torch.zeros(1, 1, 2, 2)}, tmp_path / CURRENT, metadata={"state": facts})
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_checkpoint(tmp_path)


def test_other_contents_than_was_hashed_are_damage(tmp_path):
    save(tmp_path, 1)
    tensors, facts = load_file(tmp_path / CURRENT), facts_of(tmp_path / CURRENT)
    tensors["momentum"] += 1
    rewrite(tmp_path / CURRENT, facts, tensors)
    with pytest.raises(DataError, match="does not fit its hash"):
        load_checkpoint(tmp_path)
    for name, other in (("step", 2), ("halvings", 1), ("seconds", 9.0), ("notes", ["x"])):
        save(tmp_path, 1)
        (tmp_path / PREVIOUS).unlink()
        rewrite(tmp_path / CURRENT, {**facts_of(tmp_path / CURRENT), name: other})
        with pytest.raises(DataError, match="does not fit its hash"):
            load_checkpoint(tmp_path)


def hashed_by_hand(tensors, facts):
    from hashlib import blake2b

    hasher = blake2b(facts.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        shape = f"({', '.join(map(str, tensor.shape))})"
        hasher.update(name.encode() + shape.encode() + tensor.numpy().tobytes())
    return hasher.hexdigest()


def test_what_a_later_distilset_adds_is_passed_over(tmp_path):
    save(tmp_path, 1)
    tensors = load_file(tmp_path / CURRENT) | {"extra": torch.zeros(2, 1, 4, 4)}
    facts = {**facts_of(tmp_path / CURRENT), "weather": ["fine"]}
    del facts["hash"]
    facts["hash"] = hashed_by_hand(tensors, json.dumps(facts, sort_keys=True))
    rewrite(tmp_path / CURRENT, facts, tensors)
    assert loaded(tmp_path)[0].state.step == 1


def test_the_first_version_can_be_read(tmp_path):
    tensors = {"images": torch.rand(2, 1, 4, 4), "momentum": torch.rand(2, 1, 4, 4)}
    facts = {"version": 1, "step": 7, "seconds": 2.0, "hash": hashed_by_hand(tensors, "7")}
    save_file(tensors, tmp_path / CURRENT, metadata={"state": json.dumps(facts)})
    progress, _ = loaded(tmp_path)
    assert torch.equal(progress.state.images, tensors["images"])
    assert (progress.state.step, progress.state.halvings, progress.kept) == (7, 0, None)


def test_a_newer_version_is_refused_and_no_older_state_used(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    rewrite(tmp_path / CURRENT, {**facts_of(tmp_path / CURRENT), "version": 9})
    with pytest.raises(DataError, match="is of version 9, and this distilset reads up to 3"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_state_is_never_written(tmp_path, bad):
    save(tmp_path, 1)
    spoilt = state(2)
    spoilt.images[1, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="not finite"):
        save_checkpoint(tmp_path, Progress(spoilt))
    assert loaded(tmp_path)[0].state.step == 1
