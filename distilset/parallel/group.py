"""The processes of a run as a group: agreeing, adding up, gathering.

Every function is called by all processes in the same order. Without torchrun there is one, and each
returns at once. What is exchanged lies in memory, not on a GPU, and goes through gloo; only
statistics of BatchNorm stay on their device.
"""

import atexit
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.errors import ConfigError
from distilset.parallel import environment, failing
from distilset.parallel.environment import leads, size
from distilset.share import Share

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long an exchange may take: the processes do equal work, so they come to it together."""

MEETING_SECONDS = 24 * 3600
"""How long the others wait for what only one of them does: reading data, a bank, a job."""


class _Group:
    """What is open while processes work together."""

    def __init__(self) -> None:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

        gpus = torch.cuda.device_count()
        if environment.local_rank() < gpus:
            torch.cuda.set_device(environment.local_rank())
        self.ours = not dist.is_initialized()
        self.pairs = None
        if self.ours:
            _join("cpu:gloo,cuda:nccl" if gpus else "gloo")
        elif "gloo" not in str(dist.get_backend_config()):
            self.pairs = dist.new_group(backend="gloo", timeout=TIMEOUT)
        self.store = PrefixStore("distilset", _get_default_store())
        self.claims = failing.Claims(self.store)
        self.claims.present()
        self.watch = failing.Watch(self.claims)
        failing.speak_for(self.claims)
        self.number = 0

    def name(self, what: str) -> str:
        """Return a name for the store that is used once, the same in every process."""
        self.number += 1
        return f"{what}{self.number}"


_open: list[_Group] = []


def _join(backend: str) -> None:
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    try:
        store, number, count = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore
        if environment.on_one_machine():
            # torchrun may keep the store of a failed attempt, with the addresses of the dead
            store = PrefixStore(f"attempt{environment.restarts()}", store)
        dist.init_process_group(
            backend, store=store, rank=number, world_size=count, timeout=TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"the {size()} processes could not find each other ({reason}); start them by torchrun"
        ) from None


def start() -> None:
    """Join the other processes, if torchrun has started several; again does nothing.

    Raises:
        ConfigError: if they cannot be reached.
    """
    if size() > 1 and not _open:
        _open.append(_Group())
        atexit.register(end)


def end() -> None:
    """Leave the group; rank 0, which may hold what the others look into, leaves last."""
    import torch.distributed as dist

    while _open:
        group = _open.pop()
        group.claims.done()
        until = time.monotonic() + failing.FAREWELL_SECONDS
        while leads() and not group.claims.all_done() and time.monotonic() < until:
            time.sleep(0.02)
        group.watch.stop()
        if group.ours and dist.is_initialized():
            dist.destroy_process_group()


def claims() -> failing.Claims | None:
    """Return who spoke for a failure; None in a single process."""
    return _open[0].claims if _open else None


def _talk(exchange: Callable[[], T]) -> T:
    """Do an exchange; what a lost process makes of it is one kind of error."""
    try:
        return exchange()
    except RuntimeError as error:  # also PyTorch's own kinds of it
        raise failing.PeerLost(str(error)) from None


def _pairs() -> Any:
    start()
    return _open[0].pairs


def meet() -> None:
    """Wait for all processes, as long as that takes.

    Raises:
        PeerLost: if one of them has failed.
    """
    if size() == 1:
        return
    start()
    group = _open[0]
    name, pause, since = group.name("meeting"), 0.001, time.monotonic()
    _talk(lambda: group.store.add(name, 1))
    while _talk(lambda: group.store.add(name, 0)) < size():
        if group.claims.taken() or time.monotonic() - since > MEETING_SECONDS:
            raise failing.PeerLost(name)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def lead(make: Callable[[], T]) -> T:
    """Have rank 0 make something, and return it in every process; the others wait for it."""
    if size() == 1:
        return make()
    import torch.distributed as dist

    start()
    box: list[Any] = [make() if leads() else None]
    meet()
    _talk(lambda: dist.broadcast_object_list(box, 0, group=_pairs()))
    return box[0]


def numbers(count: int) -> Iterator[int]:
    """Yield the numbers below ``count`` that no other process has taken, one at a time."""
    start()
    name = _open[0].name("taken")
    while (number := _talk(lambda: _open[0].store.add(name, 1)) - 1) < count:
        yield number


def largest(*values: int) -> list[int]:
    """Return the largest of every value over all processes."""
    if size() == 1:
        return list(values)
    import torch.distributed as dist

    pairs, tensor = _pairs(), torch.tensor(values, dtype=torch.int64)
    _talk(lambda: dist.all_reduce(tensor, dist.ReduceOp.MAX, group=pairs))
    return tensor.tolist()


def agree(flag: bool) -> bool:
    """Return whether any process has the flag set; all get the same answer."""
    return largest(int(flag))[0] > 0


def collect(value: T) -> list[T]:
    """Return the value of every process, by rank, in every process."""
    if size() == 1:
        return [value]
    import torch.distributed as dist

    pairs, found = _pairs(), [None] * size()
    _talk(lambda: dist.all_gather_object(found, value, group=pairs))
    return found  # type: ignore[return-value]


def whole(own: Float[Tensor, "own ..."], share: Share, each: int = 1) -> Float[Tensor, "rows ..."]:
    """Return the rows of all processes, ``each`` for a class, in memory, in every process."""
    return torch.cat(list(_gathered(own, share, each, everywhere=True)))


def gathered(
    own: Float[Tensor, "own ..."], share: Share, each: int = 1
) -> Float[Tensor, "rows ..."] | None:
    """Return the rows of all processes in the leading one, None in the others."""
    parts = _gathered(own, share, each, everywhere=False)
    return torch.cat(parts) if parts else None


def _gathered(own: Tensor, share: Share, each: int, *, everywhere: bool) -> list[Tensor]:
    import torch.distributed as dist

    pairs = _pairs()
    counts = [each * (last - first) for first, last in share.spans]
    rows = own.detach().cpu()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])  # gathering wants equal shapes
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts] if everywhere or leads() else None
    if everywhere:
        _talk(lambda: dist.all_gather(parts, padded, group=pairs))
    else:
        _talk(lambda: dist.gather(padded, parts, 0, group=pairs))
    return [part[:count] for part, count in zip(parts or [], counts, strict=False)]


def total(tensor: Tensor) -> Tensor:
    """Add a tensor up over all processes, on its device; so is its gradient."""
    return _Total.apply(tensor)  # type: ignore[return-value]


class _Total(torch.autograd.Function):
    """Every process's loss hangs on the sum, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _added(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _added(gradients[0])


def _added(tensor: Tensor) -> Tensor:
    import torch.distributed as dist

    start()
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    group = _open[0].pairs if copy.device.type == "cpu" else None
    _talk(lambda: dist.all_reduce(copy, group=group))
    return copy
