"""Runs that go wrong on the way: bad numbers, and memory that runs out."""

import json
from itertools import count

import pytest

from distilset import ConfigError, DistilledSet
from distilset.checkpoint import load_checkpoint
from distilset.descent import Interrupted
from distilset.runfolder import RunFolder
from distilset.session import open_session
from distilset.store import read_settings
from tests.faulty import SHORT, Short, Twice
from tests.small import (
    ENGINE,
    NETWORK,
    PULL,
    call,
    content,
    distil,
    metrics,
    splits,
    start,
    write_npz,
)

EXPLODING = {
    "method": {"name": PULL},
    "distill": {"image_lr": 4.0, "guard_every": 7},
}
"""Diverges at image learning rates of 4 and 2, and converges at 1."""

STEPS = 60


FENCED = {
    "method": {"name": "tests.faulty:Fenced"},
    "distill": {"image_lr": 4.0, "guard_every": 7, "optimizer": "adam", "schedule": "cosine"},
}
"""Goes back to steps 7 and 21, where Adam has moments and has made two updates a step."""


@pytest.fixture(scope="module")
def exploded(tmp_path_factory):
    run = tmp_path_factory.mktemp("exploded") / "run"
    seen = start(run, steps=STEPS, every=5, settings=EXPLODING)
    assert seen[-1] == STEPS
    assert len(seen) > STEPS
    return run


def saved(run):
    found = load_checkpoint(run)
    assert found is not None
    assert found[1] == []
    return found[0]


def losses(run):
    lines = metrics(run)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


def test_a_run_that_explodes_goes_back_and_ends_well(exploded):
    notes = [note for note in DistilledSet.load(exploded).card.notes if "went back" in note]
    assert len(notes) == 2
    assert "to 2 (1 of 3)" in notes[0]
    assert "to 1 (2 of 3)" in notes[1]
    assert None not in losses(exploded)
    assert losses(exploded)[-1] < max(losses(exploded)) / 1e6


@pytest.mark.parametrize("every", [1, 13, 1000])
def test_when_checkpoints_are_written_changes_nothing_of_it(exploded, tmp_path, every):
    start(tmp_path / "run", steps=STEPS, every=every, settings=EXPLODING)
    assert content(tmp_path / "run") == content(exploded)
    assert losses(tmp_path / "run") == losses(exploded)


@pytest.mark.parametrize("pause", [1, 4, 11, 24])
def test_interruptions_change_nothing_of_it(exploded, tmp_path, pause):
    run = tmp_path / "run"
    for number in count(1):
        done = start_for(run, pause, resume=number > 1)
        assert (run / "checkpoint.safetensors").is_file()
        assert saved(run).state.images.isfinite().all()
        if done:
            break
        assert number < 3 * STEPS
    assert content(run) == content(exploded)
    assert losses(run) == losses(exploded)
    assert DistilledSet.load(run).card.notes == DistilledSet.load(exploded).card.notes


def start_for(run, number, settings=EXPLODING, **allowed):
    """Do so many steps; tell whether the run is finished."""
    stated = {"data": {"source": "drawn"}, "network": NETWORK, **settings}
    stated["engine"] = {**ENGINE, "checkpoint_every": 9}
    stated["distill"] = {"ipc": 1, "steps": STEPS, "batch_real": 4, **settings["distill"]}
    folder = RunFolder(run, **allowed)
    session = open_session(folder.settle(stated), splits().train, folder)
    asked = count(1)
    try:
        list(session.records(lambda: next(asked) >= number))
    except Interrupted:
        return False
    session.finish()
    return True


@pytest.fixture(scope="module")
def fenced(tmp_path_factory):
    run = tmp_path_factory.mktemp("fenced") / "run"
    start(run, steps=STEPS, every=5, settings=FENCED)
    added, *notes = DistilledSet.load(run).card.notes
    assert added.startswith("beyond the papers: images that descend with Adam, an image learning")
    assert [note.split(" a loss")[0] for note in notes] == ["after step 7", "after step 21"]
    return run


@pytest.mark.parametrize("pause", [1, 4, 11])
def test_interruptions_change_nothing_of_adam_under_a_falling_rate(fenced, tmp_path, pause):
    run = tmp_path / "run"
    for number in count(1):
        done = start_for(run, pause, FENCED, resume=number > 1)
        assert set(saved(run).state.moments) <= {"momentum", "square"}
        assert saved(run).state.updates == 2 * saved(run).state.step
        if done:
            break
        assert number < 3 * STEPS
    assert content(run) == content(fenced)
    assert losses(run) == losses(fenced)
    assert (run / "checkpoint.safetensors").stat().st_size
    assert saved(run).state.images.equal(saved(fenced).state.images)


