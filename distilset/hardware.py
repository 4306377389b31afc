"""What the machine has, and the choices that follow from it: by rule, never by timing.

``fp32`` is the reference and exact float32: on a GPU, too, no product or convolution is rounded to
TensorFloat-32 (`exact_float32`), although PyTorch's own default does that to convolutions. ``bf16``
gains nothing by it either: what it leaves in float32 are means, norms and whitening.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from distilset.errors import ConfigError, unknown_name
from distilset.memory import memory_bytes
from distilset.types import ImageSpec

CHUNK_PIXELS = 32 * 32 * 32

RESIDENT_SHARE = 0.25
"""The share of a GPU's free memory up to which the real images are kept there."""


def default_chunk(spec: ImageSpec, device: str) -> int:
    """Return how many images of a size go through a network at once.

    On a CPU 32 of 32x32 pixels: fewer leave the cores idle, more fall out of their caches. A GPU
    takes 1,024 of them.
    """
    pixels = CHUNK_PIXELS if torch.device(device).type == "cpu" else 32 * CHUNK_PIXELS
    return max(1, min(pixels // (spec.height * spec.width), 1024))


def default_workers(threads: int, device: str, each: int) -> int:
    """Return how many processes build a bank: on a CPU one for every two threads, on a GPU one.

    Two processes were no faster than two threads of one beyond the noise (docs/performance.md),
    and take twice the memory; more threads were not measured. At most half of the machine's memory
    is used, ``each`` bytes a process.
    """
    if torch.device(device).type != "cpu":
        return 1
    memory = memory_bytes()
    fit = threads if memory is None else memory // 2 // each
    return max(1, min(threads // 2, fit))


def resolve_device(name: str) -> str:
    """Return a device that works: ``auto`` is a GPU where there is one.

    Raises:
        ConfigError: if the device does not exist here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        float(torch.zeros(1, device=name))  # fetched: the device "meta" makes tensors of nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used ({reason}); try auto or cpu") from None
    return name


def resolve_precision(name: str, device: str, *, compiled: bool = True) -> tuple[str, str]:
    """Return ``bf16`` or ``fp32``, and the reason why.

    ``auto`` takes bfloat16 where the hardware multiplies it faster than float32; on a CPU only for
    compiled code, because eager bfloat16 spends more on conversions than it gains.
    """
    if name not in ("auto", "bf16", "fp32"):
        raise unknown_name("precision", name, ("auto", "bf16", "fp32"))
    if name != "auto":
        return name, "as asked"
    if torch.device(device).type == "cuda":
        if torch.cuda.is_bf16_supported():
            return "bf16", "this GPU multiplies bfloat16"
        return "fp32", "this GPU has no bfloat16"
    if not compiled:
        return "fp32", "eager bfloat16 is slower on a CPU"
    flags = _cpu_flags()
    for flag, text in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512")):
        if flag in flags:
            return "bf16", f"this CPU multiplies bfloat16 ({text})"
    return "fp32", "this CPU has no bfloat16 arithmetic"


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return frozenset()
    return frozenset(line.split())


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use ``number`` threads inside the block; None changes nothing."""
    if number is not None and number < 1:
        raise ConfigError(f"threads must be 1 or more; got {number}")
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_device_bytes(device: str) -> int | None:
    """Return a GPU's memory that is free or that PyTorch keeps for reuse; None for other devices.

    With what is kept, so that a rule does not depend on what ran before.
    """
    if torch.device(device).type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def fits(size: int, device: str) -> bool:
    """Tell whether ``size`` bytes may be kept on a GPU: up to `RESIDENT_SHARE` of what is free."""
    free = free_device_bytes(device)
    return free is not None and size <= RESIDENT_SHARE * free


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """Return a tensor on a device; to a GPU without waiting for what is queued there.

    The way is page-locked memory, which PyTorch gives to others only when the copy is done.
    """
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@contextmanager
def exact_float32(device: str | torch.device) -> Iterator[None]:
    """Switch TensorFloat-32 off inside the block, on a GPU; put it back afterwards."""
    if torch.device(device).type != "cuda":
        yield
        return
    put_back = [_exact_convolutions(), _exact_products()]
    try:
        yield
    finally:
        for restore in put_back:
            restore()


def _exact_convolutions() -> Callable[[], None]:
    cudnn = torch.backends.cudnn
    try:
        return _swap(cudnn, "allow_tf32", False)
    except RuntimeError:  # somebody used the newer names, and PyTorch refuses to mix them
        return _swap(cudnn.conv, "fp32_precision", "ieee")  # type: ignore[attr-defined]


def _exact_products() -> Callable[[], None]:
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # as above
        return _swap(torch.backends.cuda.matmul, "fp32_precision", "ieee")
    if before == "highest":
        return lambda: None
    torch.set_float32_matmul_precision("highest")
    return partial(torch.set_float32_matmul_precision, before)


def _swap(owner: Any, name: str, value: object) -> Callable[[], None]:
    """Set an attribute; return what puts it back."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    return partial(setattr, owner, name, before)
