import pytest
import torch
from torch.nn.functional import cross_entropy

from distilset.evaluation.step import Step, TrainSettings, chunk_size, settle
from distilset.models import NetworkConfig, build_network, initialise
from distilset.models.convnet import Norm
from distilset.rng import Rng
from distilset.types import ImageSpec
from tests.evaluation.conftest import needs_compiler

SPEC = ImageSpec(3, 8, 8)
FAST = TrainSettings(precision="bf16", compile=True)


def make(norm: Norm = "instance"):
    network = build_network(NetworkConfig(width=16, depth=2, norm=norm), SPEC, 5)
    initialise(network, Rng(3), "weights")
    return network.train()


def batch(n: int):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, *SPEC.shape, generator=generator), torch.arange(n) % 5


def textbook(network, images, labels):
    loss = cross_entropy(network(images), labels)
    return loss.detach(), torch.autograd.grad(loss, list(network.parameters()))


def flat(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("norm", ["instance", "batch", "layer", "none"])
def test_reference_path_equals_textbook(norm):
    images, labels = batch(7)
    expected_loss, expected = textbook(make(norm), images, labels)
    network = make(norm)
    loss = Step(network, TrainSettings()).gradients(images, labels, 4)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)
    found = [parameter.grad for parameter in network.parameters()]
    torch.testing.assert_close(flat(found), flat(expected), rtol=1e-3, atol=1e-5)


@needs_compiler
def test_fast_path_is_near_the_reference_at_every_batch_size():
    network = make()
    step = Step(network, FAST)
    for n in (7, 8, 3):  # chunks of 4: filled up, whole, and fewer rows than are filled up with
        images, labels = batch(n)
        expected_loss, expected = textbook(make(), images, labels)
        loss = step.gradients(images, labels, 4)
        assert not step.note
        torch.testing.assert_close(loss, expected_loss, rtol=1e-2, atol=1e-2)
        found = flat([parameter.grad for parameter in network.parameters()])
        assert torch.cosine_similarity(found, flat(expected), dim=0) > 0.99
        torch.testing.assert_close(found.norm(), flat(expected).norm(), rtol=0.03, atol=0)


@needs_compiler
def test_compiled_batchnorm_sees_the_whole_batch():
    images, labels = batch(7)
    reference, network = make("batch"), make("batch")
    expected_loss, expected = textbook(reference, images, labels)
    step = Step(network, TrainSettings(compile=True))
    loss = step.gradients(images, labels, 4)
    assert not step.note
    torch.testing.assert_close(loss, expected_loss, rtol=1e-4, atol=1e-5)
    found = flat([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(found, flat(expected), rtol=1e-3, atol=1e-4)
    for found, expected in zip(network.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_fast_scores_are_near_the_reference():
    images, _ = batch(10)
    network = make().eval()
    with torch.no_grad():
        expected = make().eval()(images)
    found = Step(network, FAST).scores(images, 4)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_failing_compiler_gives_eager_and_a_reason(monkeypatch):
    def broken(function, **_):
        def call(*_):
            raise RuntimeError("no compiler found\nlong story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    images, labels = batch(6)
    network = make()
    step = Step(network, FAST)
    loss = step.gradients(images, labels, 4)
    expected_loss, _ = textbook(make(), images, labels)
    torch.testing.assert_close(loss, expected_loss)
    assert step.note == "not compiled: RuntimeError: no compiler found"
    assert step.settings == TrainSettings()  # float32: eager bfloat16 is slower on a CPU
    assert step.scores(images, 4).shape == (6, 5)


def test_errors_that_are_not_the_compilers_come_through():
    with pytest.raises(RuntimeError):
        Step(make(), TrainSettings()).gradients(torch.zeros(2, 1, 8, 8), torch.zeros(2).long(), 2)


def test_short_work_is_not_compiled():
    image = ImageSpec(3, 32, 32)
    assert settle(FAST, 9_999, image)[0] == TrainSettings()
    assert settle(FAST, 10_000, image)[0] == FAST
    assert settle(FAST, 10_000, ImageSpec(1, 8, 8))[0] == TrainSettings()
    assert settle(TrainSettings(precision="bf16"), 1, image)[0].precision == "bf16"


def test_chunk_size():
    assert chunk_size([100], 32) == 25
    assert chunk_size([256], 32) == 32
    assert chunk_size([5], 32) == 5
