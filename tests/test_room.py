"""Disks that are full, read-only or too small."""

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from distilset import DataError, DistilledSet, room
from distilset.checkpoint import load_checkpoint
from distilset.config import build
from distilset.room import check_room, told_if_full
from distilset.runfolder import RunFolder
from distilset.session import open_session
from tests.small import (
    ARGS,
    ENGINE,
    NETWORK,
    PULL,
    content,
    metrics,
    refused,
    splits,
    tree,
    write_npz,
)


@pytest.fixture
def small(tmp_path):
    """Mount a small file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not shutil.which("mount") or not ran("mount", "-t", "tmpfs", "-o", "size=6m", "x", folder):
        pytest.skip("only root may mount a file system")
    yield folder
    while ran("umount", folder):
        pass


def ran(*command):
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def make_read_only(folder):
    """Lay a read-only view over a folder; files that are open stay so."""
    assert ran("mount", "--bind", folder, folder)
    assert ran("mount", "-o", "remount,bind,ro", folder)


def fill(path):
    """Take all the space there is."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            with pytest.raises(OSError, match="No space"):  # noqa: PT012
                while True:
                    file.write(b"x" * size)


def started(run, at, act, **more):
    """Do the steps of a run, and something in the middle of it."""
    folder = RunFolder(run, **more)
    stated = {"data": {"source": "drawn"}, "method": {"name": PULL}, "network": NETWORK}
    stated |= {"engine": {**ENGINE, "checkpoint_every": 2}, "distill": {"ipc": 1, "steps": 9}}
    session = open_session(folder.settle(stated), splits().train, folder)
    for record in session.records():
        if record.step == at:
            act()
    session.finish()


def saved(run):
    found = load_checkpoint(run)
    assert found is not None
    return found[0].state.step


def checkpoints(run):
    return {name: data for name, data in tree(run).items() if name.startswith("checkpoint")}


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_space(small, tmp_path):
    run, ballast, before = small / "run", small / "ballast", {}

    def fill_up():
        before.update(checkpoints(run))
        fill(ballast)

    started(tmp_path / "undisturbed", 0, list)
    with pytest.raises(DataError, match=r"No space left on device.*make space, then .*--resume"):
        started(run, 5, fill_up)
    assert checkpoints(run) == before
    assert saved(run) == 4
    with pytest.raises(DataError, match="MB are free; make space, or choose another folder"):
        started(run, 0, list, resume=True)
    assert checkpoints(run) == before
    ballast.unlink()
    started(run, 0, list, resume=True)
    assert content(run) == content(tmp_path / "undisturbed")
    assert [line["step"] for line in metrics(run)] == list(range(1, 10))


def test_a_disk_that_is_full_when_the_results_are_written_loses_nothing(small, tmp_path):
    run, ballast = small / "run", small / "ballast"
    with pytest.raises(DataError, match="No space left on device"):
        started(run, 9, lambda: fill(ballast))
    assert saved(run) == 9
    ballast.unlink()
    started(run, 0, list, resume=True)
    assert DistilledSet.load(run).card.steps == 9


def test_output_that_becomes_read_only_is_one_sentence(small, tmp_path):
    run = small / "run"
    with pytest.raises(DataError, match=r"Read-only file system.*make it writable, then"):
        started(run, 5, lambda: make_read_only(small))
    before = tree(run)
    with pytest.raises(DataError, match="cannot be written to; choose another folder"):
        started(run, 0, list, resume=True)
    assert tree(run) == before
    assert ran("umount", small)
    started(run, 0, list, resume=True)
    make_read_only(small)
    assert RunFolder(run, resume=True, earlier={}).finished(9) is not None
    with pytest.raises(DataError, match="cannot be written to"):
        started(run, 0, list, overwrite=True)


def test_a_read_only_place_is_told_before_the_start_on_the_command_line(capsys, small, tmp_path):
    make_read_only(small)
    data = write_npz(tmp_path / "data.npz")
    sentence = refused(capsys, "distill", data, "--out", small / "run", "--steps", 2, *ARGS)
    assert f"{small} cannot be written to" in sentence


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EDQUOT])
def test_no_checkpoint_is_lost_to_an_error_of_the_system(tmp_path, monkeypatch, number):
    run, before, original = tmp_path / "run", {}, Path.write_bytes

    def write(self, data):
        if "checkpoint" in self.name and number in failing:
            original(self, data[:100])
            raise OSError(number, os.strerror(number))
        return original(self, data)

    failing: list[int] = []
    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(DataError, match=re.escape(os.strerror(number))):
        started(run, 5, lambda: before.update(checkpoints(run)) or failing.append(number))
    assert checkpoints(run) == before
    assert not list(run.glob(".*.partial"))
    failing.clear()
    started(run, 0, list, resume=True)
    assert [line["step"] for line in metrics(run)] == list(range(1, 10))


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), told_if_full(tmp_path):
        (tmp_path / "nothing").read_bytes()


def test_files_on_one_disk_are_added_up(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: free)
    one, other = tmp_path / "not" / "there", tmp_path
    check_room({one: 5_000_000, other: 5_000_000})
    with pytest.raises(DataError, match=r"about 11 MB on the disk of .* 10 MB are free"):
        check_room({one: 6_000_000, other: 5_000_000})


def test_what_a_run_and_its_bank_will_take_is_what_they_take(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILSET_CACHE", str(tmp_path / "cache"))
    config = build(
        {
            "data": {"source": "drawn", "zca": True},
            "network": NETWORK,
            "engine": {**ENGINE, "checkpoint_every": 1},
            "distill": {"ipc": 2, "steps": 3, "bank": 4, "guard_every": 2},
        }
    )
    folder = RunFolder(tmp_path / "run")
    session = open_session(config, splits().train, folder)
    needs = session.needs()
    session.build_bank()
    list(session.records())
    session.finish()
    bank = sum(p.stat().st_size for p in session.bank.folder.glob("*.f16"))
    assert needs[session.bank.folder] == bank
    taken = sum(p.stat().st_size for p in folder.path.iterdir())
    assert needs[folder.path] - room.REST <= taken + 4 * session.progress.state.images.numel() * 8
    assert taken < needs[folder.path]
    assert session.needs()[session.bank.folder] == 0
