"""Sets made by hand: pixels that leave [0, 1], names of every kind."""

from dataclasses import replace

import pytest
import torch

from distilset.card import Card
from distilset.data.normalise import fit_transform
from distilset.store import DistilledSet, zca_digest
from distilset.testing import drawn_images
from tests.small import COUNTS, SHAPE


@pytest.fixture
def train():
    return drawn_images(SHAPE, COUNTS)


@pytest.fixture
def make(train):
    """Return a function that makes a set of ``ipc`` drawn images per class."""

    def made(ipc=2, *, classes=None, shape=SHAPE, soft=False, zca=False):
        source = train if shape == SHAPE else drawn_images(shape, COUNTS)
        classes = classes or source.classes
        generator = torch.Generator().manual_seed(ipc)
        count = len(classes) * ipc
        pixels = torch.rand(count, *shape, generator=generator) * 1.4 - 0.2
        labels = torch.arange(len(classes)).repeat_interleave(ipc)
        if soft:
            one = torch.nn.functional.one_hot(labels, len(classes)).float()
            labels = 0.7 * one + 0.3 / len(classes)
        transform = fit_transform(source, zca=zca)
        card = Card(
            kind="distilled",
            dataset=replace(source.info, fingerprint=source.digest),
            classes=tuple(classes),
            method="atom",
            ipc=ipc,
            seed=0,
            zca=zca_digest(transform.zca),
            image=shape,
        )
        return DistilledSet(pixels, labels, card, transform)

    return made