def test_the_terminal_says_so_while_it_runs(capsys, tmp_path):
    data = write_npz(tmp_path / "data.npz")
    args = ["--method", PULL, "--steps", 40, "--set", "distill.image_lr=4", "--compile", "off"]
    args += ["--ipc", 1, "--set", "distill.guard_every=7", "--out", tmp_path / "run"]
    code, out, err = call(capsys, "distill", data, *args)
    assert code == 0
    assert err.index("(1 of 3)") < err.index("(2 of 3)") < len(err)
    assert "Traceback" not in out + err


def test_it_gives_up_after_three_and_the_last_checkpoint_is_good(tmp_path):
    run = tmp_path / "run"
    settings = {"method": {"name": "tests.faulty:Hopeless"}, "distill": {"guard_every": 2}}
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"after step 2 a loss or an image .* 3 halvings"):
            start(run, every=1, settings=settings, resume=resume)
        progress = saved(run)
        assert progress.state.step in (2, 3)
        assert progress.state.images.isfinite().all()


def test_without_a_folder_it_goes_back_too():
    made = distil(method=PULL, steps=40, settings={"distill": EXPLODING["distill"]})
    assert [note[-7:] for note in made.card.notes] == ["1 of 3)", "2 of 3)"]


# Memory that runs out


def test_a_chunk_too_large_is_halved_recorded_and_used_again(tmp_path, monkeypatch):
    run = tmp_path / "run"
    settings = {"method": {"name": SHORT}, "engine": {"chunk": 9}}
    assert start(run, settings=settings, stop_at=5) == [1, 2, 3, 4, 5]
    assert read_settings(run)["engine"]["chunk"] == 2
    monkeypatch.setattr(Short, "at", 100)  # memory would suffice now: the chunk stays
    assert start(run, settings=settings, resume=True) == [6]
    assert read_settings(run)["engine"]["chunk"] == 2
    card = DistilledSet.load(run).card
    assert [note for note in card.notes if "memory ran out" in note] == [
        f"after step 3 memory ran out with {a} images in one pass (CUDA out of memory. Tried to "
        f"allocate 9.00 GiB): engine.chunk is {b} now"
        for a, b in ((9, 4), (4, 2))
    ]
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ConfigError, match=r"engine\.chunk: 2 -> 5"):
        start(run, steps=7, settings={**settings, "engine": {"chunk": 5}}, resume=True)


def test_a_halved_chunk_gives_the_bytes_of_a_run_with_it_from_there(tmp_path, monkeypatch):
    monkeypatch.setattr(Short, "at", 0)
    short = {"method": {"name": SHORT}, "engine": {"chunk": 9}}
    start(tmp_path / "probed", settings=short)  # memory runs out in the probe already
    start(tmp_path / "small", settings={"method": {"name": SHORT}, "engine": {"chunk": 2}})
    assert content(tmp_path / "probed") == content(tmp_path / "small")
    assert read_settings(tmp_path / "probed")["made"]["first_chunk"] == 9


def test_a_bank_is_built_anew_with_the_smaller_chunk(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILSET_CACHE", str(tmp_path / "cache"))
    settings = {"method": {"name": SHORT}, "engine": {"chunk": 4}, "distill": {"bank": 3}}
    start(tmp_path / "run", settings=settings)
    assert DistilledSet.load(tmp_path / "run").card.steps == 6
    (key,) = (tmp_path / "cache" / "banks").glob("*/key.json")
    assert json.loads(key.read_text())["settings"]["chunk"] == 2
    assert len({path.stat().st_size for path in key.parent.glob("*.f16")} - {0}) >= 1


def test_a_step_that_was_half_done_is_not_gone_on_with(tmp_path, monkeypatch):
    settings = {
        "method": {"name": "tests.faulty:Twice"},
        "distill": {"image_lr": 0.1, "guard_every": 3},
    }
    start(tmp_path / "whole", settings=settings)
    monkeypatch.setattr(Twice, "failures", [4])
    seen = start(tmp_path / "torn", settings=settings)
    assert seen == [1, 2, 3, 4, 4, 5, 6]
    assert content(tmp_path / "torn") == content(tmp_path / "whole")
    assert [line["step"] for line in metrics(tmp_path / "torn")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_where_a_smaller_chunk_is_no_help_there_is_advice(tmp_path, monkeypatch, norm):
    monkeypatch.setattr(Short, "fits", 0)
    settings = {"method": {"name": SHORT}, "network": {"norm": norm}}
    told = {"batch": "BatchNorm takes its batch whole", "instance": "with one image in a pass"}
    with pytest.raises(ConfigError, match=f"memory ran out.*{told[norm]}.*smaller network"):
        start(tmp_path / "run", settings=settings)
    assert saved(tmp_path / "run").state.step >= 2
