import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from distilset.augment import AugmentConfig
from distilset.data.normalise import Transform
from distilset.errors import DataError
from distilset.models import NetworkConfig, build_network, initialise
from distilset.models.convnet import Norm
from distilset.rng import Rng
from distilset.training import PROTOCOLS, Protocol, Trainer, accuracy, train
from distilset.training.trainer import batches
from distilset.types import ImageSpec

SPEC = ImageSpec(3, 8, 8)
CLASSES = 5  # as in test_step, whose compiled code is then found in the cache
PROTOCOL = Protocol("short", epochs=3, batch=4, lr=0.05, schedule="step")


def make(norm: Norm = "instance"):
    network = build_network(NetworkConfig(width=16, depth=2, norm=norm), SPEC, CLASSES)
    initialise(network, Rng(1), "weights")
    return network


def data(n: int = 10):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, *SPEC.shape, generator=generator), torch.arange(n) % CLASSES


def weights(network) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def trained(seed=0, norm: Norm = "instance", labels=None, augmentation=None):
    network = make(norm)
    images, hard = data()
    train(network, images, hard if labels is None else labels, PROTOCOL, Rng(seed),
          augmentation)  # fmt: skip
    return weights(network)


def test_every_epoch_holds_every_image_once():
    found = list(batches(10, PROTOCOL, Rng(0)))
    assert [len(rows) for rows in found] == [4, 4, 2] * 3
    epochs = [torch.cat(found[start : start + 3]) for start in (0, 3, 6)]
    assert all(epoch.sort().values.tolist() == list(range(10)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist() != epochs[2].tolist()


@pytest.mark.parametrize("clip", [None, 0.2])
def test_equals_a_textbook_loop(clip):
    network, (images, labels) = make(), data()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    for update, rows in enumerate(batches(10, PROTOCOL, Rng(0))):
        optimizer.param_groups[0]["lr"] = 0.05 if update < 6 else 0.005
        optimizer.zero_grad()
        cross_entropy(network(images[rows]), labels[rows]).backward()
        if clip is not None:
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            length = math.sqrt(sum(float((one**2).sum()) for one in gradients))
            assert length > 2 * clip  # or the case is none
            for one in gradients:
                one *= clip / length
        optimizer.step()
    found = make()
    train(found, images, labels, replace(PROTOCOL, clip=clip), Rng(0))
    torch.testing.assert_close(weights(found), weights(network), rtol=1e-4, atol=1e-5)


def test_same_seed_same_bits_and_global_state_untouched():
    augmentation, before = AugmentConfig(), torch.get_rng_state()
    first = trained(augmentation=augmentation)
    assert torch.equal(first, trained(augmentation=augmentation))
    assert not torch.equal(first, trained(seed=1, augmentation=augmentation))
    assert not torch.equal(first, trained())
    assert torch.equal(before, torch.get_rng_state())


def test_inputs_are_left_alone():
    images, labels = data()
    copies = images.clone(), labels.clone()
    train(make(), images, labels, PROTOCOL, Rng(0), AugmentConfig())
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])


def test_one_hot_labels_equal_hard_ones():
    soft = one_hot(data()[1], CLASSES).float()
    torch.testing.assert_close(trained(labels=soft), trained(), rtol=1e-4, atol=1e-5)


def test_batchnorm_trains_on_batches_and_scores_by_running_statistics():
    network, (images, labels) = make("batch"), data(12)
    protocol = PROTOCOL.with_epochs(20)
    train(network, images, labels, protocol, Rng(0))
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == 60 for norm in norms)
    trainer = Trainer(network)
    pixels = torch.randint(0, 256, (9, *SPEC.shape), dtype=torch.uint8)
    truth = torch.arange(9) % CLASSES
    transform = Transform((0.5,) * 3, (0.25,) * 3)
    together = trainer.accuracy(pixels, truth, transform)
    assert not network.training
    one_by_one = [
        trainer.accuracy(pixels[i : i + 1], truth[i : i + 1], transform) for i in range(9)
    ]
    assert together == pytest.approx(sum(one_by_one) / 9)


def test_prepare_is_applied_to_every_batch():
    images, labels = data()
    doubled, prepared = make(), make()
    Trainer(doubled).train(2 * images, labels, PROTOCOL, Rng(0))
    Trainer(prepared).train(images, labels, PROTOCOL, Rng(0), prepare=lambda batch: 2 * batch)
    assert torch.equal(weights(doubled), weights(prepared))


def test_progress_counts_updates():
    seen = []
    Trainer(make()).train(
        *data(), PROTOCOL.with_epochs(4), Rng(0), progress=lambda *at: seen.append(at)
    )
    assert seen == [(10, 12), (12, 12)]


def test_accuracy_by_hand_and_independent_of_chunks(digits):
    transform, test = Transform((0.3,), (0.4,)), digits["test"]
    network = build_network(NetworkConfig(width=8, depth=2), test.spec, 10)
    with torch.no_grad():
        scores = network.eval()(transform.apply(test.images))
    expected = float((scores.argmax(1) == test.labels).float().mean())
    assert accuracy(network, test, transform) == pytest.approx(expected)
    trainer = Trainer(network)
    assert trainer.accuracy(test.images, test.labels, transform, chunk=7) == pytest.approx(expected)


def test_diverged_network_has_no_accuracy():
    images, labels = data()
    network = make()
    train(network, images, labels, Protocol("wild", 20, 4, 1e30, "step"), Rng(0))
    pixels = torch.zeros(4, *SPEC.shape, dtype=torch.uint8)
    assert math.isnan(
        Trainer(network).accuracy(pixels, labels[:4], Transform((0.5,) * 3, (0.5,) * 3))
    )


@pytest.mark.parametrize(("n", "m"), [(0, 0), (4, 3)])
def test_refuses_images_without_labels(n, m):
    with pytest.raises(DataError, match="one label for each"):
        train(make(), torch.zeros(n, *SPEC.shape), torch.zeros(m).long(), PROTOCOL, Rng(0))


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_quick_trains_networks_whose_first_gradients_are_large(name, digits):
    """Without its clip VGG-11 with instance norm stays at chance here."""
    train_part, test = digits["train"], digits["test"]
    rows = torch.cat([torch.arange(first, first + 10) for first in train_part.offsets[:-1]])
    transform = Transform((0.3,), (0.4,))
    network = build_network(NetworkConfig(name=name, width=8), test.spec, 10)
    initialise(network, Rng(0), "weights")
    images, labels = transform.apply(train_part.images[rows]), train_part.labels[rows]
    train(network, images, labels, PROTOCOLS["quick"], Rng(0))
    assert accuracy(network, test, transform) > 0.5
