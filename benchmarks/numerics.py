"""How far bfloat16 gradients are from float32 ones as a run converges.

    python benchmarks/numerics.py --data drawn|FOLDER --method atom --ipc 1 --steps 1000 --json FILE

One run descends in bfloat16, compiled. At some of its steps the same images, weights and draws are
also put through the float32 engine: loss, image gradient, and the size of bfloat16's error against
the residual that is left. `mean_cosine` averages the gradients of eight successive targets first,
which is what momentum and many steps do to an error that is random.
"""

import argparse
from pathlib import Path

import torch
from common import finish, train_part
from torch import Tensor

from distilset.config import build
from distilset.initial import initial_images
from distilset.optimise import descend
from distilset.plan import Plan, make_plan
from distilset.types import ImageSet

TARGETS = 8


def make(arguments: argparse.Namespace, train: ImageSet, precision: str) -> Plan:
    """Make the plan of a run."""
    return make_plan(
        build(
            {
                "data": {"source": arguments.data},
                "method": {"name": arguments.method},
                "network": {"norm": arguments.norm},
                "distill": {
                    "ipc": arguments.ipc,
                    "batch_real": arguments.batch_real,
                    "steps": arguments.steps,
                },
                "engine": {"precision": precision, "compile": "on"},
            }
        ),
        train,
    )


def gradients(plan: Plan, images: Tensor, step: int) -> list[tuple[float, Tensor]]:
    """Return losses and image gradients of the next targets."""
    found = []
    for number in range(step, step + TARGETS):
        leaf = images.clone().requires_grad_(True)
        loss = 0.0
        for update in plan.method.episode(leaf, number):
            for part in update:
                part.backward()
                loss += float(part.detach())
        assert leaf.grad is not None
        found.append((loss, leaf.grad))
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two tensors as vectors."""
    return float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


def compare(fast: Plan, exact: Plan, images: Tensor, step: int) -> dict[str, float]:
    """Compare both precisions at one state of the images."""
    ours, theirs = gradients(fast, images, step), gradients(exact, images, step)
    pairs = list(zip(ours, theirs, strict=True))
    mean, reference = (
        torch.stack([gradient for _, gradient in found]).mean(0) for found in (ours, theirs)
    )
    return {
        "step": step,
        "loss": sum(loss for loss, _ in theirs) / TARGETS,
        "loss_relative": max(abs(a[0] - b[0]) / abs(b[0]) for a, b in pairs),
        "least_cosine": min(cosine(a[1], b[1]) for a, b in pairs),
        "mean_cosine": cosine(mean, reference),
        "norm_ratio": float(mean.norm() / reference.norm()),
    }


def measure(arguments: argparse.Namespace) -> dict:
    """Run, comparing on the way."""
    train = train_part(arguments.data)
    fast, exact = make(arguments, train, "bf16"), make(arguments, train, "fp32")
    task = fast.task
    images = initial_images("random", train, task.transform.to("cpu"), task.ipc, task.rng)
    state = fast.start(images)
    rows = []
    for step in (s for s in (0, 10, 100, 300, 1000, 3000) if s <= arguments.steps):
        for _ in descend(state, fast.method, steps=step, image_lr=1.0, momentum=0.5):
            pass
        rows.append(compare(fast, exact, state.images, step))
        print(rows[-1], flush=True)
    names = ("data", "method", "norm", "ipc", "batch_real")
    return {**{name: getattr(arguments, name) for name in names}, "rows": rows}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", default="drawn")
    parser.add_argument("--method", default="atom")
    parser.add_argument("--norm", default="instance")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--batch-real", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    finish(measure(arguments), arguments.json)


if __name__ == "__main__":
    main()
