import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.engine import Engine, EngineSettings, cut
from distilset.losses.statistics import Statistic
from distilset.models import NetworkConfig, build_network, initialise
from distilset.rng import Rng
from distilset.types import ImageSpec
from tests.graphs import destroying

STATISTICS = [
    Statistic("spatial", 1.0, 0, 4.0),
    Statistic("channel", 1.0, 0, 4.0),
    Statistic("features", 1.0),
]


def engine(norm="instance", **how):
    network = build_network(NetworkConfig(width=8, depth=2, norm=norm), ImageSpec(3, 8, 8), 3)
    initialise(network, Rng(0), "weights")
    return Engine(network, STATISTICS, EngineSettings(**how))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_pieces_cover_every_row_once_and_weights_sum_to_one(counts, chunk):
    pieces = cut(counts, chunk)
    rows = [row for piece in pieces for row in range(piece.rows.start, piece.rows.stop)]
    assert rows == list(range(sum(counts)))
    totals = torch.zeros(len(counts))
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    for piece in pieces:
        assert piece.rows.stop - piece.rows.start <= max(chunk, 1)
        totals[piece.classes] += piece.weights.sum(dim=1)
        assert torch.equal(piece.class_of_row, labels[piece.rows])
    assert torch.allclose(totals, torch.ones(len(counts)))


def test_small_classes_share_pieces_of_nearly_equal_size():
    """64 images of 10 classes in pieces of 512: twice 5 classes, not 8 and 2, which fills up."""
    assert [p.rows.stop - p.rows.start for p in cut([64] * 10, 512)] == [320, 320]
    assert [p.rows.stop - p.rows.start for p in cut([10] * 12, 32)] == [30] * 4


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunked_means_equal_the_whole_batch(norm, chunk):
    made = engine(norm, chunk=chunk)
    counts = [5, 2, 8]
    images = torch.randn(15, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    means = made.class_means(made.cut(counts), 3, lambda piece: images[piece.rows])
    with torch.no_grad():
        features = made.network.features(images)
    for statistic, mean in zip(STATISTICS, means, strict=True):
        whole = torch.stack([part.mean(dim=0) for part in statistic(features).split(counts)])
        assert torch.allclose(mean, whole, atol=1e-5)


@pytest.mark.parametrize("ipc", [1, 4, 50])
def test_parts_sum_to_the_whole_loss(ipc):
    made = engine(chunk=8)
    images = torch.randn(3 * ipc, 3, 8, 8, requires_grad=True)
    target = tuple(torch.randn(3, d) for d in (64, 8, 32))
    parts = list(made.parts(made.groups(ipc, 3), target, lambda piece: images[piece.rows]))
    features = made.network.features(images)
    whole = sum(
        (statistic(features).reshape(3, ipc, -1).mean(dim=1) - goal).square().sum()
        for statistic, goal in zip(STATISTICS, target, strict=True)
    )
    assert torch.allclose(sum(parts), whole, rtol=1e-4)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_target_that_does_not_fit_the_statistics_is_noticed(more):
    made = engine()
    images = torch.rand(3, 3, 8, 8)
    target = made.class_means(made.groups(1, 3), 3, lambda piece: images[piece.rows])
    wrong = target[:more] if more < 0 else (*target, target[0])
    with pytest.raises(ValueError, match="zip"):
        list(made.parts(made.groups(1, 3), wrong, lambda piece: images[piece.rows]))


def test_bfloat16_means_are_close_to_float64():
    made, images = engine(precision="bf16"), torch.randn(12, 3, 8, 8)
    means = made.class_means(made.cut([6, 6]), 2, lambda piece: images[piece.rows])
    network = made.network.double()
    with torch.no_grad():
        features = network.features(images.double())
    for statistic, mean in zip(STATISTICS, means, strict=True):
        exact = statistic(features).double().reshape(2, 6, -1).mean(dim=1)
        assert (mean - exact).norm() / exact.norm() < 1e-2


def test_float32_means_and_gradients_are_close_to_float64():
    made = engine()
    images = torch.randn(6, 3, 8, 8, requires_grad=True)
    target = tuple(torch.zeros(3, d) for d in (64, 8, 32))
    sum(made.parts(made.groups(2, 3), target, lambda p: images[p.rows])).backward()
    double = images.detach().double().requires_grad_(True)
    network = made.network.double()
    features = network.features(double)
    loss = features.last.reshape(3, 2, -1).mean(dim=1).square().sum()
    for kind, axis in (("spatial", 1), ("channel", (2, 3))):
        z = features.maps[0].pow(4).sum(dim=axis).flatten(1)
        z = z / z.norm(dim=1, keepdim=True)
        loss = loss + z.reshape(3, 2, -1).mean(dim=1).square().sum()
        assert kind in ("spatial", "channel")
    loss.backward()
    assert images.grad is not None
    assert double.grad is not None
    assert (images.grad - double.grad).norm() / double.grad.norm() < 1e-3


def test_filling_up_a_compiled_piece_changes_nothing(monkeypatch):
    made = engine(compile=True, chunk=4)
    monkeypatch.setattr(made.forward, "wanted", False)  # the shapes, without the compiler
    sizes = []
    eager = made.forward.eager
    made.forward.eager = lambda x: sizes.append(len(x)) or eager(x)
    images = torch.randn(10, 3, 8, 8)
    means = made.class_means(made.cut([7, 3]), 2, lambda piece: images[piece.rows])
    plain = engine(chunk=4)
    expected = plain.class_means(plain.cut([7, 3]), 2, lambda piece: images[piece.rows])
    assert set(sizes) == {4}
    for mean, other in zip(means, expected, strict=True):
        assert np.allclose(mean, other, atol=1e-6)


def test_outputs_that_the_next_call_overwrites_are_used_up(monkeypatch):
    images = torch.randn(15, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for compiled in (False, True):
        if compiled:
            monkeypatch.setattr(torch, "compile", destroying())
        made = engine(chunk=4, compile=compiled)
        pieces, own = made.cut([5, 2, 8]), images.clone().requires_grad_(True)
        means = made.class_means(pieces, 3, lambda piece: images[piece.rows])
        goal = tuple(mean + 1 for mean in means)
        losses = []
        for part in made.parts(pieces, goal, lambda piece, own=own: own[piece.rows]):
            part.backward()
            losses.append(part.detach())
        found.append([*means, torch.stack(losses), own.grad])
    for expected, value in zip(*found, strict=True):
        assert value.isfinite().all()
        torch.testing.assert_close(value, expected)
