"""Starting, stopping and going on: sessions, run folders, metrics."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import distilset
from distilset import ConfigError, DataError, DistilledSet
from distilset.checkpoint import CURRENT, PREVIOUS, load_checkpoint
from distilset.runfolder import RunFolder
from distilset.runs import Interrupted
from distilset.session import open_session
from tests.small import (
    ARGS,
    ENGINE,
    NETWORK,
    PULL,
    STRUCK,
    call,
    distil,
    metrics,
    same_images,
    splits,
    tree,
    write_npz,
)

IMAGES = "distilled.safetensors"


def start(run, steps=6, stop_at=None, every=2, **allowed):
    """Begin or resume a run in a folder and stop it after a step; return the records' steps."""
    stated = {
        "data": {"source": "drawn"},
        "distill": {"ipc": 1, "steps": steps, "batch_real": 4},
        "network": NETWORK,
        "engine": {**ENGINE, "checkpoint_every": every},
    }
    folder = RunFolder(run, **allowed)
    config = folder.settle(stated)
    session = open_session(config, splits().train, folder)
    seen = []
    try:
        for record in session.records(lambda: session.progress.state.step == stop_at):
            seen.append(record.step)
    except Interrupted as interruption:
        assert interruption.step == stop_at
        return seen
    session.finish()
    return seen


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    start(run, steps=6)
    return run


def content(run) -> bytes:
    return (run / IMAGES).read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(straight, tmp_path):
    start(tmp_path / "again")
    assert content(tmp_path / "again") == content(straight)
    first, second = (distil(steps=1, seed=seed) for seed in (0, 1))
    assert not same_images(first, second)


def test_threads_outside_a_run_do_not_change_a_whitened_one(tmp_path):
    first = distil(zca=True, steps=2)
    torch.set_num_threads(2)
    try:
        second = distil(zca=True, steps=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert same_images(first, second)
    assert first.card.zca == second.card.zca


@pytest.mark.parametrize("stop_at", [1, 2, 5])
def test_a_run_that_stops_and_goes_on_equals_one_that_does_not(straight, tmp_path, stop_at):
    run = tmp_path / "run"
    assert start(run, stop_at=stop_at) == list(range(1, stop_at + 1))
    with pytest.raises(DataError, match="not finished"):
        DistilledSet.load(run)
    assert start(run, resume=True) == list(range(stop_at + 1, 7))
    assert content(run) == content(straight)
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]
    losses = [[line["loss"] for line in metrics(folder)] for folder in (run, straight)]
    assert losses[0] == losses[1]
    seconds = [line["seconds"] for line in metrics(run)]
    assert seconds == sorted(seconds)


def test_a_stop_at_the_last_step_finishes(tmp_path):
    assert start(tmp_path / "run", steps=3, stop_at=3) == [1, 2, 3]
    assert DistilledSet.load(tmp_path / "run").card.steps == 3


def test_metrics_past_the_checkpoint_are_dropped_and_cut_lines_passed_over(tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=4)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 1.0}\n[1]\n{"step": "x"}\n{"step": 6, "lo')
    start(run, resume=True)
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]


def test_metrics_are_flushed_at_least_every_ten_steps(tmp_path):
    run = tmp_path / "run"
    stated = {"data": {"source": "drawn"}, "method": {"name": PULL}, "network": NETWORK}
    stated |= {"engine": {**ENGINE, "checkpoint_every": 1000}, "distill": {"steps": 31, "ipc": 1}}
    folder = RunFolder(run)
    session = open_session(folder.settle(stated), splits().train, folder)
    for record in session.records():
        assert len(metrics(run)) >= record.step - 9
    assert [line["step"] for line in metrics(run)] == list(range(1, 32))


def test_the_previous_checkpoint_is_used_and_named(straight, tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=4)
    (run / CURRENT).write_bytes((run / CURRENT).read_bytes()[:-5])
    assert start(run, resume=True) == [3, 4, 5, 6]
    assert content(run) == content(straight)
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert any(CURRENT in note for note in DistilledSet.load(run).card.notes)


def test_without_a_good_checkpoint_there_is_a_sentence_and_nothing_is_lost(tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=4)
    for name in (CURRENT, PREVIOUS):
        (run / name).write_bytes(b"garbage")
    before = tree(run)
    with pytest.raises(DataError, match="no usable checkpoint"):
        start(run, resume=True)
    assert tree(run) == before


