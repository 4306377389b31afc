"""Banks that are built by several processes: each of these tests starts some."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import distilset
from distilset import workers
from distilset.bank import LEAST, Bank
from distilset.cache import cache_folder
from distilset.engine import Engine
from distilset.errors import ConfigError, DataError
from distilset.plan import make_plan
from distilset.testing import drawn_images, small_config
from distilset.workers import Worker
from tests.small import tree

TRAIN = drawn_images((3, 8, 8), (6, 5, 7))
SIZE = 2 * LEAST + 1


def bank_of(number=2, size=SIZE, method="atom", zca=False) -> Bank:
    """Return a bank for ``number`` processes of one thread each."""
    made = small_config(method, {})
    made = replace(
        made,
        data=replace(made.data, zca=zca),
        distill=replace(made.distill, bank=size),
        engine=replace(made.engine, threads=number, bank_workers=number),
    )
    return make_plan(made, TRAIN).method.bank


@pytest.fixture
def started(monkeypatch):
    """The workers that a test starts; all of them must have ended when it does."""
    begun: list[Worker] = []

    class Watched(Worker):
        def __init__(self, made):
            super().__init__(made)
            begun.append(self)

    monkeypatch.setattr(workers, "Worker", Watched)
    yield begun
    assert begun
    assert all(worker.process.poll() is not None for worker in begun)


def test_the_number_of_processes_changes_no_byte(started, tmp_path, monkeypatch):
    """Whitened, begun by one process, interrupted, and gone on with by two."""

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setenv("DISTILSET_CACHE", str(tmp_path / "one"))
    alone = bank_of(number=1, zca=True)
    alone.build()
    assert not started
    monkeypatch.setenv("DISTILSET_CACHE", str(tmp_path / "two"))
    bank_of(number=1, size=2, zca=True).build()
    several = bank_of(size=SIZE + 5, zca=True)
    assert several.workers == 2
    with pytest.raises(KeyboardInterrupt):
        several.build(stop)
    assert set(several.counts()) == {5}
    done = []
    several = bank_of(size=SIZE + 4, zca=True)
    several.build(lambda number, total: done.append((number, total)))
    assert done == [(i + 1, SIZE - 1) for i in range(SIZE - 1)]
    assert len(started) == 4
    assert alone.folder.name == several.folder.name
    longer = tree(several.folder)
    for name, content in tree(alone.folder).items():
        assert longer[name][: len(content)] == content, name


METHOD = """
import os, time
from pathlib import Path
from distilset.errors import DataError
from distilset.losses.statistics import Statistic
from distilset.methods.dm import DMConfig
from distilset.methods.mean_matching import MeanMatching

print("module", flush=True)

class Mine(Statistic):
    def __call__(self, features):
        time.sleep(0.05)  # the other process is not to finish everything meanwhile
        if Path("struck").exists():
            if os.environ["STRUCK_BY"] == "kill":
                os.kill(os.getpid(), 9)
            if os.environ["STRUCK_BY"] == "raise":
                raise DataError("struck data")
            time.sleep(600)
        return super().__call__(features)

class Strikable(MeanMatching):
    Config, defaults = DMConfig, {}
    def __init__(self, config, task):
        super().__init__(task, lambda maps: [Mine("features", 1.0)])
"""


@pytest.fixture
def strikable(tmp_path, monkeypatch):
    """A method of the user's own, whose module the workers find as this process does.

    Once there is a file ``struck`` its targets cannot be computed.
    """
    (tmp_path / "strikable.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield "strikable:Strikable"
    sys.modules.pop("strikable", None)


@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        ("kill", ConfigError, r"was ended by signal 9 \(SIGKILL\)"),
        ("raise", DataError, "^struck data$"),
    ],
)
def test_what_goes_wrong_in_a_process_stops_all(strikable, started, monkeypatch, what, error, text):
    monkeypatch.setenv("STRUCK_BY", what)
    bank = bank_of(method=strikable)
    with pytest.raises(error, match=text):
        bank.build(lambda done, total: Path("struck").touch() if done == 2 else None)
    assert 2 <= bank.counts()[0] < SIZE  # what was written before is kept


SCRIPT = """
import sys
import distilset as ds
from distilset.testing import drawn_images
print("script", flush=True)
ds.distill(
    drawn_images((3, 8, 8), (6, 5, 7)), method=sys.argv[1], ipc=1, steps=2, bank=200,
    bank_workers=2, threads=2, batch_real=4, network="convnet:width=8,depth=2", compile="off",
)
"""


def test_a_script_without_a_main_guard_runs_once_and_takes_its_workers_along(
    strikable, monkeypatch
):
    monkeypatch.setenv("STRUCK_BY", "sleep")
    Path("script.py").write_text(SCRIPT)
    folder = Path(distilset.__file__).parent.parent
    script = subprocess.Popen(
        [sys.executable, "script.py", strikable],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not any(path.stat().st_size for path in cache_folder("banks").rglob("*.f16")):
            assert script.poll() is None
            time.sleep(0.05)
        Path("struck").touch()
    finally:
        script.terminate()
    out, err = script.communicate(timeout=30)  # the workers hold its standard error, too
    assert script.returncode == -signal.SIGTERM
    assert out == "script\nmodule\n"
    assert err == "module\n" * 2  # of the workers, whose output is kept out of their answers


@pytest.mark.parametrize("module", [__name__, "__main__"])
def test_what_cannot_be_sent_is_computed_here(monkeypatch, module):
    """A class inside a function, and one of the caller's script, which a worker does not run."""
    local = type("Local", (Engine,), {"__module__": module})
    monkeypatch.setattr(sys.modules["__main__"], "Local", local, raising=False)
    bank = bank_of()
    bank.engine = local(bank.task.network, bank.engine.statistics, bank.task.settings)
    assert bank.workers == 2
    bank.build()
    assert bank.missing == 0


def test_the_threads_of_each_process_name_a_bank_and_are_used():
    bank, wide = bank_of(number=1), bank_of(number=1)
    assert bank.folder == bank_of(number=2).folder == wide.folder
    made = small_config("atom", {})
    made = replace(
        made,
        distill=replace(made.distill, bank=2),
        engine=replace(made.engine, threads=4, bank_workers=2),
    )
    two_each = make_plan(made, TRAIN).method.bank
    assert two_each.folder != bank.folder
    seen = []
    two_each.engine.forward.eager = lambda images: seen.append(torch.get_num_threads()) or (1 / 0)
    with pytest.raises(ZeroDivisionError):
        two_each.compute(0)
    assert seen == [2]
