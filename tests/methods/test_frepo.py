"""FRePo: its loss by scikit-learn under networks that PyTorch trains, its order, refusals."""

from dataclasses import replace

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from torch.nn.functional import cross_entropy, one_hot

from distilset.config import build
from distilset.errors import ConfigError
from distilset.models import NetworkConfig
from distilset.plan import make_plan
from distilset.testing import drawn_images, small_config

TRAIN = drawn_images((3, 8, 8), (5, 4, 6))
LABELS = torch.arange(3).repeat_interleave(2)


def plan_of(settings, augment=False, network=None, **distill):
    config = small_config("frepo", {"networks": 1, **settings})
    config = replace(
        config, distill=replace(config.distill, **{"ipc": 2, "init": "noise", **distill})
    )
    if network is not None:
        config = replace(config, network=network)
    if not augment:
        config = replace(config, augmentation=replace(config.augmentation, operations=()))
    return make_plan(config, TRAIN)


def first_of_each_class():
    rows = [start + one for start in TRAIN.offsets[:-1] for one in range(2)]
    return plan_of({}).task.transform.apply(TRAIN.images[rows]).requires_grad_(True)


def losses_of(plan, images, step=0):
    return [float(sum(update).detach()) for update in plan.method.episode(images, step)]


def by_scikit_learn(network, images, real, ridge):
    with torch.no_grad():
        support, query = (network.features(x).last.double().numpy() for x in (images, real))
    known, wanted = (one_hot(y).double().numpy() - 1 / 3 for y in (LABELS, TRAIN.labels))
    model = KernelRidge(alpha=ridge * (support**2).sum(1).mean(), kernel="linear")
    predicted = model.fit(support, known).predict(query)
    return 0.5 * ((predicted - wanted) ** 2).sum(1).mean()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_loss_is_that_of_networks_which_the_images_train(norm):
    network = NetworkConfig(width=8, depth=2, norm=norm)
    settings = {"age": 4, "lr": 0.05, "momentum": 0.7, "weight_decay": 0.01, "ridge": 0.1}
    plan, images = plan_of(settings, network=network, batch_real=6), first_of_each_class()
    found = losses_of(plan, images)
    real, learnt = plan.task.transform.apply(TRAIN.images), plan.task.draw_network(0)
    optimizer = torch.optim.SGD(
        learnt.requires_grad_(True).parameters(), lr=0.05, momentum=0.7, weight_decay=0.01
    )
    expected = []
    for _ in range(4):
        expected.append(by_scikit_learn(learnt, images.detach(), real, 0.1))
        optimizer.zero_grad()
        cross_entropy(learnt(images.detach()), LABELS).backward()
        optimizer.step()
    assert found == pytest.approx(expected, rel=1e-4)
    assert len({round(loss, 6) for loss in found}) == 4


@pytest.mark.parametrize("factor", [1, 2])
def test_the_gradient_is_a_central_difference_of_the_loss(factor):
    plan = plan_of({"age": 1, "ridge": 0.1}, augment=True, factor=factor, batch_real=6)
    images = first_of_each_class()
    (update,) = plan.method.episode(images, 0)
    sum(update).backward()
    assert images.grad is not None
    direction, step = images.grad / images.grad.norm(), 0.02
    ahead, back = (
        losses_of(plan, (images.detach() + sign * step * direction).requires_grad_(True))[0]
        for sign in (1, -1)
    )
    assert float(images.grad.norm()) == pytest.approx((ahead - back) / (2 * step), rel=0.05)


def test_every_network_of_an_episode_comes_to_its_age_by_draws_of_its_own():
    """Two side by side give the losses that two episodes of one give, but for the real batch."""
    images = first_of_each_class()
    together = losses_of(plan_of({"networks": 2, "age": 3}, augment=True, batch_real=6), images)
    apart = plan_of({"age": 3}, augment=True, batch_real=6)
    alone = [losses_of(apart, images, step) for step in (0, 1)]
    for age in range(3):
        assert sorted(together[2 * age : 2 * age + 2]) == pytest.approx(
            sorted(one[age] for one in alone), rel=1e-4
        )
    assert alone[0][0] != pytest.approx(alone[1][0], rel=1e-3)


def test_small_batches_pass_over_all_images_before_any_comes_again():
    plan, seen = plan_of({"age": 6, "batch": 2}), []
    learners = plan.method.learners[0]
    original = learners.update

    def update(learner, images, labels):
        seen.append(labels)
        return original(learner, images, labels)

    learners.update = update
    losses_of(plan, first_of_each_class())
    assert [len(labels) for labels in seen] == [2] * 6
    for epoch in (seen[:3], seen[3:]):
        assert torch.cat(epoch).sort().values.tolist() == LABELS.tolist()


def test_images_that_have_learnt_explain_real_ones_to_networks_they_have_not_met():
    wide = NetworkConfig(width=32, depth=2)
    chosen = {"optimizer": "adam", "image_lr": 0.1, "steps": 6, "schedule": "cosine"}
    plan = plan_of({"age": 10}, network=wide, batch_real=6, **chosen)
    generator = torch.Generator().manual_seed(0)
    state = plan.start(torch.randn(6, 3, 8, 8, generator=generator))
    fresh = plan_of({"networks": 8, "age": 1}, network=wide, seed=7, batch_real=6)
    before = losses_of(fresh, state.images.clone().requires_grad_(True))
    list(plan.descend(state, 6))
    after = losses_of(fresh, state.images.clone().requires_grad_(True))
    assert state.updates == 60
    assert sum(after) < 0.5 * sum(before)


def test_a_bank_is_refused():
    with pytest.raises(ConfigError, match="cannot use a bank"):
        plan_of({}, bank=2)


@pytest.mark.parametrize("settings", [{"age": 0}, {"lr": 0.0}, {"momentum": 1.0}, {"ridge": 0.0}])
def test_wrong_settings_are_told(settings):
    with pytest.raises(ConfigError, match=f"method.{next(iter(settings))}"):
        build({"data": {"source": "drawn"}, "method": {"name": "frepo", **settings}})


def test_the_plan_tells_how_many_images_networks_see():
    plan = plan_of({"networks": 2, "age": 3, "batch": 4}, batch_real=5)
    assert plan.images_per_step == 2 * (3 * (6 + (5 + 4 + 5)) + 4 + 2 + 4)
