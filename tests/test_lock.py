import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import distilset
from distilset import DataError
from distilset.lock import HOLDER, LOCK, RunLock
from distilset.runfolder import RunFolder
from distilset.session import open_session
from tests.small import ENGINE, NETWORK, PULL, content, distil, splits, start, tree

HOLD = """
import sys, time
from pathlib import Path
from distilset.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Let another process hold the lock of a run."""
    run = tmp_path / "run"
    start(run, stop_at=2)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)],
        stdout=subprocess.PIPE,
        cwd=Path(distilset.__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": str(Path(distilset.__file__).parent.parent)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield run, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_by_the_firsts_name_until_that_is_killed(holder):
    run, process = holder
    before = tree(run)
    for allowed in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(DataError, match=f"process {process.pid} on .* is at work in") as caught:
            start(run, **allowed)
        assert str(run) in str(caught.value)
    assert tree(run) == before
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start(run, resume=True) == [3, 4, 5, 6]
    assert (run / LOCK).is_file()
    assert not (run / HOLDER).exists()


def test_two_that_start_at_once_do_not_both_get_the_folder(tmp_path):
    def opened():
        folder = RunFolder(tmp_path / "run", resume=True)
        stated = {"data": {"source": "drawn"}, "method": {"name": PULL}, "network": NETWORK}
        stated |= {"engine": ENGINE, "distill": {"ipc": 1, "steps": 3}}
        return open_session(folder.settle(stated), splits().train, folder)

    first, second = opened(), opened()  # neither has written anything yet
    going = first.records()
    next(going)
    with pytest.raises(DataError, match=f"process {os.getpid()} on"):
        next(second.records())
    list(going)
    first.finish()
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"not empty|no run to go on with"):
        next(second.records())
    assert tree(tmp_path) == before


def test_a_run_that_went_on_elsewhere_meanwhile_is_not_gone_on_with_from_before(tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=2)
    folder = RunFolder(run, resume=True)
    config = folder.settle({})
    session = open_session(config, splits().train, folder)
    start(run, resume=True)
    whole = content(run)
    with pytest.raises(DataError, match="another process has gone on"):
        next(session.records())
    assert content(run) == whole
    assert start(run, resume=True, steps=7) == [7]


def test_a_run_that_fails_or_is_left_gives_the_folder_back(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        distil(out=tmp_path / "run", progress=raise_interrupt)
    lock = RunLock(tmp_path / "run")
    lock.take()
    lock.release()
    distil(out=tmp_path / "run", resume=True)
    RunLock(tmp_path / "run").refuse()


def raise_interrupt(record):
    raise KeyboardInterrupt


def test_a_holder_that_left_no_name_is_another_process(tmp_path):
    lock = RunLock(tmp_path)
    lock.take()
    (tmp_path / HOLDER).write_bytes(b"\xff")
    with pytest.raises(DataError, match="another process is at work"):
        RunLock(tmp_path).refuse()
    lock.release()
