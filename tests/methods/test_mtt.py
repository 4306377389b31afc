"""MTT: its loss by plain PyTorch from the experts' files, its gradient, refusals."""

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from distilset.config import build
from distilset.errors import ConfigError
from distilset.models import NetworkConfig, initialise
from distilset.outline import plan_rows
from distilset.plan import make_plan
from distilset.rng import Rng
from distilset.testing import drawn_images, small_config
from distilset.training.unrolled import Batch
from distilset.types import Features, Splits
from distilset.untrusted import open_tensors
from tests.small import distil

TRAIN = drawn_images((3, 8, 8), (5, 4, 6))
LABELS = torch.arange(3).repeat_interleave(2)
EXPERTS = {"number": 2, "updates": 6, "snapshots": 3, "lr": 0.1}


def plan_of(settings=None, augment=False, network=None, experts=None, **distill):
    wanted = {"updates": 3, "span": 2, "latest": 1, "lr": 0.1, **(settings or {})}
    config = small_config("mtt", wanted, experts=EXPERTS if experts is None else experts)
    config = replace(config, distill=replace(config.distill, **{"ipc": 2, **distill}))
    if network is not None:
        config = replace(config, network=network)
    if not augment:
        config = replace(config, augmentation=replace(config.augmentation, operations=()))
    plan = make_plan(config, TRAIN)
    plan.task.train_experts()
    return plan


def first_of_each_class(plan):
    rows = [start + one for start in TRAIN.offsets[:-1] for one in range(2)]
    return plan.task.transform.apply(TRAIN.images[rows]).requires_grad_(True)


def loss_of(plan, images, step=0):
    ((part,),) = plan.method.episode(images, step)
    return part


def states_of(plan, number):
    """Return an expert's parameters before training and at every moment, from its file."""
    task = plan.task
    initialise(task.network, Rng(0).child("expert", number), "weights")
    names = [name for name, _ in task.network.named_parameters()]
    fresh = {name: value.detach().clone() for name, value in task.network.named_parameters()}
    tensors = open_tensors(task.experts[0].path(number))
    kept = [{n: tensors.get_tensor(f"{at}/{n}") for n in names} for at in range(3)]
    return [fresh, *kept]


def squared(first, second):
    return sum(float((first[n].double() - second[n].double()).square().sum()) for n in first)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_loss_is_how_far_a_student_ends_from_an_expert(norm):
    plan = plan_of(network=NetworkConfig(width=8, depth=2, norm=norm))
    images, expected = first_of_each_class(plan), set()
    for number in range(2):
        states = states_of(plan, number)
        for first in (0, 1):
            start, goal = states[first], states[first + 2]
            network = plan.task.network.requires_grad_(True)
            with torch.no_grad():
                for name, value in network.named_parameters():
                    value.copy_(start[name])
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                cross_entropy(network(images.detach()), LABELS).backward()
                optimizer.step()
            end = {name: value.detach() for name, value in network.named_parameters()}
            expected.add(round(squared(end, goal) / squared(start, goal), 4))
    plan.task.network.requires_grad_(False)
    found = {round(float(loss_of(plan, images, step).detach()), 4) for step in range(40)}
    assert len(expected) == 4
    assert sorted(found) == pytest.approx(sorted(expected), rel=2e-3)


@pytest.mark.parametrize("change", [{}, {"batch": 2, "updates": 5}])
@pytest.mark.parametrize("factor", [1, 2])
def test_the_gradient_is_autograds_through_the_whole_training(factor, change):
    """No central difference: a student's way has jumps wherever a ReLU of it changes sides."""
    plan = plan_of(change, augment=True, factor=factor, init="noise")
    images, task = first_of_each_class(plan), plan.task
    start, goal = task.draw_segment(0, 2, 1)
    loss_of(plan, images).backward()

    leaf = images.detach().clone().requires_grad_(True)
    weights = {name: value.clone().requires_grad_(True) for name, value in start.items()}
    for pixels, labels in plan.method._seen(task.decode(leaf), 0):
        loss = cross_entropy(functional_call(task.network, weights, (pixels,)), labels)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {n: w - 0.1 * s for (n, w), s in zip(weights.items(), slopes, strict=True)}
    missed = torch.stack([(weights[n] - goal[n]).square().sum() for n in goal]).sum()
    (wanted,) = torch.autograd.grad(missed / squared(start, goal), leaf)
    assert images.grad is not None
    assert torch.linalg.norm(images.grad - wanted) < 1e-3 * torch.linalg.norm(wanted)


def test_small_batches_pass_over_all_images_before_any_comes_again():
    plan = plan_of({"batch": 2, "updates": 6})
    seen = [labels for _, labels in plan.method._seen(torch.zeros(6, 3, 8, 8), 0)]
    assert [len(labels) for labels in seen] == [2] * 6
    for epoch in (seen[:3], seen[3:]):
        assert torch.cat(epoch).sort().values.tolist() == LABELS.tolist()


