"""Processes that compute targets for another one, which hands out the work and gathers the means.

A worker is a program of its own, spoken to through pipes, not one of ``multiprocessing``: those
import the caller's main module again, which would run a script without a main guard, or what a
notebook was made of, a second time. It is sent the real images of each target it is asked for, not
the data set: that needs no shared memory (64 MB in a container, unless somebody says otherwise),
and images that were whitened once lie in the asking process alone.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

import numpy as np
import torch

from distilset.data.normalise import Transform
from distilset.engine import Engine, Means
from distilset.errors import ConfigError, DistilsetError
from distilset.targets import target_of
from distilset.task import Task

BYTES = 1 << 30
"""Memory of a worker beside its target: on CIFAR-10 it takes 0.7 GB, most of it libraries."""

_START = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
sys.path[:] = sys.argv[1:]
from distilset.workers import serve
serve()
"""
PINNING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables that would bind the first thread of every worker to the same core."""


@dataclass(frozen=True)
class Request:
    """What a worker needs for one target: its number, the real images drawn for it, by class."""

    index: int
    counts: tuple[int, ...]
    images: np.ndarray


@dataclass(frozen=True)
class Answer:
    """Means in half precision, a statistic each; ``failure`` of a compilation, if there was one."""

    means: tuple[np.ndarray, ...]
    failure: str | None


def packed(task: Task, engine: Engine) -> bytes | None:
    """Return what a worker is made of, without real images; None if it cannot be sent.

    Classes of the caller's main module cannot: a worker has another one.
    """
    train, transform = task.train, task.transform
    none = torch.empty(0, *train.spec.shape, dtype=torch.uint8)
    bare = replace(train, images=none, offsets=(0,) * len(train.offsets))
    if task.whitened is not None:  # what is sent is in normalised space already
        transform = Transform(transform.mean, transform.std)
    try:
        bare_task = replace(task, train=bare, transform=transform)
        made = pickle.dumps((bare_task, engine, engine.forward.failure))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return None if b"__main__" in made else made


def gather(
    task: Task, engine: Engine, made: bytes, indices: Sequence[int], number: int
) -> Iterator[Means]:
    """Yield the means of targets in the order of ``indices``, computed by ``number`` processes.

    They end when the iterator is closed, and when this process does, however that comes about.

    Raises:
        ConfigError: if a worker is ended by somebody, for instance for want of memory.
        RuntimeError: what else fails in a worker, with its traceback.
    """
    idle: SimpleQueue[Worker] = SimpleQueue()
    workers = [Worker(made) for _ in range(number)]
    for worker in workers:
        idle.put(worker)

    def ask(index: int) -> Answer:
        batch = task.draw_real(index)
        counts = tuple(len(part) for part in batch)
        images = task.stored(torch.cat(batch)).numpy()
        worker = idle.get()
        try:
            return worker.ask(Request(index, counts, images))
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(number)
    try:
        for answer in pool.map(ask, indices):
            engine.forward.failure = engine.forward.failure or answer.failure
            yield tuple(torch.from_numpy(mean) for mean in answer.means)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:  # before waiting for the threads, which wait for the workers
            worker.end()
        pool.shutdown()


class Worker:
    """A process that computes one target after another."""

    def __init__(self, made: bytes) -> None:
        self.made: bytes | None = made
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if key not in PINNING},
        )

    def ask(self, request: Request) -> Answer:
        """Send a request and wait for its answer."""
        to, back = self.process.stdin, self.process.stdout
        assert to is not None
        assert back is not None
        with suppress(
            BrokenPipeError
        ):  # it may have ended with an error, which is still to be read
            if self.made is not None:
                to.write(self.made)
                self.made = None
            pickle.dump(request, to, pickle.HIGHEST_PROTOCOL)
            to.flush()
        try:
            answer = pickle.load(back)
        except (EOFError, pickle.UnpicklingError):
            raise ConfigError(_ended(self.process.wait())) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        """Stop the process at once; it has nothing that must be put away."""
        end_process(self.process)


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that is spoken to through pipes, and close them."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):
            pipe.close()


def _ended(code: int) -> str:
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
    return (
        f"a process that computes targets {how}; if memory is short, fewer engine.bank_workers "
        "take less"
    )


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return what a process of ours reads requests from and writes answers to, kept for these."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what other code prints must not get between the answers
    return requests, answers


def serve() -> None:
    """Be a worker: answer the requests on standard input until it ends."""
    requests, answers = pipes()
    try:
        task, engine, failure = pickle.load(requests)
        torch.set_num_threads(task.bank_threads)
        engine.forward.failure = failure
        waiting: SimpleQueue[Request] = SimpleQueue()
        Thread(target=receive, args=(requests, waiting), daemon=True).start()
        while True:
            send(answers, _answer(task, engine, waiting.get()))
    except EOFError:
        os._exit(0)
    except Exception as error:
        text = f"a process that computes targets failed:\n{traceback.format_exc()}"
        send(answers, error if isinstance(error, DistilsetError) else RuntimeError(text))
        os._exit(1)  # not by way of the interpreter's end, which the receiving thread would hold up


def receive(requests: BinaryIO, waiting: "SimpleQueue[Any]") -> None:
    """Pass requests on; leave in the middle of one if nobody waits for it any more."""
    try:
        while True:
            waiting.put(pickle.load(requests))
    except EOFError:
        os._exit(0)


def send(answers: BinaryIO, answer: Any) -> None:
    """Write an answer, if anybody is there to read it."""
    with suppress(BrokenPipeError):
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _answer(task: Task, engine: Engine, request: Request) -> Answer:
    images = torch.from_numpy(request.images)

    def real(rows: slice) -> torch.Tensor:
        return task.normalised(images[rows])

    target = target_of(task, engine, request.index, request.counts, real)
    means = tuple(mean.to("cpu", torch.float16).numpy() for mean in target.means)
    return Answer(means, engine.forward.failure)
