"""Spreading work over processes, one after another of whatever is to be done.

As with `distilset.workers`, a worker is a program of its own that is spoken to through pipes: one
of ``multiprocessing`` would import the caller's main module again.
"""

import os
import pickle
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, Protocol, runtime_checkable

from distilset.errors import ConfigError, DistilsetError
from distilset.workers import PINNING, end_process, pipes, receive, send

_START = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
sys.path[:] = sys.argv[1:]
from distilset.apps.processes import serve
serve()
"""


@runtime_checkable
class Doer(Protocol):
    """What can be handed to processes: gives results, one by one, for every task it is given."""

    def do(self, task: Any, /) -> Iterable[Any]:
        """Yield the results of a task."""
        ...


class _End:
    """Sent after the last result of a task."""


def in_processes(work: Doer, tasks: Sequence[Any], number: int) -> Generator[Any, None, None]:
    """Yield the results of all tasks, in whatever order they come, from ``number`` processes.

    With one process the work is done in this one. Workers end when the iterator is closed, and when
    this process does, however that comes about.

    Raises:
        ConfigError: if a worker is ended by somebody, for instance for want of memory.
        RuntimeError: what else fails in a worker, with its traceback.
    """
    number = min(number, len(tasks))
    if number < 2:
        for task in tasks:
            yield from work.do(task)
        return
    made = pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
    waiting, results = deque(tasks), SimpleQueue[Any]()
    workers = [_Worker(made) for _ in range(number)]
    threads = [Thread(target=w.serve, args=(waiting, results), daemon=True) for w in workers]
    try:
        for thread in threads:
            thread.start()
        while number:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if isinstance(result, _End):
                number -= 1
            else:
                yield result
    finally:
        for worker in workers:
            worker.end()
        for thread in threads:
            thread.join()


class _Worker:
    """A process that does one task after another."""

    def __init__(self, made: bytes) -> None:
        self.made = made
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if key not in PINNING},
        )

    def serve(self, waiting: "deque[Any]", results: "SimpleQueue[Any]") -> None:
        """Hand out tasks until there are none; pass on what comes back, at last an end."""
        try:
            to, back = self.process.stdin, self.process.stdout
            assert to is not None
            assert back is not None
            with suppress(BrokenPipeError):  # it ended with an error, which is still to be read
                to.write(self.made)
            while True:
                try:
                    task = waiting.popleft()
                except IndexError:
                    break
                for result in self._ask(task, to, back):
                    results.put(result)
            results.put(_End())
        except BaseException as error:
            results.put(error)

    def _ask(self, task: Any, to: IO[bytes], back: IO[bytes]) -> Iterator[Any]:
        with suppress(BrokenPipeError):
            pickle.dump(task, to, pickle.HIGHEST_PROTOCOL)
            to.flush()
        while True:
            try:
                answer = pickle.load(back)
            except (EOFError, pickle.UnpicklingError):
                code = self.process.wait()
                raise ConfigError(
                    f"a process that trains networks ended with exit code {code}; "
                    "if memory is short, fewer --workers take less"
                ) from None
            if isinstance(answer, _End):
                return
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    def end(self) -> None:
        """Stop the process at once; it has nothing that must be put away."""
        end_process(self.process)


def serve() -> None:
    """Be a worker: do the tasks on standard input until it ends."""
    requests, answers = pipes()
    try:
        work: Doer = pickle.load(requests)
        waiting: SimpleQueue[Any] = SimpleQueue()
        Thread(target=receive, args=(requests, waiting), daemon=True).start()
        while True:
            for result in work.do(waiting.get()):
                send(answers, result)
            send(answers, _End())
    except EOFError:
        os._exit(0)
    except Exception as error:
        text = f"a process that trains networks failed:\n{traceback.format_exc()}"
        send(answers, error if isinstance(error, DistilsetError) else RuntimeError(text))
        os._exit(1)  # not by way of the interpreter's end, which the receiving thread would hold up
