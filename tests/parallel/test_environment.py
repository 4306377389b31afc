import pytest

from distilset.errors import ConfigError
from distilset.parallel import environment

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")


@pytest.fixture
def told(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    def tell(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return tell


def test_without_torchrun_there_is_one_process(told):
    told(WORLD_SIZE=4)  # some schedulers set it for other programs
    assert (environment.size(), environment.rank(), environment.restarts()) == (1, 0, 0)
    assert environment.leads()


def test_torchrun_says_who_one_is(told):
    told(RANK=3, WORLD_SIZE=4, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2, TORCHELASTIC_RESTART_COUNT=2)
    assert (environment.size(), environment.rank(), environment.local_rank()) == (4, 3, 1)
    assert environment.restarts() == 2
    assert not environment.leads()
    assert not environment.on_one_machine()


def test_one_process_of_torchrun_is_one_process_that_may_be_restarted(told):
    told(RANK=0, WORLD_SIZE=1, LOCAL_WORLD_SIZE=1, TORCHELASTIC_RESTART_COUNT=1)
    assert (environment.size(), environment.restarts()) == (1, 1)
    assert environment.on_one_machine()


def test_nonsense_is_refused(told):
    told(RANK=0, WORLD_SIZE="two")
    with pytest.raises(ConfigError, match="WORLD_SIZE must be a number; got 'two'"):
        environment.size()
