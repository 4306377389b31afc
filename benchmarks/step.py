"""Time one distillation step, ours against the textbook twin, alternating in one process.

    python benchmarks/step.py --data drawn|FOLDER --ipc 10 --batch-real 128 --method datadam \
        --norm instance --rounds 7 --json FILE

`ratio` is the twin's median over ours, in the steady state; compilation is timed apart. Peak memory
is that of three steps in a process of its own, above what the process had before them.
"""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from common import (
    alternate,
    best_bf16_rate,
    finish,
    in_own_process,
    peak_bytes,
    seconds,
    spread,
    train_part,
)
from torch import Tensor
from twin import TwinStep, convnet, copy_weights

from distilset.allocator import kept_memory
from distilset.config import build
from distilset.initial import initial_images
from distilset.models import initialise
from distilset.plan import Plan, make_plan
from distilset.types import ImageSet

STEPS = 1_000_000


def make(arguments: argparse.Namespace, train: ImageSet) -> tuple[Plan, Tensor]:
    """Make our plan and the initial images."""
    engine = {"device": arguments.device, "precision": "auto", "compile": arguments.compile}
    if arguments.threads:
        engine["threads"] = arguments.threads
    config = build(
        {
            "data": {"source": arguments.data},
            "method": {"name": arguments.method},
            "network": {"name": arguments.network, "norm": arguments.norm},
            "distill": {
                "ipc": arguments.ipc,
                "batch_real": arguments.batch_real,
                "steps": STEPS,
            },
            "engine": engine,
        }
    )
    plan = make_plan(config, train)
    task = plan.task
    return plan, initial_images("random", train, task.transform.to("cpu"), task.ipc, task.rng)


def our_step(plan: Plan, images: Tensor) -> Callable[[], float]:
    """Return a function that does the next step."""
    records = plan.descend(plan.start(images.clone()), STEPS)
    return lambda: float(next(records).loss)


def twin_loss(plan: Plan, twin: TwinStep, images: Tensor, step: int) -> Tensor:
    """Return the twin's loss for the draws of one step."""
    task = plan.task
    draw, rows = task.draw_augmentation(step), task.draw_real(step)
    counts = torch.tensor([len(part) for part in rows])
    real = task.transform.apply(task.train.images[torch.cat(rows)].to(images.device))
    of_real = torch.arange(task.classes).repeat_interleave(counts)
    of_synthetic = torch.arange(task.classes).repeat_interleave(task.ipc)
    return twin.loss(
        task.augmented(real, draw, of_real),
        task.augmented(images, draw, of_synthetic),
        task.classes,
    )


def twin_step(plan: Plan, twin: TwinStep, images: Tensor) -> Callable[[], float]:
    """Return a function that does the twin's next step, in an ordinary optimiser loop."""
    images = images.clone().to(plan.task.settings.device).requires_grad_(True)
    optimizer = torch.optim.SGD([images], lr=1.0, momentum=0.5)
    steps = iter(range(STEPS))

    def step() -> float:
        number = next(steps)
        initialise(twin.network, plan.task.rng, "network", number)
        loss = twin_loss(plan, twin, images, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def make_twin(arguments: argparse.Namespace, plan: Plan) -> TwinStep:
    """Build the twin for our task."""
    task = plan.task
    network = convnet(task.train.spec.channels, task.classes, arguments.norm)
    return TwinStep(network.to(task.settings.device), arguments.method)


def differences(plan: Plan, twin: TwinStep, images: Tensor) -> dict[str, float]:
    """Compare losses and image gradients of step 0, with the same weights and draws."""
    ours = images.clone().to(plan.task.settings.device).requires_grad_(True)
    theirs = ours.detach().clone().requires_grad_(True)
    loss = 0.0
    for update in plan.method.episode(ours, 0):
        for part in update:
            part.backward()
            loss += float(part.detach())
    copy_weights(plan.task.network, twin.network)
    other = twin_loss(plan, twin, theirs, 0)
    other.backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    cosine = torch.cosine_similarity(ours.grad.flatten(), theirs.grad.flatten(), dim=0)
    gap = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
    return {
        "loss_relative": abs(loss - float(other.detach())) / abs(float(other.detach())),
        "gradient_cosine": float(cosine),
        "gradient_relative": float(gap),
    }


def flops(plan: Plan) -> float:
    """Count the convolutions' floating-point operations of a step: forward, and back to images."""
    task = plan.task
    channels, per_image = task.train.spec.channels, 0.0
    for width, height, breadth in task.map_shapes():
        per_image += 2 * 9 * channels * width * height * breadth
        channels = width
    real = sum(min(count, task.batch_real) for count in task.train.counts)
    return per_image * (real + 2 * task.ipc * task.classes)


def measure(arguments: argparse.Namespace) -> dict:
    """Compare and time."""
    plan, images = make(arguments, train_part(arguments.data))
    twin = make_twin(arguments, plan)
    compiling = seconds(our_step(plan, images))
    gaps = differences(plan, twin, images)
    ours, theirs = our_step(plan, images), twin_step(plan, twin, images)
    ours()
    theirs()
    first, second = alternate(  # a run of ours keeps memory; the twin has what it has
        arguments.rounds, ours, theirs, within=[kept_memory], warm=1
    )
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    median, rate = spread(first)["median"], best_bf16_rate()
    per_step = sum(min(n, plan.task.batch_real) for n in plan.task.train.counts) + len(images)
    return {
        **{name: getattr(arguments, name) for name in ("data", "method", "norm", "network")},
        "ipc": arguments.ipc,
        "batch_real": arguments.batch_real,
        "rounds": arguments.rounds,
        "threads": plan.config.engine.threads,
        "device": plan.config.engine.device,
        "precision": plan.config.engine.precision,
        "ratio": spread(second)["median"] / median,
        "ratio_spread": spread(ratios),
        "ours_seconds": spread(first),
        "twin_seconds": spread(second),
        "compile_seconds": compiling - median,
        "images_per_second": per_step / median,
        "bf16_matmul_tflops": rate,
        "fraction_of_matmul_rate": flops(plan) / median / 1e12 / rate,
        "differences": gaps,
        "notes": list(plan.method.notes),
    }


def memory(arguments: argparse.Namespace) -> int:
    """Return the peak of three steps, ours or the twin's, above what is there before them."""
    plan, images = make(arguments, train_part(arguments.data))
    twin = make_twin(arguments, plan)
    step = our_step(plan, images) if arguments.only == "ours" else twin_step(plan, twin, images)
    with kept_memory() if arguments.only == "ours" else nullcontext():
        return peak_bytes(lambda: alternate(3, step))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", default="drawn")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--batch-real", type=int, default=128)
    parser.add_argument("--method", default="datadam")
    parser.add_argument("--norm", default="instance")
    parser.add_argument("--network", default="convnet")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", choices=("on", "off"), default="on")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("ours", "twin"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.only:
        print(f'{{"bytes": {memory(arguments)}}}')
        return
    result = measure(arguments)
    names = ("data", "ipc", "batch_real", "method", "norm", "network", "device", "compile")
    words = [w for n in names for w in (f"--{n.replace('_', '-')}", str(getattr(arguments, n)))]
    if arguments.threads:
        words += ["--threads", str(arguments.threads)]
    result["peak_bytes"] = {
        which: in_own_process(__file__, [*words, "--only", which])["bytes"]
        for which in ("ours", "twin")
    }
    finish(result, arguments.json)


if __name__ == "__main__":
    main()