def test_a_checkpoint_of_other_images_is_refused(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    start(run, stop_at=2)
    distil(ipc=2, steps=2, out=other)
    shutil.copy(other / CURRENT, run / CURRENT)
    with pytest.raises(DataError, match="the settings say"):
        start(run, resume=True)


# What may be resumed


def test_resume_starts_where_there_is_nothing_to_resume(straight, tmp_path):
    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    half.mkdir()
    (half / IMAGES).write_bytes(b"half")
    (half / ".distilled.json.99.partial").write_bytes(b"{")
    barely = tmp_path / "barely"
    barely.mkdir()
    start(tmp_path / "old", stop_at=1)
    shutil.copy(tmp_path / "old" / "run.toml", barely / "run.toml")
    for name in ("missing", "empty", "half", "barely"):
        start(tmp_path / name, resume=True)
        assert content(tmp_path / name) == content(straight)


def test_resume_does_not_touch_what_is_no_run(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="no run to go on with"):
        start(tmp_path, resume=True)
    (tmp_path / "mine.txt").unlink()
    shutil.copytree(tmp_path, tmp_path / "run")
    start(tmp_path / "run", stop_at=2)
    (tmp_path / "run" / "run.toml").unlink()
    before = tree(tmp_path)
    with pytest.raises(DataError, match="no run to go on with"):
        start(tmp_path / "run", resume=True)
    assert tree(tmp_path) == before


def test_other_settings_are_refused_with_the_list(tmp_path):
    run = tmp_path / "run"
    distil(out=run, steps=2)
    with pytest.raises(ConfigError) as caught:
        distil(out=run, resume=True, steps=2, ipc=2, method="dm", norm="batch")
    for part in ("distill.ipc: 1 -> 2", "method.name", "network.norm: 'instance' -> 'batch'"):
        assert part in str(caught.value)


def test_settings_that_were_left_open_may_be_left_open_again(tmp_path):
    run = tmp_path / "run"
    auto = {"engine": {"device": "auto", "compile": "auto", "precision": "auto", "threads": 1}}
    distil(out=run, steps=2, settings=auto)
    assert distil(out=run, resume=True, steps=4, settings=auto).card.steps == 4
    with pytest.raises(ConfigError, match=r"engine\.precision: 'fp32' -> 'bf16'"):
        distil(out=run, resume=True, steps=6, precision="bf16")


def test_other_data_are_refused(tmp_path):
    run = tmp_path / "run"
    distil(out=run, steps=2)
    with pytest.raises(DataError, match="made from other data"):
        distil(splits(counts=(5, 6, 6)).train, out=run, resume=True, steps=4)
    assert DistilledSet.load(run).card.steps == 2


def test_other_versions_are_noted(tmp_path):
    run = tmp_path / "run"
    distil(out=run, steps=2)
    toml = (run / "run.toml").read_text()
    (run / "run.toml").write_text(toml.replace(torch.__version__, "1.0"))
    made = distil(out=run, steps=3, resume=True)
    assert any(f"torch 1.0 -> {torch.__version__}" in note for note in made.card.notes)


def test_a_selection_cannot_be_resumed(tmp_path):
    distilset.select(splits().train, "kcenter", 1).save(tmp_path / "run")
    with pytest.raises(DataError, match="holds a selection"):
        distil(out=tmp_path / "run", resume=True)


def test_code_that_only_a_file_names_is_not_imported(tmp_path, monkeypatch):
    run = tmp_path / "run"
    distil(out=run, method=PULL, steps=2)
    toml = (run / "run.toml").read_text()
    assert distil(out=run, resume=True, method=PULL, steps=3).card.steps == 3
    (run / "run.toml").write_text(toml.replace(PULL, "evil:Method"))
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="resume it with --method evil:Method"):
        distil(out=run, resume=True, steps=4)
    assert "evil" not in sys.modules


# Finished runs and longer ones


