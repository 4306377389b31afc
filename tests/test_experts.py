import copy
import shutil
from collections import Counter
from dataclasses import replace
from math import cos, pi

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import distilset
from distilset import experts as module
from distilset.augment import augment, draw_per_image
from distilset.cache import cache_folder
from distilset.errors import ConfigError, DataError
from distilset.models import code_digest, initialise
from distilset.plan import make_plan
from distilset.rng import Rng
from distilset.schooling import ExpertsConfig
from distilset.session import open_session
from distilset.testing import drawn_images, small_config
from distilset.training.trainer import batches
from distilset.types import Features
from tests.small import call, content, distil, distill, splits, tree, write_npz

TRAIN = drawn_images((3, 8, 8), (60, 50, 70))
FEW = {"updates": 7, "snapshots": 3}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILSET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def task_of(number=2, pool=(), zca=False, **changes):
    made = small_config("dm", {})
    made = replace(
        made,
        data=replace(made.data, zca=zca),
        network=replace(made.network, pool=pool),
        experts=ExpertsConfig(number=number, **{**FEW, **changes}),
    )
    return make_plan(made, TRAIN).task


def states(task, steps):
    """Return the weights that are drawn at steps, flat."""
    return [flat(task.draw_network(step)) for step in range(steps)]


def flat(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def by_the_formulas(task, number, updates):
    """Train an expert by plain PyTorch, without the trainer, for its first updates."""
    network = copy.deepcopy(task.network).requires_grad_(True).train()
    rng = Rng(0).child("expert", number)
    initialise(network, rng, "weights")
    draws, total = rng.torch("augment"), task.experts[0].config.updates
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    images = task.transform.apply(TRAIN.images)
    rising = int(0.1 * total)
    for update, rows in enumerate(batches(len(TRAIN), task.experts[0]._protocol, rng)):
        if update == updates:
            break
        draw = draw_per_image(task.augmentation, draws, len(rows))
        loss = cross_entropy(
            network(augment(images[rows], draw, task.augmentation)), TRAIN.labels[rows]
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        part = (update - rising) / (total - rising)
        rate = (update + 1) / rising if update < rising else 0.5 * (1 + cos(pi * part))
        optimizer.param_groups[0]["lr"] = 0.04 * rate
        optimizer.step()
    return flat(network)


def test_what_is_drawn_was_trained_on_the_real_images():
    task = task_of(snapshots=2)
    task.train_experts()
    wanted = [by_the_formulas(task, number, updates) for number in (0, 1) for updates in (3, 7)]
    drawn = states(task, 200)
    found = [
        next(k for k, want in enumerate(wanted) if torch.allclose(got, want, atol=1e-5))
        for got in drawn
    ]
    assert set(Counter(found)) == {0, 1, 2, 3}
    assert min(Counter(found).values()) > 25, "each state is drawn equally often"


def test_more_experts_leave_those_that_are_there():
    task = task_of(1)
    task.train_experts()
    first = task.experts[0].path(0).read_bytes()
    more = task_of(2)
    assert more.experts[0].missing == [1]
    told = []
    more.train_experts(lambda done, total: told.append((done, total)))
    assert told[-1] == (7, 7)
    assert more.experts[0].path(0).read_bytes() == first
    assert more.experts[0].missing == []


def test_every_network_of_a_pool_has_its_own():
    task = task_of(pool=("lenet",))
    task.train_experts()
    assert len({one.folder for one in task.experts}) == 2
    assert len({len(state) for state in states(task, 12)}) == 2
    assert task.alone(1).experts == (task.experts[1],)


@pytest.mark.parametrize("change", [{"updates": 8}, {"snapshots": 2}, {"seed": 3}])
def test_other_settings_are_other_experts(change):
    assert task_of().experts[0].folder != task_of(**change).experts[0].folder


def test_whitened_images_are_trained_on_whitened():
    plain, whitened = task_of(1), task_of(1, zca=True)
    plain.train_experts()
    whitened.train_experts()
    assert not torch.equal(states(plain, 1)[0], states(whitened, 1)[0])


def test_measuring_a_step_trains_nothing(cache):
    config = replace(small_config("atom", {}), experts=ExpertsConfig(number=1, **FEW))
    session = open_session(config, TRAIN)
    assert session.plan.task.experts[0].missing == [0]
    assert session.needs()[session.plan.task.experts[0].folder] > 0
    session.train_experts()
    assert session.plan.task.experts[0].missing == []
    assert any("the experts were trained in" in note for note in session.progress.notes)


@pytest.mark.parametrize("more", [{}, {"bank": 3}, {"bank": 20, "bank_workers": 2}])
def test_a_run_is_the_same_whether_its_experts_are_there_or_not(tmp_path, cache, more):
    flags = {**more, "settings": {"experts": {"number": 2, **FEW}}}
    if "bank_workers" in more:
        flags["settings"]["engine"] = {"threads": 2}
    one = distil(out=tmp_path / "one", **flags)
    again = distil(out=tmp_path / "again", **flags)
    assert any("beyond the papers: 2 networks trained on" in note for note in again.card.notes)
    cache.rename(tmp_path / "elsewhere")
    distil(out=tmp_path / "anew", **flags)
    assert content(tmp_path / "one") == content(tmp_path / "again") == content(tmp_path / "anew")
    untrained = distil(**{**flags, "settings": flags["settings"] | {"experts": {}}})
    assert not torch.equal(one.pixels, untrained.pixels)


def test_a_run_goes_on_with_its_experts(tmp_path):
    flags = {"settings": {"experts": {"number": 2, **FEW}}}
    distil(out=tmp_path / "whole", steps=6, **flags)
    distil(out=tmp_path / "parts", steps=3, **flags)
    distil(out=tmp_path / "parts", steps=6, resume=True, **flags)
    assert content(tmp_path / "whole") == content(tmp_path / "parts")


def test_trained_networks_tell_classes_apart():
    train = distilset.load_data("digits").train
    config = replace(small_config("dm", {}), experts=ExpertsConfig(1, 60, 2))
    task = make_plan(config, train).task
    task.train_experts()
    images = task.transform.apply(train.images[::5])

    def right():
        return (task.network(images).argmax(1) == train.labels[::5]).float().mean()

    initialise(task.network, Rng(0), "weights")
    assert right() < 0.4
    task.draw_network(0)
    assert right() > 0.6


def test_damage_is_told():
    task = task_of(1)
    task.train_experts()
    path = task.experts[0].path(0)
    whole = path.read_bytes()
    nan = b"\x00\x00\xc0\x7f"
    for damaged in (b"", whole[:-8], whole[:-4] + nan, b"\0" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged: .*; remove .* and go on with --resume"):
            states(task_of(1), 8)
    path.unlink()
    with pytest.raises(DataError, match="it is no regular file; remove"):
        task_of(1).draw_network(0)


def test_a_run_goes_on_when_the_cache_is_cleared(cache):
    task = task_of(2)
    task.train_experts()
    before = states(task, 20)
    shutil.rmtree(cache / "experts")
    assert all(map(torch.equal, before, states(task, 20)))


def test_a_bank_follows_experts_that_came_out_otherwise(monkeypatch):
    flags = {"bank": 3, "settings": {"experts": {"number": 1, **FEW}}}
    distil(**flags)
    (folder,) = cache_folder("banks").iterdir()
    first = tree(folder)
    shutil.rmtree(cache_folder("experts"))
    distil(**flags)
    assert tree(folder) == first
    shutil.rmtree(cache_folder("experts"))
    monkeypatch.setattr(module, "WARMUP", 0.5)  # as another machine's rounding would
    distil(**flags)
    assert {name: data != first[name] for name, data in tree(folder).items() if "f16" in name} == {
        name: True for name in first if "f16" in name
    }


def test_a_bank_whose_experts_are_gone_is_left_as_it_is(cache):
    made = small_config("dm", {})
    made = replace(
        made, distill=replace(made.distill, bank=3), experts=ExpertsConfig(number=1, **FEW)
    )
    plan = make_plan(made, TRAIN)
    plan.task.train_experts()
    plan.method.bank.build()
    before = tree(cache / "banks")
    shutil.rmtree(cache / "experts")
    make_plan(made, TRAIN).method.bank.build()
    assert tree(cache / "banks") == before


def test_how_many_there_are_changes_none_of_them():
    many = {one.experts[0].folder for one in (task_of(1), task_of(2), task_of(500))}
    assert len(many) == 1


def test_own_code_is_told_apart_by_its_scores():
    network = Own(splits().train.spec, 1.0)
    spec = splits().train.spec
    assert code_digest(network, spec) == code_digest(Own(spec, 2.0), spec)
    digests = {code_digest(Own(spec, t), spec, scores=True) for t in (1.0, 2.0, 1.0)}
    assert len(digests) == 2


class Own(nn.Module):
    """A network whose scores are not those of its classifier."""

    def __init__(self, spec, temperature):
        super().__init__()
        self.classifier = nn.Linear(spec.channels * spec.height * spec.width, 3)
        self.temperature = temperature

    def features(self, images):
        return Features((), images.flatten(1))

    def forward(self, images):
        return self.classifier(self.features(images).last) / self.temperature


def test_a_training_that_diverges_is_told(monkeypatch):
    monkeypatch.setattr(module, "CLIP", 1e30)
    task = task_of(1, updates=30, lr=1e30)
    with pytest.raises(DataError, match="diverged"):
        task.train_experts()
    assert task.experts[0].missing == [0]


def test_the_command_line(tmp_path, capsys):
    data, out = write_npz(tmp_path / "drawn.npz"), tmp_path / "run"
    words = distill(data, out, "--experts", 2, "--set", "experts.updates=3", "--device", "cpu")
    code, _, err = call(capsys, *words)
    assert code == 0, err
    assert "2 networks trained on the real images for 3 updates" in " ".join(err.split())
    assert "training experts: 6/6" in err
    assert len(list(cache_folder("experts").glob("*/*.safetensors"))) == 2
    code, out, _ = call(capsys, "cache")
    assert code == 0
    assert "experts" in out


def test_splits_of_a_run_decide_its_experts():
    assert splits().train.digest != TRAIN.digest
    assert task_of().experts[0].key["train"] == TRAIN.digest


def normed(**changes):
    """Return the plan of a run whose network has BatchNorm, and whose experts are there."""
    made = small_config("atom", {"class_weight": 1.0})
    made = replace(
        made,
        network=replace(made.network, norm="batch"),
        distill=replace(made.distill, bank=2),
        experts=ExpertsConfig(**{"number": 1, **FEW, "batch_norm": "running", **changes}),
    )
    plan = make_plan(made, TRAIN)
    plan.task.train_experts()
    return plan


def test_running_statistics_are_those_that_an_expert_has_learnt():
    plan = normed(snapshots=1)
    network = copy.deepcopy(plan.task.network)
    network.load_state_dict(
        {
            name: plan.task.experts[0]._read(0, f"0/{name}", value, False)
            for name, value in network.state_dict().items()
        }
    )
    images = torch.randn(6, 3, 8, 8)
    wanted = network.eval().double().features(images.double()).last
    plan.task.draw_network(0)
    (engine,) = plan.method.engines
    at = [one.kind for one in engine.statistics].index("features")
    torch.testing.assert_close(engine.per_image(images)[at].double(), wanted, rtol=1e-4, atol=1e-5)


def test_by_running_statistics_an_image_stands_alone():
    plan = normed()
    (engine,) = plan.method.engines
    plan.task.draw_network(0)
    images = torch.randn(6, 3, 8, 8)
    for whole, alone in zip(engine.per_image(images), engine.per_image(images[:2]), strict=True):
        torch.testing.assert_close(whole[:2], alone)
    assert not engine.coupled
    (coupled,) = normed(batch_norm="batch").method.engines
    assert coupled.coupled


def test_both_kinds_of_statistics_share_experts_but_no_bank():
    running, batch = normed(), normed(batch_norm="batch")
    assert running.task.experts[0].folder == batch.task.experts[0].folder
    assert running.method.bank.folder != batch.method.bank.folder


def test_running_statistics_make_other_images_and_resume_exactly(tmp_path):
    batch, running = (
        {"experts": {"number": 1, **FEW, "batch_norm": kind}} for kind in ("batch", "running")
    )
    flags = {"norm": "batch", "steps": 4}
    one = distil(out=tmp_path / "a", settings=running, **flags)
    assert not torch.equal(one.pixels, distil(settings=batch, **flags).pixels)
    half = flags | {"steps": 2}
    distil(out=tmp_path / "b", settings=running, **half)
    again = distil(out=tmp_path / "b", settings=running, resume=True, **flags)
    assert torch.equal(one.pixels, again.pixels)


@pytest.mark.parametrize(
    ("norm", "number", "told"),
    [("instance", 1, "needs a network with BatchNorm"), ("batch", 0, "give --experts 1 or more")],
)
def test_running_statistics_that_nobody_has_are_refused(norm, number, told):
    with pytest.raises(ConfigError, match=told):
        distil(norm=norm, settings={"experts": {"number": number, "batch_norm": "running"}})
