"""FRePo: Dataset Distillation using Neural Feature Regression (Zhou et al., NeurIPS 2022)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.functional import one_hot

from distilset.augment import augment, draw_per_image
from distilset.compilation import failures_told
from distilset.losses.regression import ridge_error
from distilset.methods.base import STRICT, Update, Weight
from distilset.task import Task
from distilset.training.learner import Learners
from distilset.training.protocols import Protocol
from distilset.training.trainer import batches

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=100_000)]


@dataclass(frozen=True, config=STRICT)
class FRePoConfig:
    """Settings of FRePo: how networks are trained on the synthetic images, and of the regression.

    An episode has ``networks`` fresh ones side by side; each is trained for ``age`` updates and
    gives an image update before each of its own. With one alone the loss tells less: it is that of
    images which follow the network at hand. ``batch`` None trains on all decoded
    images at once. ``lr``, ``momentum`` and ``weight_decay`` are SGD's, as evaluation protocols
    have them, with the run's augmentation (one operation for a batch, every image with parameters
    of its own). ``ridge`` times the mean squared length of the synthetic features regularises.
    """

    networks: Count = 10
    age: Count = 200
    batch: Count | None = None
    lr: Rate = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Weight = 5e-4
    ridge: Rate = 1e-3

    @property
    def updates_per_episode(self) -> int:
        """The image updates of an episode."""
        return self.networks * self.age


class FRePo:
    """Descend on the error of a ridge regression from synthetic to real features.

    Networks are trained on the synthetic images only. Of one that is drawn, the last features of
    the synthetic images predict the labels of a batch of real images (kernel ridge regression);
    what is differentiated is that error by the images, the network held fixed, and after the image
    update the network is trained for one update more.

    Departures: labels stay as they are, one-hot (published: learnt, too); networks are trained by
    SGD on the cross-entropy of augmented images, as an evaluation does (published: Adam, squared
    error); a pool lives for an episode, so that a run can stop between two.
    """

    Config: ClassVar[type] = FRePoConfig
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "distill": {
            "steps": 6,
            "batch_real": 50,
            "optimizer": "adam",
            "schedule": "cosine",
            "image_lr": 0.02,
        }
    }
    decodes = True

    def __init__(self, config: FRePoConfig, task: Task) -> None:
        self.config, self.task = config, task
        self.labels = task.labels
        self.known = _centred(self.labels, task)
        self.protocol = Protocol(
            "frepo",
            epochs=None,
            updates=config.age,
            batch=config.batch or len(self.labels),
            lr=config.lr,
            schedule="constant",
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.learners = tuple(
            Learners(network, self.protocol, task.training, task.settings.chunk)
            for network in task.networks
        )

    @property
    def notes(self) -> Sequence[str]:
        """Say whether a compilation failed."""
        return failures_told(one.failure for one in self.learners)

    @property
    def images_per_step(self) -> int:
        """How many images the networks of an episode see in all."""
        real = sum(min(count, self.task.batch_real) for count in self.task.train.counts)
        n, config = len(self.labels), self.config
        learnt = config.networks * self.protocol.images_seen(n)
        return config.updates_per_episode * (n + real) + learnt

    def episode(self, images: Float[Tensor, "n c h w"], step: int) -> Iterator[Update]:
        """Yield an image update for every age of every network, the networks in turn by lot."""
        config, task = self.config, self.task
        pupils = [Pupil(self, step * config.networks + one) for one in range(config.networks)]
        for age in range(config.age):
            order = task.rng.numpy("order", step, age).permutation(config.networks)
            for at, one in enumerate(order):
                key = (step * config.age + age) * config.networks + at
                yield self._update(images, pupils[one], key)
                pupils[one].learn(images)

    def _update(self, images: Tensor, pupil: "Pupil", key: int) -> Update:
        """Yield the loss on real images, in one part."""
        task = self.task
        drawn = task.draw_real(key)
        truth = torch.cat([torch.full((len(rows),), c) for c, rows in enumerate(drawn)])
        with torch.no_grad():
            real = pupil.learners.features(pupil.learner, task.real(torch.cat(drawn)))
        synthetic = pupil.learners.features(pupil.learner, task.decode(images))
        wanted = _centred(truth, task)
        yield ridge_error(synthetic, self.known, real, wanted, self.config.ridge)


class Pupil:
    """One network of an episode, from fresh to its last age; all draws come from its number."""

    def __init__(self, method: FRePo, number: int) -> None:
        task = method.task
        task.draw_network(number)
        self.method = method
        self.learners = method.learners[task.choice(number)]
        self.learner = self.learners.start()
        rng = task.rng.child("inner", number)
        self.orders = batches(len(method.labels), method.protocol, rng)
        self.draws = rng.torch("augment")

    @torch.no_grad()
    def learn(self, images: Float[Tensor, "n c h w"]) -> None:
        """Train on one batch of what the images now are."""
        task, rows = self.method.task, next(self.orders)
        draw = draw_per_image(task.augmentation, self.draws, len(rows))
        seen = augment(task.decode(images)[rows.to(images.device)], draw, task.augmentation)
        labels = self.method.labels[rows].to(images.device)
        with torch.enable_grad():
            self.learners.update(self.learner, seen, labels)


def _centred(labels: Int64[Tensor, " n"], task: Task) -> Float[Tensor, "n classes"]:
    """Return one-hot labels less their mean over balanced classes, on the device."""
    return one_hot(labels, task.classes).to(task.settings.device).float() - 1 / task.classes