def test_images_that_have_learnt_bring_students_nearer():
    plan = plan_of({"lr": 0.5}, optimizer="adam", image_lr=0.1, steps=25)
    images = first_of_each_class(plan)
    before = [float(loss_of(plan, images, step).detach()) for step in range(100, 106)]
    state = plan.start(images.detach().clone())
    for _ in plan.descend(state, 25):
        pass
    after = [float(loss_of(plan, state.images, step).detach()) for step in range(100, 106)]
    assert sum(after) < 0.8 * sum(before)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="give --experts 1 or more"):
        plan_of(experts={"number": 0})
    with pytest.raises(ConfigError, match=r"latest \+ method.span is 4, .* 3 moments"):
        plan_of({"latest": 2})
    with pytest.raises(ConfigError, match="too few for 3 moments"):
        plan_of(experts={**EXPERTS, "updates": 2})
    normed = NetworkConfig(width=8, depth=2, norm="batch")
    with pytest.raises(ConfigError, match=r"leave experts.batch_norm at batch"):
        plan_of(network=normed, experts={**EXPERTS, "batch_norm": "running"})
    with pytest.raises(ConfigError, match="no trained networks to follow"):
        make_plan(small_config("dm", {}), TRAIN).task.draw_segment(0, 1, 0)
    with pytest.raises(ConfigError, match="cannot use a bank"):
        plan_of(bank=2)


def test_its_experts_take_plain_steps_of_a_constant_rate_unless_told_otherwise():
    data = {"data": {"source": "drawn"}, "method": {"name": "mtt"}}
    experts = build(data).experts
    assert (experts.momentum, experts.schedule, experts.lr) == (0.0, "constant", 0.01)
    assert build({**data, "experts": {"momentum": 0.5}}).experts.momentum == 0.5
    assert "lr 0.01 (constant), momentum 0" in str(experts)


def test_the_plan_tells_what_students_see_and_hold():
    plan = plan_of({"batch": 4, "updates": 5})
    assert plan.images_per_step == 4 + 2 + 4 + 2 + 4
    weights = sum(value.numel() for value in plan.task.network.parameters())
    more = plan_of({"batch": 4, "updates": 6})
    assert more.bytes - plan.bytes == 4 * (weights + 3 * 2 * 3 * 8 * 8)
    told = dict(plan_rows(plan, Splits(TRAIN, None)))
    assert "real batch" not in told
    assert "2 networks trained on the real images" in told["weights"]


def test_a_run_goes_on_where_it_stopped_though_the_cache_was_cleared(tmp_path, monkeypatch):
    settings = {"method": {"updates": 3, "span": 1, "latest": 1}, "experts": EXPERTS}
    flags = {"method": "mtt", "schedule": "constant", "settings": settings}
    whole = distil(**flags, steps=6)
    distil(**flags, steps=3, out=tmp_path / "parts")
    monkeypatch.setenv("DISTILSET_CACHE", str(tmp_path / "cleared"))
    resumed = distil(**flags, steps=6, out=tmp_path / "parts", resume=True)
    assert torch.equal(whole.pixels, resumed.pixels)


def test_a_student_has_the_buffers_of_its_expert():
    """Random features, which a module draws anew with its weights, stay the expert's."""
    plan = plan_of(network=NetworkConfig(name="tests.methods.test_mtt:fourier"))
    for step in range(8):
        start, _ = plan.task.draw_segment(step, 2, 1)
        student = plan.method.students[0]
        images, labels = torch.randn(4, 3, 8, 8), torch.arange(4) % 3
        found = student.gradient(start, Batch(images, labels))
        weights = {name: start[name].clone().requires_grad_(True) for name in student.names}
        buffers = {name: start[name] for name in student.constants}
        scores = functional_call(plan.task.network, {**weights, **buffers}, (images,))
        slopes = torch.autograd.grad(cross_entropy(scores, labels), list(weights.values()))
        for name, slope in zip(weights, slopes, strict=True):
            torch.testing.assert_close(found[name], slope, rtol=1e-3, atol=1e-6)


class Fourier(torch.nn.Module):
    """Random Fourier features of pixels, drawn by ``reset_parameters``."""

    def __init__(self, pixels):
        super().__init__()
        self.register_buffer("frequencies", torch.zeros(pixels, 16))
        self.reset_parameters()

    def reset_parameters(self):
        self.frequencies.normal_(0, 0.1)

    def forward(self, images):
        return torch.cos(images.flatten(1) @ self.frequencies)


class OnFourier(torch.nn.Module):
    def __init__(self, spec, classes):
        super().__init__()
        self.body, self.classifier = (
            Fourier(spec.channels * spec.height * spec.width),
            torch.nn.Linear(16, classes),
        )

    def features(self, images):
        return Features((), self.body(images))

    def forward(self, images):
        return self.classifier(self.features(images).last)


def fourier(spec, classes):
    return OnFourier(spec, classes)
