"""A class-incremental stream: classes in tasks, in an order that is drawn."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from distilset.errors import ConfigError, DataError
from distilset.rng import Rng
from distilset.types import ImageSet


def task_sizes(classes: int, tasks: int) -> tuple[int, ...]:
    """Return how many classes each task brings; the first have one more if they do not divide.

    Raises:
        ConfigError: fewer than one task, or more tasks than classes.

    Example:
        >>> task_sizes(10, 4)
        (3, 3, 2, 2)
    """
    if tasks < 1:
        raise ConfigError(f"tasks must be 1 or more; got {tasks}")
    if tasks > classes:
        raise ConfigError(
            f"{tasks} tasks need as many classes at least; the data have {classes}, "
            "and every task brings new ones"
        )
    size, more = divmod(classes, tasks)
    return tuple(size + (task < more) for task in range(tasks))


def class_tasks(classes: int, tasks: int, seed: int, order: int) -> list[list[int]]:
    """Return the classes of each task, in the order in which they arrive.

    ``order`` numbers the orders of a seed, from 1; each is drawn from the seed alone.
    """
    drawn = Rng(seed).numpy("class order", order).permutation(classes).tolist()
    sizes = task_sizes(classes, tasks)
    ends = [sum(sizes[: task + 1]) for task in range(tasks)]
    return [drawn[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def of_classes(images: ImageSet, classes: Sequence[int]) -> ImageSet:
    """Return the images of some classes, which are then numbered in the order given.

    Its fingerprint is that of these images, not of the whole data; mean and std stay.
    """
    parts = [images.of_class(c) for c in classes]
    offsets = [0]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return ImageSet(
        torch.cat(parts),
        tuple(offsets),
        tuple(images.classes[c] for c in classes),
        images.role,
        replace(images.info, fingerprint=""),
    )


def check_part(train: ImageSet, part: ImageSet) -> None:
    """Refuse a part to score on that lacks a class of the training part.

    Raises:
        DataError: with the class.
    """
    if part.classes != train.classes or part.spec != train.spec:
        raise DataError(
            f"the {part.role} part has {len(part.classes)} classes of {part.spec} images; "
            f"the train part has {len(train.classes)} of {train.spec}: they must be the same"
        )
    for name, count in zip(part.classes, part.counts, strict=True):
        if not count:
            raise DataError(
                f"class {name!r} has no images in the {part.role} part; every class needs some "
                "there, or accuracy after its task would not count it"
            )
