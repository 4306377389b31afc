"""Two processes that speak to each other, and the single one that need not."""

import pytest
import torch

from distilset.parallel import group
from distilset.parallel.jobs import spread
from tests.ranks import launch, results, together


def test_one_process_agrees_with_itself():
    group.start()
    group.meet()
    assert group.lead(lambda: 3) == 3
    assert group.agree(True)
    assert not group.agree(False)
    assert group.collect(1) == [1]
    assert group.largest(1, 2) == [1, 2]
    assert spread([lambda: 1, lambda: 2]) == [1, 2]
    assert not torch.distributed.is_initialized()


def test_processes_exchange_what_they_have(tmp_path):
    assert together(2, "-m", "tests.parallel.exchanges", cwd=tmp_path) == ""


def test_processes_that_cannot_meet_say_so(tmp_path, monkeypatch):
    alone = launch(2, "-m", "tests.parallel.exchanges", cwd=tmp_path, MASTER_PORT="nonsense")
    ended = results(alone)
    assert all("could not find each other" in err for _, _, err in ended), ended
    assert {code for code, _, _ in ended} == {1}


@pytest.mark.parametrize("how", ["script"])
def test_a_script_ends_with_the_error_of_the_first(tmp_path, how):
    script = tmp_path / f"{how}.py"
    script.write_text(
        "from distilset.parallel import environment, group\n"
        "group.start()\n"
        "if environment.rank() == 1:\n"
        "    raise ValueError('mine')\n"
        "group.meet()\n"
    )
    (first, _, quiet), (second, _, told) = results(launch(2, script, cwd=tmp_path))
    assert (first, second) == (1, 1)
    assert quiet == ""
    assert told.startswith("rank 1:\nTraceback")
    assert told.rstrip().endswith("ValueError: mine")


def test_the_thread_that_watches_is_stopped_before_python_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from distilset.parallel import failing, group\n"
        "failing.LOOK_EVERY = 0.0\n"  # it is in PyTorch's store nearly all the time
        "group.start()\n"
        "group.meet()\n"
    )
    for _ in range(3):
        assert together(3, script, cwd=tmp_path) == ""


@pytest.mark.parametrize("farewell", [30, 2])
def test_a_process_that_goes_on_after_rank_0_ends_well(tmp_path, farewell):
    """Rank 0 waits, and where that is not enough the loss of its store is no failure."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from distilset.parallel import environment, failing, group\n"
        f"failing.FAREWELL_SECONDS = {farewell}\n"
        "group.start()\n"
        "group.meet()\n"
        "time.sleep(6 * environment.rank())\n"
        "print(*([] if environment.leads() else ['late']), end='')\n"
    )
    ended = results(launch(2, script, cwd=tmp_path))
    assert ended == [(0, "", ""), (0, "late", "")]
