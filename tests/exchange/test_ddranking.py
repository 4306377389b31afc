"""What DD-Ranking's documentation asks for: a tensor, labels in order, folders in order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import distilset
from distilset.grid import to_bytes


def load(folder, name):
    return torch.load(folder / name, weights_only=True)


def test_tensors_are_sorted_and_normalised(make, tmp_path):
    made = make(4)
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(0))
    mixed = replace(made, pixels=made.pixels[order], labels=made.labels[order])
    distilset.export_set(mixed, "ddranking", tmp_path / "x")
    images, labels = load(tmp_path / "x", "images.pt"), load(tmp_path / "x", "labels.pt")
    assert images.shape == (12, 3, 8, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    expected = np.concatenate([np.full(4, c) for c in range(3)])  # what is assumed without labels
    assert np.array_equal(labels.numpy(), expected)
    pixels = images * 0.25 + 0.5
    for c in range(3):
        own = made.pixels[made.labels == c].sum((1, 2, 3)).sort().values
        assert torch.allclose(pixels[labels == c].sum((1, 2, 3)).sort().values, own, atol=1e-3)


def test_folders_come_in_the_order_of_labels(make, tmp_path):
    """As torchvision's ImageFolder takes them: sorted by name, then the files by name."""
    made = make(2, classes=tuple(f"c{c}" for c in range(12)))
    distilset.export_set(made, "ddranking", tmp_path / "x")
    root = tmp_path / "x" / "images"
    classes = sorted(entry.name for entry in root.iterdir())
    read = [
        (np.asarray(Image.open(file)), label)
        for label, name in enumerate(classes)
        for file in sorted((root / name).iterdir())
    ]
    assert [label for _, label in read] == load(tmp_path / "x", "labels.pt").tolist()
    pixels = to_bytes(made.pixels).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(np.stack([image for image, _ in read]), pixels)


@pytest.mark.parametrize(
    ("name", "mean"),
    [("cifar10", 0.4914), ("cifar100", 0.4914), ("imagenette", 0.485), ("mine", 0.5)],
)
def test_normalised_as_its_test_images_are(make, tmp_path, name, mean):
    made = make(1)
    card = replace(made.card, dataset=replace(made.card.dataset, name=name))
    black = replace(made, pixels=torch.zeros_like(made.pixels), card=card)
    distilset.export_set(black, "ddranking", tmp_path / "x")
    std = {"cifar10": 0.2023, "cifar100": 0.2023, "imagenette": 0.229, "mine": 0.25}[name]
    found = load(tmp_path / "x", "images.pt")[:, 0]
    assert torch.allclose(found, torch.full_like(found, -mean / std))


def test_soft_labels_are_named(make, tmp_path):
    distilset.export_set(make(1, soft=True), "ddranking", tmp_path / "x")
    assert load(tmp_path / "x", "labels.pt").shape == (3, 3)
    assert "soft_labels=labels" in (tmp_path / "x" / "README.md").read_text()
