"""What a run writes for TensorBoard, read back by TensorBoard's own reader."""

import shutil

import pytest

from distilset import live
from distilset.errors import ConfigError
from distilset.runs import Interrupted
from distilset.session import Session
from tests.small import PULL, call, content, distil, metrics, refused, write_npz

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def events(run):
    reader = accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    return reader.Reload()


def losses(run):
    return {event.step: event.value for event in events(run).Scalars("loss")}


def test_losses_speed_and_images_are_there(tmp_path):
    distil(steps=23, out=tmp_path / "run", tensorboard=True)
    told = {line["step"]: line["loss"] for line in metrics(tmp_path / "run")}
    assert losses(tmp_path / "run") == pytest.approx(told)
    found = events(tmp_path / "run")
    assert [e.step for e in found.Scalars("images per second")] == [10, 20, 23]
    assert all(e.value > 0 for e in found.Scalars("images per second"))
    pictures = found.Images("synthetic images")
    assert [e.step for e in pictures] == list(range(24))
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")


def test_watching_changes_no_byte(tmp_path):
    distil(steps=6, out=tmp_path / "plain")
    distil(steps=6, out=tmp_path / "watched", tensorboard=True)
    assert content(tmp_path / "plain") == content(tmp_path / "watched")
    assert not (tmp_path / "plain" / "tensorboard").exists()


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    out = tmp_path / "run"
    distil(steps=6, out=out, tensorboard=True)
    distil(steps=15, out=out, tensorboard=True, resume=True)
    assert sorted(losses(out)) == list(range(1, 16))


def test_what_was_written_beyond_the_checkpoint_is_purged(tmp_path):
    """A killed run has events of steps that its checkpoint does not have."""
    out, longer = tmp_path / "run", tmp_path / "longer"
    distil(steps=4, out=out)
    distil(steps=14, out=longer, tensorboard=True)
    shutil.copytree(longer / "tensorboard", out / "tensorboard")
    distil(steps=8, out=out, tensorboard=True, resume=True)
    assert sorted(losses(out)) == list(range(1, 9))


def test_overwriting_a_run_removes_its_events(tmp_path):
    distil(steps=9, out=tmp_path / "run", tensorboard=True)
    distil(steps=3, out=tmp_path / "run", tensorboard=True, overwrite=True)
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3]


def test_an_interrupted_run_has_all_its_losses(tmp_path, monkeypatch):
    from distilset.config import build
    from distilset.runfolder import RunFolder
    from distilset.session import open_session
    from tests.small import ENGINE, NETWORK, splits

    folder = RunFolder(tmp_path / "run")
    stated = {
        "data": {"source": "drawn"},
        "distill": {"ipc": 1, "steps": 9, "batch_real": 4},
        "network": NETWORK,
        "engine": ENGINE,
    }
    assert build(stated) == folder.settle(stated)
    session: Session = open_session(build(stated), splits().train, folder)
    session.tensorboard = True
    with pytest.raises(Interrupted):
        list(session.records(lambda: session.progress.state.step == 5))
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3, 4, 5]


def test_the_command_line_takes_it(capsys, tmp_path):
    from tests.small import ARGS

    data = write_npz(tmp_path / "drawn.npz")
    words = ("distill", data, "--out", tmp_path / "run", "--steps", 3, "--tensorboard", *ARGS)
    assert call(capsys, *words)[0] == 0
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3]


def test_without_tensorboard_a_sentence_says_how_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "find_spec", lambda name: None)
    told = refused(capsys, "distill", "digits", "--out", tmp_path / "run", "--tensorboard")
    assert "pip install 'distilset[tensorboard]'" in told
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="pip install"):
        distil(out=tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_it_needs_a_folder():
    with pytest.raises(ConfigError, match="run folder"):
        distil(tensorboard=True)


def test_steps_that_a_run_undid_are_purged(tmp_path):
    settings = {"distill": {"image_lr": 4.0, "guard_every": 7}}  # diverges; see test_descent
    out = tmp_path / "run"
    made = distil(steps=60, out=out, tensorboard=True, method=PULL, settings=settings)
    assert sum("went back" in note for note in made.card.notes) == 2
    told = {line["step"]: line["loss"] for line in metrics(out)}
    assert losses(out) == pytest.approx(told)
