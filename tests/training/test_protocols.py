from dataclasses import replace
from math import cos, pi

import pytest

from distilset.errors import ConfigError
from distilset.training import PROTOCOLS, WHOLE, Protocol, get_protocol


def test_published_protocols():
    dm, datadam = PROTOCOLS["dm"], PROTOCOLS["datadam"]
    assert (dm.epochs, dm.batch, dm.lr, dm.schedule, dm.augment) == (1000, 256, 0.01, "step", True)
    assert (datadam.epochs, datadam.batch) == (1800, 64)
    assert (dm.momentum, dm.weight_decay) == (0.9, 5e-4)
    assert {name: protocol.name for name, protocol in PROTOCOLS.items()} == {
        name: name for name in PROTOCOLS
    }


def test_step_schedule_by_hand():
    protocol = Protocol("p", epochs=4, batch=4, lr=0.1, schedule="step")
    assert (protocol.updates_per_epoch(10), protocol.total_updates(10)) == (3, 12)
    rates = [protocol.lr_at(update, 10) for update in range(12)]
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 6)


def test_step_schedule_of_odd_epochs_drops_after_the_middle_one():
    protocol = Protocol("p", epochs=3, batch=10, lr=1.0, schedule="step")
    assert [protocol.lr_at(update, 10) for update in range(3)] == pytest.approx([1.0, 1.0, 0.1])


def test_cosine_with_warmup_by_hand():
    protocol = Protocol("p", None, 8, 1.0, "cosine", updates=10, warmup=0.2)
    rates = [protocol.lr_at(update, 1000) for update in range(10)]
    assert rates == pytest.approx(
        [0.5, 1.0] + [0.5 * (1 + cos(pi * step / 8)) for step in range(8)]
    )


def test_whichever_end_comes_first():
    quick = PROTOCOLS["quick"]
    assert quick.total_updates(100) == quick.epochs
    assert quick.total_updates(100_000) == quick.updates
    assert quick.total_epochs(100_000) == 4  # 391 updates each, the last epoch not whole
    assert WHOLE.total_updates(1000) == WHOLE.total_updates(50_000) == WHOLE.updates


def test_with_epochs_is_exact():
    assert PROTOCOLS["quick"].with_epochs(2000).total_updates(100) == 2000
    assert WHOLE.with_epochs(3).total_updates(1280) == 30


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": None}, {"batch": 0}, {"lr": 0.0}])
def test_refuses_nonsense(wrong):
    values = {"epochs": 1, "batch": 1, "lr": 0.1, **wrong}
    with pytest.raises(ConfigError, match="a protocol needs"):
        Protocol("p", schedule="step", **values)


def test_refuses_to_clip_everything():
    with pytest.raises(ConfigError, match="clip must be above 0"):
        replace(PROTOCOLS["dm"], clip=0.0)


def test_unknown_name():
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        get_protocol("qick")


def test_fifths_fall_at_their_epochs_wherever_training_ends():
    whole = Protocol("p", epochs=10, batch=5, lr=1.0, schedule="fifths")
    rates = [whole.lr_at(update, 10) for update in range(20)]
    assert rates == pytest.approx([1.0] * 6 + [0.2] * 6 + [0.04] * 4 + [0.008] * 4)
    short = replace(whole, updates=8)
    assert [short.lr_at(update, 10) for update in range(8)] == rates[:8]
