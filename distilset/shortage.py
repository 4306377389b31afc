"""Memory that runs out: met with fewer images in one pass, or told before the start."""

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch

from distilset.compilation import first_line
from distilset.errors import ConfigError
from distilset.guard import Agree
from distilset.hardware import free_device_bytes
from distilset.memory import available_bytes, memory_bytes
from distilset.methods import get_method
from distilset.models import couples_images
from distilset.plan import Plan

T = TypeVar("T")

ADVICE = "take a smaller network, data.resolution, distill.ipc or distill.batch_real"


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    allocator = "not enough memory" in text or "can't allocate memory" in text
    return isinstance(error, RuntimeError) and (allocator or "CUBLAS_STATUS_ALLOC_FAILED" in text)


def attempt(work: Callable[[], T]) -> tuple[T | None, str | None]:
    """Do some work; return its result, or the first line of the error if memory ran out.

    The error itself is dropped: its traceback holds what took the memory.
    """
    try:
        return work(), None
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        told = first_line(error)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None, told


def enduring(
    plan: Plan, work: Callable[[Plan], T], agree: Agree = bool
) -> tuple[T, Plan, list[str]]:
    """Do some work with a plan, with fewer images in one pass for as long as memory runs out.

    Returns the result, the plan it was reached with, and a sentence for each change.

    Raises:
        ConfigError: if memory does not suffice for one image in a pass.
    """
    notes: list[str] = []
    while True:
        result, told = attempt(partial(work, plan))
        if told is not None:
            check_shrinkable(plan, told)
        if not agree(told is not None):
            return result, plan, notes  # type: ignore[return-value]
        plan, note = smaller(plan, told)
        notes.append(note)


def check_shrinkable(plan: Plan, told: str | None) -> None:
    """Raise a ConfigError with advice where fewer images in a pass are no help or cannot be.

    Of several processes, one that fails in a step of a network with BatchNorm leaves the others in
    the middle of it.
    """
    task, reason = plan.task, told or "in another process"
    coupled = [couples_images(network) for network in task.networks]
    if all(coupled) or (task.share is not None and any(coupled)):
        raise ConfigError(
            f"memory ran out ({reason}), and a network with BatchNorm takes its batch whole; "
            f"{ADVICE}, or another --norm"
        )
    if task.settings.chunk == 1:
        raise ConfigError(f"memory ran out with one image in a pass ({reason}); {ADVICE}")


def smaller(plan: Plan, told: str | None) -> tuple[Plan, str]:
    """Return a plan with half as many images in one pass, and the sentence for the card.

    Raises:
        ConfigError: with advice, where that is no help or cannot be.
    """
    check_shrinkable(plan, told)
    chunk, reason = plan.task.settings.chunk, told or "in another process"
    half = chunk // 2
    config = replace(plan.config, engine=replace(plan.config.engine, chunk=half))
    task = plan.task.with_chunk(half)
    method = get_method(config.method_name)(config.method, task)
    first = plan.first_chunk or chunk
    note = f"memory ran out with {chunk} images in one pass ({reason}): engine.chunk is {half} now"
    return replace(plan, config=config, task=task, method=method, first_chunk=first), note


def check_memory(plan: Plan) -> list[str]:
    """Return a sentence if a run needs more memory than is free now.

    The real images are there already, in memory or mapped from a file, and are not counted.

    Raises:
        ConfigError: if it needs more than there is at all.
    """
    device = plan.config.engine.device
    train = plan.task.train
    need = plan.bytes - (0 if train.mapped else train.images.numel())
    if torch.device(device).type == "cuda":
        total, left = (
            torch.cuda.get_device_properties(device).total_memory,
            free_device_bytes(device),
        )
    else:
        total, left = memory_bytes(), available_bytes()
    if total is not None and need > total:
        raise ConfigError(
            f"the run needs about {need / 1e9:.1f} GB of memory beside its data, and there are "
            f"{total / 1e9:.1f} GB; {ADVICE}"
        )
    if left is not None and need > left:
        return [
            f"about {need / 1e9:.1f} GB of memory are needed and {left / 1e9:.1f} GB are free now"
        ]
    return []
