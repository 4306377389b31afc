"""Compiled code against the textbook; run by `test_step.test_compiled_code`."""

import torch

from distilset.models import initialise
from distilset.rng import Rng
from distilset.training import Protocol, Trainer, TrainSettings
from distilset.training.learner import Learners
from distilset.training.step import Step
from tests.training.test_step import FAST, batch, flat, make, textbook

PROTOCOL = Protocol("short", epochs=3, batch=4, lr=0.05, schedule="step")


def weights(network) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


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


def test_fast_scores_are_near_the_reference():
    images, _ = batch(10)
    network = make().eval()
    with torch.no_grad():
        expected = make().eval()(images)
    found = Step(network, FAST).scores(images, 4)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_fast_training_is_near_the_reference_and_reproducible():
    fast = TrainSettings(precision="bf16", compile=True)
    network, (images, labels) = make(), batch(10)
    trainer, results = Trainer(network, fast), []
    for _ in range(2):
        initialise(network, Rng(3), "weights")  # as `make` does
        trainer.train(images, labels, PROTOCOL, Rng(0))
        results.append(weights(network).clone())
    assert not trainer.step.note
    assert torch.equal(*results)
    start, plain = weights(make()), make()
    Trainer(plain).train(images, labels, PROTOCOL, Rng(0))
    moved, expected = results[0] - start, weights(plain) - start
    assert torch.cosine_similarity(moved, expected, dim=0) > 0.98


def test_compiled_learners_are_near_eager_ones():
    fast = TrainSettings(precision="bf16", compile=True)
    for norm in ("instance", "batch"):
        results = []
        for settings in (TrainSettings(), fast):
            network = make(norm)
            learners = Learners(network.requires_grad_(False), PROTOCOL, settings, 4)
            learner = learners.start()
            for n in (7, 8, 3):
                learners.update(learner, *batch(n))
            images = batch(10)[0].requires_grad_(True)
            found = learners.features(learner, images)
            found.square().sum().backward()
            results.append((found.detach().flatten(), images.grad.flatten()))
            assert learners.failure is None
        for reference, quick in zip(*results, strict=True):
            assert torch.cosine_similarity(reference, quick, dim=0) > 0.98
