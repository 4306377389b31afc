import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from distilset.models import NetworkConfig, build_network, initialise
from distilset.models.convnet import Norm
from distilset.rng import Rng
from distilset.training.step import Step, TrainSettings, chunk_size, settle
from distilset.types import ImageSpec
from tests.graphs import destroying

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


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_code():
    """In a process of its own: the hook that checks shapes wraps what the compiler must read."""
    here = Path(__file__)
    command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*command, here.with_name("compiled_checks.py")],
        cwd=here.parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_gradients_and_scores_outlive_the_next_call_of_a_graph(monkeypatch):
    images, labels = batch(10)
    expected_loss, expected = textbook(make(), images, labels)
    network = make()
    monkeypatch.setattr(torch, "compile", destroying(list(network.parameters())))
    monkeypatch.setattr("distilset.training.step.uses_graphs", lambda device: True)
    step = Step(network, TrainSettings(compile=True))
    for _ in range(2):  # the second time gradients are there already, and may not be added to
        loss = step.gradients(images, labels, 4)
        torch.testing.assert_close(loss, expected_loss)
        found = [parameter.grad for parameter in network.parameters()]
        torch.testing.assert_close(flat(found), flat(expected), rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        plain = make().eval()(images)
    network.eval()
    torch.testing.assert_close(step.scores(images, 4), plain)
    assert not step.note
