from dataclasses import replace

import pytest
import torch

from distilset.errors import ConfigError
from distilset.methods import METHODS
from distilset.models import NetworkConfig
from distilset.optimise import descend
from distilset.plan import make_plan
from distilset.session import open_session
from distilset.targets import fresh
from distilset.testing import drawn_images
from tests.small import short_config

TRAIN = drawn_images((3, 8, 8), (6, 5, 7))
POOL = ("resnet18:width=4", "vit:width=8,depth=2")
FIRST = {"width": 8, "depth": 2}


def plan_of(method="atom", bank=0, pool=POOL, first=None, **changes):
    made = short_config(method)
    distill = replace(made.distill, bank=bank, steps=9, **changes)
    network = NetworkConfig(**(first or FIRST), pool=pool)
    plan = make_plan(replace(made, distill=distill, network=network), TRAIN)
    plan.task.train_experts()
    return plan


def results(plan, steps=9):
    state = plan.start(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    list(descend(state, plan.method, steps=steps, image_lr=0.1, momentum=0.5))
    return state.images


@pytest.mark.parametrize("method", METHODS)
def test_every_method_distils_on_a_pool_and_resumes_exactly(method):
    plan = plan_of(method)
    whole = results(plan)
    state = plan.start(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    list(descend(state, plan.method, steps=4, image_lr=0.1, momentum=0.5))
    list(descend(state, plan_of(method).method, steps=9, image_lr=0.1, momentum=0.5))
    assert torch.equal(whole, state.images)


def test_every_network_is_drawn_about_equally_often_by_key():
    drawn, again, other = (
        [task.choice(step) for step in range(600)]
        for task in (plan_of().task, plan_of().task, plan_of(seed=1).task)
    )
    assert all(150 < drawn.count(number) < 250 for number in range(3))
    assert drawn == again
    assert drawn != other


def test_a_step_on_a_pool_is_that_of_its_network_alone():
    plan = plan_of()
    for step in range(6):
        target = plan.method.stream.target(step)
        alone = plan.task.alone(target.network)
        expected = fresh(alone, plan.method.engines[target.network], step)
        for mean, other in zip(target.means, expected.means, strict=True):
            assert torch.equal(mean, other)


def test_a_network_without_a_norm_of_its_own_takes_the_firsts():
    plan = plan_of(first={**FIRST, "norm": "batch"}, pool=("resnet18:width=4", "alexnet:norm=none"))
    norms = ["BatchNorm2d" in repr(network) for network in plan.task.networks]
    assert norms == [True, True, False]


def test_attention_refuses_a_pool_with_an_mlp():
    with pytest.raises(ConfigError, match="no activation maps"):
        plan_of(pool=("mlp:width=8",))
    assert results(plan_of("dm", pool=("mlp:width=8",))).isfinite().all()


def test_a_pool_shares_the_banks_of_its_networks():
    alone = plan_of(bank=2, pool=()).method.bank
    alone.build()
    pool = plan_of(bank=5)
    banks = pool.method.bank
    assert [bank.size for bank in banks.parts] == [2, 2, 1]
    assert (banks.size, banks.missing) == (5, 3)
    done = []
    banks.build(lambda number, total: done.append((number, total)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert banks.missing == 0
    assert banks.parts[0].folder == alone.folder


def test_every_target_of_a_pool_is_used_once_an_epoch_with_its_networks_weights():
    plan = plan_of(bank=5)
    banks = plan.method.bank
    banks.build()
    for epoch in (0, 1):
        used = [banks.target(5 * epoch + step) for step in range(5)]
        slots = sorted((target.network, target.step) for target in used)
        assert slots == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    target = banks.target(3)
    network = plan.task.networks[target.network]
    before = [p.clone() for p in network.parameters()]
    banks.parts[target.network].task.draw_network(target.step)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_run_with_the_banks_of_a_pool_does_not_depend_on_what_is_on_disk():
    first = results(plan_of(bank=4))
    plan = plan_of(bank=4)
    plan.method.bank.build()
    assert torch.equal(first, results(plan))


def test_fewer_targets_than_networks_are_refused():
    with pytest.raises(ConfigError, match="bank of 2 targets cannot serve a pool of 3"):
        plan_of(bank=2)


def test_a_session_on_a_pool_estimates_its_bank():
    made = plan_of(bank=4).config
    session = open_session(made, TRAIN)
    assert session.bank_seconds > 0
    session.build_bank()
    assert session.bank is not None
    assert session.bank.missing == 0
