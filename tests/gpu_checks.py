"""The device against the CPU's eager float32; run by `test_gpu` where there is CUDA.

Called by hand on another machine it compares compiled code on the CPU with eager code there. Every
compiled function is called four times: a CUDA graph is recorded by the second call and replayed
from the third on.
"""

import pytest
import torch
from torch.nn.functional import conv2d, cross_entropy

from distilset.augment import AugmentConfig
from distilset.evaluation import Protocol, Trainer, TrainSettings
from distilset.hardware import exact_float32
from distilset.models import NetworkConfig, build_network, initialise
from distilset.rng import Rng
from distilset.training.step import Step
from distilset.training.together import Together, state_of
from distilset.types import ImageSpec
from tests.small import distil

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SPEC = ImageSpec(3, 8, 8)
PROTOCOL = Protocol("short", epochs=4, batch=4, lr=0.05, schedule="step")


def make(norm="instance"):
    network = build_network(NetworkConfig(width=16, depth=2, norm=norm), SPEC, 5)
    return network.to(memory_format=torch.channels_last)


def data(n: int = 10):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, *SPEC.shape, generator=generator), torch.arange(n) % 5


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().float().cpu().flatten() for tensor in tensors])


def test_weights_are_the_cpus_and_stay_where_they_are():
    here, there = make("batch"), make("batch").to(DEVICE)
    places = [value.data_ptr() for value in there.state_dict().values()]
    for step in (0, 1):
        initialise(here, Rng(0), "weights", step)
        initialise(there, Rng(0), "weights", step)
        assert torch.equal(flat(there.state_dict().values()), flat(here.state_dict().values()))
    assert [value.data_ptr() for value in there.state_dict().values()] == places


def test_float32_is_exact():
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(*s, generator=generator) for s in ((8, 64, 16, 16), (64, 64, 3, 3)))
    expected = conv2d(x.double(), w.double(), padding=1)
    with exact_float32(DEVICE):
        found = conv2d(x.to(DEVICE), w.to(DEVICE), padding=1).cpu().double()
        product = (x.to(DEVICE).flatten(1) @ x.to(DEVICE).flatten(1).T).cpu().double()
    assert (found - expected).norm() / expected.norm() < 1e-5  # TF32: some 3e-4
    exact = x.double().flatten(1) @ x.double().flatten(1).T
    assert (product - exact).norm() / exact.norm() < 1e-5


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_chunked_gradients_and_scores_of_compiled_code(norm):
    images, labels = data()
    network = make(norm)
    step = Step(network, TrainSettings(device=DEVICE, compile=True))
    for number in range(4):
        plain = make(norm)
        initialise(plain, Rng(number), "weights")
        initialise(network, Rng(number), "weights")
        loss = cross_entropy(plain.train()(images), labels)
        expected = torch.autograd.grad(loss, list(plain.parameters()))
        network.train()
        found = step.gradients(images.to(DEVICE), labels.to(DEVICE), 4)
        torch.testing.assert_close(found.cpu(), loss.detach(), rtol=1e-4, atol=1e-5)
        gradients = flat([p.grad for p in network.parameters()])
        torch.testing.assert_close(gradients, flat(expected), rtol=1e-3, atol=1e-4)
        network.eval()
        scores = step.scores(images.to(DEVICE), 4).cpu()
        torch.testing.assert_close(scores, plain.eval()(images).detach(), rtol=1e-3, atol=1e-4)
    assert not step.note


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_networks_trained_together_become_what_they_become_alone(norm):
    (images, labels), network = data(), make(norm)
    rngs = [Rng(trial) for trial in range(3)]
    expected, starts = [], []
    for rng in rngs:
        initialise(network, rng, "weights")
        starts.append({name: value.to(DEVICE) for name, value in state_of(network).items()})
        Trainer(network).train(images, labels, PROTOCOL, rng, AugmentConfig())
        expected.append(state_of(network))
    together = Together(network.to(DEVICE), TrainSettings(device=DEVICE, compile=True))
    sets = [images] * 3, [labels] * 3
    found = together.train(starts, *sets, PROTOCOL, rngs, AugmentConfig())
    assert together.failure is None
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(flat(one.values()), flat(other.values()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["atom", "dm"])
def test_a_run_on_the_device_is_near_one_on_the_cpu(method):
    engine = {"device": DEVICE, "compile": "on", "chunk": 5}
    start, expected = distil(method=method, steps=0), distil(method=method)
    found = distil(method=method, settings={"engine": engine})
    moved, other = found.pixels - start.pixels, expected.pixels - start.pixels
    assert not found.card.notes
    assert torch.cosine_similarity(moved.flatten(), other.flatten(), dim=0) > 0.999
    torch.testing.assert_close(moved.norm(), other.norm(), rtol=1e-2, atol=0)
