"""A memory of a few images per class, for a continual learner of one's own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from distilset.apps.remembering import Steps, check_budget, check_maker, remember
from distilset.data.arrays import to_bytes
from distilset.data.normalise import Transform, channel_statistics, fit_transform
from distilset.errors import ConfigError, DataError
from distilset.formation import decode
from distilset.rng import Rng
from distilset.stated import from_flags
from distilset.store import DistilledSet
from distilset.types import DatasetInfo, ImageSet


class ReplayMemory:
    """What a continual learner keeps of the classes it has seen: ``ipc`` images of each.

    Every call of `observe` brings the images of new classes, distils or selects its images from
    them alone, and forgets them. `dataset` gives all that is in memory, to train on.

    Args:
        ipc: images kept per class.
        method: ``datadam``, ``atom``, ``dm``, ``package.module:Class``, or a selector such as
            ``random``, ``herding`` or ``kcenter``.
        mean, std: of every channel, of pixels in [0, 1]; without them those of the first task,
            which are kept for all later ones: a stream does not tell what is still to come.
        mirror: whether a mirrored image keeps its class (false for digits).
        seed: decides everything.
        flags: settings of the distillation as in `distilset.distill`: ``steps``, ``network``,
            ``norm``, ``init``, ``factor``, ``batch_real``, ``image_lr``, ``bank``, ``zca``
            (whitening fitted on the first task), ``device``, ``precision``, ``compile``,
            ``threads``.

    Raises:
        ConfigError: an unknown method or setting, or ``ipc`` below 1.

    Example:
        >>> import torch
        >>> memory = ReplayMemory(ipc=2, method="herding")
        >>> for classes in (["cat", "dog"], ["hen"]):
        ...     images = torch.rand(8 * len(classes), 3, 16, 16)
        ...     _ = memory.observe(images, [name for name in classes for _ in range(8)])
        ...     print(len(memory), memory.bytes, memory.classes)
        4 3072 ('cat', 'dog')
        6 4608 ('cat', 'dog', 'hen')
        >>> images, labels = memory.dataset()[:]
        >>> tuple(images.shape), labels.tolist()
        ((6, 3, 16, 16), [0, 0, 1, 1, 2, 2])
    """

    def __init__(
        self,
        ipc: int = 20,
        method: str = "datadam",
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        mirror: bool = True,
        seed: int = 0,
        **flags: Any,
    ) -> None:
        if (mean is None) != (std is None):
            raise ConfigError("mean and std are given together, or neither")
        check_budget(method, ipc)
        self.ipc, self.method, self.seed, self.mirror = ipc, method, seed, mirror
        self._given = None if mean is None or std is None else (tuple(mean), tuple(std))
        self._stated: Mapping[str, Mapping[str, Any]] = from_flags(flags)
        self._tasks: list[DistilledSet] = []
        self._classes: list[int | str] = []
        self._transform: Transform | None = None

    def observe(
        self,
        images: Tensor | np.ndarray,
        labels: Sequence[int] | Sequence[str] | Tensor | np.ndarray,
        progress: Steps | None = None,
    ) -> DistilledSet:
        """Remember a task's classes; return what is kept of them.

        Args:
            images: ``[n, channels, height, width]``, bytes, or floats in [0, 1], which are rounded
                to bytes. Not normalised.
            labels: ``n`` whole numbers, or ``n`` names.
            progress: called with the distillation steps done and their total.

        Raises:
            DataError: a class that is in memory already (all images of a class come in one task),
                labels of the other kind than before, images of another shape, or normalised ones.
            ConfigError: a class with fewer images than a selector is to pick.
        """
        names, train = self._task(images, labels)
        transform = self._transform
        if transform is None:
            transform = fit_transform(train, zca=self._stated.get("data", {}).get("zca", False))
        check_maker(self.method, train, self.ipc, self._stated, transform)
        seed = Rng(self.seed).key("memory", len(self._tasks)) >> 1
        kept = remember(
            train, self.method, self.ipc, seed, self._stated, transform, progress=progress
        )
        self._transform = transform
        self._tasks.append(kept)
        self._classes += names
        return kept

    def _task(self, images: Any, labels: Any) -> tuple[list[int | str], ImageSet]:
        """Return the class names of a task, and its images."""
        pixels = _bytes(images)
        names, codes = _codes(labels)
        self._check_new(names, pixels)
        if self._given is not None:
            mean, std = self._given
        elif self._transform is not None:
            mean, std = self._transform.mean, self._transform.std
        else:
            mean, std = channel_statistics(pixels)
        if len(mean) != pixels.shape[1] or len(std) != len(mean):
            raise ConfigError(
                f"mean and std need a number for each of {pixels.shape[1]} channels; "
                f"got {len(mean)} and {len(std)}"
            )
        info = DatasetInfo("stream", "python:stream", mean, std, mirror=self.mirror)
        words = [str(name) for name in names]
        return names, ImageSet.from_labels(pixels, codes, words, "train", info)

    def _check_new(self, names: list[int | str], pixels: Tensor) -> None:
        for name in names:
            if name in self._classes:
                raise DataError(
                    f"class {name!r} is in memory already; all images of a class come in one task"
                )
            if self._classes and type(name) is not type(self._classes[0]):
                raise DataError(
                    f"labels are names or whole numbers, not both; class {name!r} follows "
                    f"{self._classes[0]!r}"
                )
        if self._tasks and pixels.shape[1:] != self._tasks[0].spec.shape:
            raise DataError(
                f"images are {tuple(pixels.shape[1:])}; those in memory {self._tasks[0].spec.shape}"
            )

    def dataset(self, *, normalised: bool = True) -> TensorDataset:
        """Return all that is in memory, as pairs of image and label; slices give tensors.

        Images are in the space that networks see, into which `transform` brings others, or, not
        ``normalised``, pixels whose 0 and 1 are black and white (distilled ones may lie a little
        beyond). With a factor several are decoded from each that is kept. Labels are whole numbers
        as they were given; of names, positions in `classes`.

        Raises:
            DataError: nothing was observed yet.
        """
        pixels = torch.cat([task.pixels for task in self._seen()])
        names = [c if isinstance(c, int) else at for at, c in enumerate(self._classes)]
        factor = self._seen()[0].card.factor
        labels = torch.tensor(names).repeat_interleave(self.ipc * factor**2)
        if not normalised and factor == 1:
            return TensorDataset(pixels, labels)
        images = decode(self.transform.apply(pixels), factor)
        return TensorDataset(images if normalised else self.transform.invert(images), labels)

    def _seen(self) -> list[DistilledSet]:
        if not self._tasks:
            raise DataError("nothing is in memory yet; call observe first")
        return self._tasks

    @property
    def transform(self) -> Transform:
        """What brings images, bytes or floats in [0, 1], to the space that networks see."""
        self._seen()
        assert self._transform is not None, "set with the first task"
        return self._transform

    @property
    def classes(self) -> tuple[int | str, ...]:
        """The classes in memory, in the order in which they came; within a task, sorted."""
        return tuple(self._classes)

    @property
    def bytes(self) -> int:
        """The size of the images in memory, at 8 bits a channel."""
        return sum(task.pixels.numel() for task in self._tasks)

    def __len__(self) -> int:
        """The number of images that are kept."""
        return sum(len(task.pixels) for task in self._tasks)


def _bytes(images: Any) -> Tensor:
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if array.ndim != 4 or not 1 <= array.shape[1] <= 4 or not len(array):
        raise DataError(
            "images must have shape [n, channels, height, width] with 1 to 4 channels; "
            f"got {array.shape}"
        )
    return torch.from_numpy(np.array(to_bytes(array)))


def _codes(labels: Any) -> tuple[list[int | str], np.ndarray]:
    """Return the classes, sorted, and which of them each label is."""
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise DataError(
            f"labels must be a list of whole numbers or of names; got {array.dtype} {array.shape}"
        )
    names, codes = np.unique(array, return_inverse=True)
    return names.tolist(), codes
