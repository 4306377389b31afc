"""The conformance test: what every method must do, for ours and for anybody's own.

    from distilset.testing import check_method
    check_method("my_package.my_module:MyMethod")

Each check raises an ``AssertionError`` that says what was expected. Images are small and drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distilset.config import RunConfig, build
from distilset.errors import ConfigError
from distilset.initial import initial_images
from distilset.methods import get_method
from distilset.optimise import State
from distilset.plan import Plan, make_plan
from distilset.types import DatasetInfo, ImageSet, Role

STEPS = 4
CASES = (((3, 8, 8), (6, 6, 6)), ((1, 8, 12), (3, 9, 4)), ((3, 16, 8), (1, 12, 5)))
"""Image shapes and class sizes: square and not, one channel and three, even and uneven."""


def drawn_images(
    shape: tuple[int, int, int], counts: Sequence[int], *, role: Role = "train", seed: int = 0
) -> ImageSet:
    """Draw an image set of noise with a different brightness pattern for each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = rng.integers(40, 200, (len(counts), *shape))
    images = np.clip(centres[labels] + rng.normal(0, 30, (len(labels), *shape)), 0, 255)
    info = DatasetInfo("drawn", "drawn", (0.5,) * shape[0], (0.25,) * shape[0])
    names = tuple(f"class {c}" for c in range(len(counts)))
    pixels = torch.from_numpy(images.astype(np.uint8))
    return ImageSet.from_labels(pixels, labels, names, role, info)


def check_method(
    method: str, settings: Mapping[str, Any] | None = None, **sections: Mapping[str, Any]
) -> None:
    """Check that a method conforms, with the given settings of its own.

    One that decodes stored images is checked with a factor, too.

    Args:
        method: a name, or ``package.module:Class``.
        settings: the method's own settings, e.g. ``{"power": 1.0}``.
        sections: other settings of the run by section, e.g. ``experts={"number": 1}``; experts are
            trained, and kept in the cache.
    """
    for shape, counts in CASES:
        train = drawn_images(shape, counts)
        config = small_config(method, settings or {}, **sections)
        check_loss(config, train)
        check_gradient(config, train)
        check_purity(config, train)
        check_order(config, train)
        check_chunks(config, train)
        check_resume(config, train)
        check_role(config, drawn_images(shape, counts, role="test"))
        if getattr(get_method(method), "decodes", False):
            check_decoding(config, train)


def small_config(
    method: str, settings: Mapping[str, Any], **sections: Mapping[str, Any]
) -> RunConfig:
    """Return settings for a run of a few steps: reference precision, small network."""
    return build(
        {
            **sections,
            "data": {"source": "drawn"},
            "method": {"name": method, **settings},
            "network": {"width": 8, "depth": 2},
            "distill": {"ipc": 1, "steps": STEPS, "batch_real": 4, "image_lr": 0.1},
            "engine": {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1},
        }
    )


def _ready(config: RunConfig, train: ImageSet) -> tuple[Plan, Tensor]:
    plan = make_plan(config, train)
    task = plan.task
    task.train_experts()
    return plan, initial_images("noise", train, task.transform, task.ipc, task.rng)


def first_loss(config: RunConfig, train: ImageSet) -> tuple[float, Tensor, Plan]:
    """Return the loss of the first update, its gradient by the images, and the plan."""
    plan, images = _ready(config, train)
    images.requires_grad_(True)
    total = 0.0
    for part in next(iter(plan.method.episode(images, 0))):
        assert part.shape == (), f"a part of the loss must be a scalar; got shape {part.shape}"
        part.backward()
        total += float(part.detach())
    assert images.grad is not None, "the loss does not depend on the synthetic images"
    return total, images.grad, plan


def check_loss(config: RunConfig, train: ImageSet) -> None:
    """Finite, and the same for the same randomness."""
    loss, _, _ = first_loss(config, train)
    assert np.isfinite(loss), f"the loss must be finite; got {loss}"
    assert loss == first_loss(config, train)[0], "the same seed must give the same loss"


def check_gradient(config: RunConfig, train: ImageSet) -> None:
    """Reaches every synthetic image, and nothing else."""
    _, gradient, plan = first_loss(config, train)
    sizes = gradient.flatten(1).norm(dim=1)
    assert bool((sizes > 0).all()), f"images {(sizes == 0).nonzero().tolist()} get no gradient"
    networks = plan.task.networks
    reached = [n for m in networks for n, p in m.named_parameters() if p.grad is not None]
    assert not reached, f"the gradient must reach images only; it reached {reached}"


def check_purity(config: RunConfig, train: ImageSet) -> None:
    """Leaves real images and global random state as they were."""
    before, state = train.images.clone(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    first_loss(config, train)
    assert torch.equal(before, train.images), "the real images were changed"
    assert torch.equal(state, torch.get_rng_state()), "torch's global random state was used"
    after = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    assert np.array_equal(numpy_state, after), "NumPy's global random state was used"


def check_order(config: RunConfig, train: ImageSet) -> None:
    """With all images of a class in the batch, their order in the class does not matter.

    Experts are trained on small batches, in an order of their own.
    """
    if config.experts.number:
        return
    whole = replace(config, distill=replace(config.distill, batch_real=max(train.counts)))
    index = torch.cat(
        [
            torch.arange(a, b).flip(0)
            for a, b in zip(train.offsets[:-1], train.offsets[1:], strict=True)
        ]
    )
    turned = replace(train, images=train.images[index])
    plan, images = _ready(whole, train)
    other, _ = _ready(whole, turned)
    _close(_losses(plan, images), _losses(other, images), "the order of images in a class")


def check_chunks(config: RunConfig, train: ImageSet) -> None:
    """The loss is that of the whole batch, however it is cut into pieces."""
    plan, images = _ready(config, train)
    pieces = replace(config, engine=replace(config.engine, chunk=1))
    other, _ = _ready(pieces, train)
    _close(_losses(plan, images), _losses(other, images), "the size of chunks")


def _losses(plan: Plan, images: Tensor) -> list[float]:
    leaf = images.clone().requires_grad_(True)
    return [float(sum(update).detach()) for update in plan.method.episode(leaf, 0)]  # type: ignore


def _close(first: list[float], second: list[float], what: str) -> None:
    assert np.allclose(first, second, rtol=1e-4), f"{what} changes the loss: {first}, {second}"


def check_resume(config: RunConfig, train: ImageSet) -> None:
    """A run that stops and goes on equals one that does not, bit for bit."""
    plan, images = _ready(config, train)
    straight = _descend(plan, plan.start(images.clone()), STEPS)
    halfway = _descend(plan, plan.start(images.clone()), STEPS // 2)
    fresh, _ = _ready(config, train)
    resumed = _descend(fresh, halfway, STEPS)
    assert torch.equal(straight.images, resumed.images), "a resumed run differs from a straight one"


def _descend(plan: Plan, state: State, steps: int) -> State:
    for _ in plan.descend(state, steps):
        pass
    return state


def check_decoding(config: RunConfig, train: ImageSet) -> None:
    """With a factor the means are those of decoded images, and all else holds as without."""
    several = replace(config, distill=replace(config.distill, factor=2, init="noise"))
    check_gradient(several, train)
    check_chunks(several, train)
    check_resume(several, train)
    stored, decoded = first_loss(config, train)[0], first_loss(several, train)[0]
    assert stored != decoded, "the loss must be that of decoded images (task.decode)"


def check_role(config: RunConfig, test: ImageSet) -> None:
    """Refuses the test split."""
    try:
        make_plan(config, test)
    except ConfigError:
        return
    raise AssertionError("the test split was accepted")