def test_a_finished_run_is_returned_as_it_is(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    before = tree(run)
    assert RunFolder(run, resume=True, earlier={}).finished(6) is not None
    made = distil(out=run, resume=True, steps=6)
    assert same_images(made, DistilledSet.load(straight))
    assert tree(run) == before


def test_a_longer_run_equals_a_straight_one(straight, tmp_path):
    run = tmp_path / "run"
    start(run, steps=2)
    assert start(run, steps=6, resume=True) == [3, 4, 5, 6]
    assert content(run) == content(straight)
    assert DistilledSet.load(run).settings["distill"]["steps"] == 6
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]


def test_a_run_stopped_while_it_is_lengthened_stays_readable(straight, tmp_path):
    run = tmp_path / "run"
    start(run, steps=2)
    short = content(run)
    start(run, steps=6, stop_at=5, resume=True)
    assert content(run) == short
    assert DistilledSet.load(run).card.steps == 2
    with pytest.raises(ConfigError, match="done 5 steps already"):
        start(run, steps=4, resume=True)
    assert content(run) == short
    assert start(run, steps=6, resume=True) == [6]
    assert content(run) == content(straight)


def test_a_run_cannot_be_shortened(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"6 steps already.*got --steps 5"):
        distil(out=run, resume=True, steps=5)
    start(tmp_path / "half", stop_at=4)
    with pytest.raises(ConfigError, match=r"done 4 steps already.*got --steps 3"):
        start(tmp_path / "half", steps=3, resume=True)


def test_lost_results_of_a_finished_run_are_made_again(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    (run / IMAGES).unlink()
    assert start(run, resume=True) == []
    assert content(run) == content(straight)


def test_a_run_of_no_steps_can_be_lengthened(straight, tmp_path):
    run = tmp_path / "run"
    start(run, steps=0)
    assert DistilledSet.load(run).card.steps == 0
    start(run, steps=6, resume=True)
    assert content(run) == content(straight)


def test_nothing_is_written_before_a_run_is_known_to_work(tmp_path):
    run = tmp_path / "run"
    for bad in ({"ipc": 7}, {"init": "nothing"}, {"norm": "bach"}, {"device": "cuda:9"}):
        with pytest.raises(ConfigError):
            distil(out=run, **bad)
    with pytest.raises(ConfigError, match="test split"):
        distil(splits().test, out=run)
    assert not run.exists()


def test_overwriting_keeps_the_old_run_until_the_new_one_is_known_to_work(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    before = tree(run)
    with pytest.raises(DataError, match="--overwrite"):
        distil(out=run)
    with pytest.raises(ConfigError):
        distil(out=run, ipc=7, overwrite=True)
    assert tree(run) == before
    (run / "mine.txt").write_text("mine")
    distil(out=run, steps=1, overwrite=True)
    assert DistilledSet.load(run).card.steps == 1
    assert len(metrics(run)) == 1
    assert (run / "mine.txt").read_text() == "mine"


def test_images_that_left_the_numbers_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"smaller distill\.image_lr"):
        distil(out=tmp_path / "run", method=PULL, image_lr=1e30, steps=4)


# Signals, in processes of their own


def command(data, run, *more):
    args = [data, "--out", run, "--steps", 6, "--checkpoint-every", 2, "--method", STRUCK]
    return ["distill", *map(str, args), *ARGS, *map(str, more)]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)]
)
def test_a_struck_run_goes_on_to_the_same_bytes(capsys, tmp_path, monkeypatch, number, code):
    data, run = write_npz(tmp_path / "data.npz"), tmp_path / "run"
    assert call(capsys, *command(data, tmp_path / "undisturbed"))[0] == 0
    monkeypatch.setenv("STRIKE", f"3:{int(number)}")
    if number == signal.SIGTERM:  # the handler is the same: no need for another process
        ended, _, err = call(capsys, *command(data, run))
    else:
        ended, err = struck(command(data, run))
    assert ended == code
    found = load_checkpoint(run)
    assert found is not None
    assert found[0].step == (2 if number == signal.SIGKILL else 4)
    if number != signal.SIGKILL:
        assert "stopped after step 4 of 6; go on with the same command and --resume" in err
        assert "Traceback" not in err
    monkeypatch.delenv("STRIKE")
    assert call(capsys, *command(data, run, "--resume"))[0] == 0
    assert content(run) == content(tmp_path / "undisturbed")
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]


def struck(args):
    done = subprocess.run(
        [sys.executable, "-m", "distilset", *args],
        cwd=Path(distilset.__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr
