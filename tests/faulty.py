"""Methods that go wrong: bad numbers, and memory that runs out."""

import math
from typing import ClassVar

import torch

from distilset.methods.atom import ATOM
from tests.small import Pull


class Hopeless(Pull):
    """Bad from its fourth step on, whatever the learning rate."""

    def episode(self, images, step):
        yield [images.square().sum() * (float("nan") if step >= 3 else 1.0)]


class Short(ATOM):
    """ATOM that finds no memory from step ``at`` on for more than ``fits`` images in a pass."""

    at, fits = 3, 2

    def episode(self, images, step):
        if step >= self.at and self.task.settings.chunk > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
        yield from super().episode(images, step)


class Twice(Pull):
    """Two updates in a step; memory runs out at the second one, once for each of ``failures``."""

    failures: ClassVar[list[int]] = []

    def episode(self, images, step):
        yield [images.square().sum()]
        if step in self.failures:
            self.failures.remove(step)
            raise MemoryError
        yield [(images - step).square().sum()]


SHORT = "tests.faulty:Short"


class Fenced(Pull):
    """Two updates in a step; bad where an image is outside ``fences`` before a step."""

    fences: ClassVar[dict[int, float]] = {9: 3.0, 24: 0.6}

    def episode(self, images, step):
        outside = images.detach().abs().max() > self.fences.get(step, float("inf"))
        yield [(images - math.sin(step)).square().sum()]
        yield [(images - math.cos(step)).square().sum() * (float("nan") if outside else 1.0)]
