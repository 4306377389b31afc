from dataclasses import replace
from math import inf

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from distilset.augment import AugmentConfig
from distilset.errors import DataError
from distilset.models import NetworkConfig, build_network, initialise
from distilset.models.convnet import Norm
from distilset.rng import Rng
from distilset.training import Protocol, Trainer, TrainSettings
from distilset.training.together import Together, load_state, state_of
from distilset.types import ImageSpec
from tests.graphs import destroying

SPEC, CLASSES, N = ImageSpec(3, 8, 8), 5, 10
PROTOCOL = Protocol("short", epochs=5, batch=4, lr=0.05, schedule="cosine", warmup=0.2)
"""Batches of 4, 4 and 2."""


def make(norm: Norm = "instance", pooling="avg") -> nn.Module:
    config = NetworkConfig(width=8, depth=2, norm=norm, pooling=pooling)
    return build_network(config, SPEC, CLASSES)


def data(seed: int = 0, soft: bool = False):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(N, CLASSES, generator=generator).softmax(1) if soft else None
    images = torch.randn(N, *SPEC.shape, generator=generator)
    return images, torch.arange(N) % CLASSES if labels is None else labels


def starts(network, rngs):
    found = []
    for rng in rngs:
        initialise(network, rng, "weights")
        found.append(state_of(network))
    return found


def alone(network, rng, images, labels, augmentation, protocol=PROTOCOL):
    initialise(network, rng, "weights")
    Trainer(network, TrainSettings()).train(images, labels, protocol, rng, augmentation)
    return state_of(network)


def gap(first, second) -> float:
    assert first.keys() == second.keys()
    return max(float((first[k] - second[k]).abs().max()) for k in first)


@pytest.mark.parametrize(
    ("norm", "soft", "augmented", "own_sets"),
    [
        ("instance", False, True, False),
        ("instance", True, True, True),
        ("group", False, False, True),
        ("layer", True, False, False),
        ("none", False, True, False),
        ("batch", False, True, False),
    ],
)
def test_each_network_becomes_what_it_becomes_alone(norm, soft, augmented, own_sets):
    rngs = [Rng(7).child("trial", trial) for trial in range(3)]
    shared = data(soft=soft)
    sets = [data(seed, soft) if own_sets else shared for seed in range(3)]
    augmentation = AugmentConfig() if augmented else None
    network = make(norm, "max" if norm == "layer" else "avg")
    Trainer(network)  # which may change the memory format, and with it the order of the draws
    expected = [
        alone(network, rng, *own, augmentation) for rng, own in zip(rngs, sets, strict=True)
    ]
    found = Together(network, TrainSettings()).train(
        starts(network, rngs),
        [images for images, _ in sets],
        [labels for _, labels in sets],
        PROTOCOL,
        rngs,
        augmentation,
    )
    assert len(found) == 3
    for one, other, start in zip(found, expected, starts(network, rngs), strict=True):
        assert gap(one, other) < 1e-4
        assert gap(one, start) > 1e-2
    assert gap(found[0], found[1]) > 1e-2


def test_gradients_are_clipped_network_by_network():
    network, protocol = make(), replace(PROTOCOL, clip=0.5)
    rngs = [Rng(0), Rng(1)]
    sets = [data(0), (100 * data(1)[0], data(1)[1])]  # one that is always clipped, one seldom
    own = starts(network, rngs)
    images, labels = zip(*sets, strict=True)
    found = Together(network, TrainSettings()).train(own, images, labels, protocol, rngs)
    for state, rng, (image, label) in zip(found, rngs, sets, strict=True):
        expected = alone(network, rng, image, label, None, protocol)
        assert gap(state, expected) < 1e-4
        assert gap(state, alone(network, rng, image, label, None)) > 1e-3


def test_a_network_does_not_depend_on_the_others():
    network, (images, labels) = make(), data()
    rngs = [Rng(trial) for trial in range(3)]
    together = Together(network, TrainSettings())

    def first(number):
        own = starts(network, rngs[:number])
        sets = [images] * number, [labels] * number
        return together.train(own, *sets, PROTOCOL, rngs[:number], AugmentConfig())[0]

    assert gap(first(1), first(3)) < 1e-5


def test_the_lent_network_and_the_inputs_are_left_alone():
    network, (images, labels) = make(), data()
    own = starts(network, [Rng(0), Rng(1)])
    copies = [{name: value.clone() for name, value in start.items()} for start in own]
    before, seen = state_of(network), []
    inputs = images.clone(), labels.clone()
    Together(network, TrainSettings()).train(
        own, [images] * 2, [labels] * 2, PROTOCOL, [Rng(0), Rng(1)], AugmentConfig(),
        lambda *at: seen.append(at),
    )  # fmt: skip
    assert gap(state_of(network), before) == 0
    assert all(gap(one, other) == 0 for one, other in zip(own, copies, strict=True))
    assert torch.equal(images, inputs[0])
    assert torch.equal(labels, inputs[1])
    assert seen == [(10, 15), (15, 15)]


def test_a_network_that_diverges_does_not_harm_its_neighbour():
    network, (images, labels) = make("none"), data()
    bad = images.clone()
    bad[0] = inf
    rngs = [Rng(0), Rng(1)]
    own = starts(network, rngs)
    ruined, found = Together(network, TrainSettings()).train(
        own, [bad, images], [labels] * 2, PROTOCOL, rngs
    )
    assert not all(value.isfinite().all() for value in ruined.values())
    assert gap(found, alone(network, rngs[1], images, labels, None)) < 1e-4


def test_states_go_in_and_out_of_a_network_in_place():
    network, images = make("batch").eval(), data()[0]
    state = state_of(network)
    scores, place = network(images).detach(), next(network.parameters()).data_ptr()
    initialise(network, Rng(5), "weights")
    cross_entropy(network.train()(images), torch.arange(N) % CLASSES).backward()
    load_state(network, state)
    assert torch.equal(network.eval()(images), scores)
    assert next(network.parameters()).data_ptr() == place


def test_refuses_sets_that_do_not_fit():
    network, (images, labels) = make(), data()
    own, rngs = starts(network, [Rng(0), Rng(1)]), [Rng(0), Rng(1)]
    together = Together(network, TrainSettings())
    with pytest.raises(DataError, match=r"sets of one size; got \[9, 10\]"):
        together.train(own, [images, images[:9]], [labels, labels[:9]], PROTOCOL, rngs)
    with pytest.raises(DataError, match="one label for each"):
        together.train(own, [images] * 2, [labels, labels[:9]], PROTOCOL, rngs)


def test_gradients_that_the_next_call_overwrites_are_used_up(monkeypatch):
    network, (images, labels) = make(), data()
    rngs = [Rng(0), Rng(1)]
    own, sets = starts(network, rngs), ([images] * 2, [labels] * 2)
    expected = Together(network, TrainSettings()).train(own, *sets, PROTOCOL, rngs)
    monkeypatch.setattr(torch, "compile", destroying())
    together = Together(network, TrainSettings(compile=True))
    found = together.train(own, *sets, PROTOCOL, rngs)
    assert max(gap(one, other) for one, other in zip(found, expected, strict=True)) < 1e-5
    assert together.failure is None
