from dataclasses import replace

import numpy as np
import pytest
import torch

from distilset.errors import ConfigError, DataError
from distilset.optimise import descend
from distilset.plan import make_plan
from distilset.session import open_session
from distilset.targets import fresh
from distilset.testing import drawn_images, small_config

TRAIN = drawn_images((3, 8, 8), (6, 5, 7))


def config(bank=3, method="atom", steps=7, **changes):
    made = small_config(method, {})
    return replace(made, distill=replace(made.distill, bank=bank, steps=steps, **changes))


def bank_of(**settings):
    return make_plan(config(**settings), TRAIN).method.bank


def test_targets_on_disk_equal_fresh_ones_in_half_precision():
    bank = bank_of()
    bank.build()
    assert bank.missing == 0
    for index in range(3):
        stored, made = bank.read(index), fresh(bank.task, bank.engine, index)
        assert torch.equal(stored.augmentation.uniforms, made.augmentation.uniforms)
        for mean, exact in zip(stored.means, made.means, strict=True):
            assert torch.equal(mean, exact.half().float())


def test_reading_leaves_the_targets_weights_in_the_network():
    bank = bank_of()
    bank.build()
    fresh(bank.task, bank.engine, 1)
    weights = [p.clone() for p in bank.task.network.parameters()]
    bank.read(2)
    bank.read(1)
    for before, after in zip(weights, bank.task.network.parameters(), strict=True):
        assert torch.equal(before, after)


def test_every_target_is_used_once_an_epoch_in_an_order_of_the_seed():
    bank = bank_of()
    bank.build()
    steps = [bank.target(step).step for step in range(9)]
    assert [sorted(steps[i : i + 3]) for i in (0, 3, 6)] == [[0, 1, 2]] * 3
    assert [bank.target(step).step for step in range(9)] == steps
    orders = {
        tuple(bank_of(bank=8, seed=seed, bank_seed=0).target(step).step for step in range(8))
        for seed in range(3)
    }
    assert len(orders) == 3


def test_the_result_does_not_depend_on_what_is_on_disk():
    results = []
    for build in (False, True):
        plan = make_plan(config(), TRAIN)
        if build:
            plan.method.bank.build()
        state = plan.start(torch.zeros(3, 3, 8, 8))
        list(descend(state, plan.method, steps=7, image_lr=0.1, momentum=0.5))
        results.append(state.images)
    assert torch.equal(*results)


def test_a_larger_bank_extends_a_smaller_one():
    small = bank_of(bank=2)
    small.build()
    first = small.read(0).means[0]
    large = bank_of(bank=5)
    assert large.missing == 3
    done = []
    large.build(lambda number, total: done.append((number, total)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(large.read(0).means[0], first)
    assert bank_of(bank=4).missing == 0


def test_methods_and_ipc_share_what_they_have_in_common():
    datadam = bank_of(method="datadam")
    datadam.build()
    assert bank_of(method="datadam", ipc=2).missing == 0
    atom = bank_of(method="atom")
    assert atom.folder == datadam.folder
    assert atom.counts() == [3, 0, 3]
    atom.build()
    assert atom.counts() == [3, 3, 3]
    assert bank_of(method="atom", bank_seed=1).folder != atom.folder
    assert bank_of(method="atom", batch_real=3).folder != atom.folder


def test_what_an_interrupted_build_left_is_cut_off():
    bank = bank_of()
    bank.build()
    path = bank.path(bank.engine.statistics[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = bank_of()
    assert again.missing == 1
    again.build()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00])
def test_a_target_with_numbers_that_are_never_written_is_computed(bits):
    """Infinity, its negative, and what is no number: another value cannot be told from a good."""
    bank = bank_of()
    bank.build()
    good = [bank.read(index).means for index in range(3)]
    path = bank.path(bank.engine.statistics[0])
    values = np.fromfile(path, np.uint16)
    values[len(values) // 3] = bits  # the first of the second target
    values.tofile(path)
    again = bank_of()
    for index in range(3):
        for mean, before in zip(again.read(index).means, good[index], strict=True):
            assert torch.equal(mean, before)


@pytest.mark.parametrize("value", [torch.nan, 1e5])
def test_means_that_half_precision_cannot_hold_are_refused(monkeypatch, value):
    bank = bank_of()
    eager = bank.engine.forward.eager

    def large(images):
        return tuple(torch.full_like(values, value) for values in eager(images))

    def strike(done, total):
        monkeypatch.setattr(bank.engine.forward, "eager", large)

    with pytest.raises(DataError, match=r"target 1 of the bank has .* half precision"):
        bank.build(strike)
    assert set(bank.counts()) == {1}


def test_with_a_bank_the_real_images_are_not_touched_after_the_first(monkeypatch):
    session = open_session(config(), TRAIN)
    session.build_bank()
    monkeypatch.setattr(type(session.plan.task), "real", lambda *_: pytest.fail("touched"))
    assert len(list(session.records())) == 7


def test_a_method_without_targets_refuses_a_bank(tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(
        "from distilset.methods.dm import DM, DMConfig\n"
        "class Odd:\n"
        "    Config, defaults, notes = DMConfig, {}, ()\n"
        "    def __init__(self, config, task): pass\n"
        "    def episode(self, images, step): yield []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot use a bank"):
        make_plan(config(method="odd:Odd"), TRAIN)
