"""When a process fails: its error first, and all others end quietly within seconds.

Who fails first claims the right to speak, in the store that all processes share. The others learn
of it in their next exchange, or from a thread that looks once a second; it also sees a process of
the same machine that was killed and could claim nothing.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, NoReturn

from distilset.errors import DistilsetError
from distilset.parallel.environment import rank, size

LOOK_EVERY = 1.0
FAREWELL_SECONDS = 30.0
"""How long the process that holds the store waits for the others at its end."""

_ending = Lock()
LOST = (
    "another process of this run ended without a word (killed, or out of memory); "
    "a run in a folder goes on from its checkpoint with --resume"
)


class PeerLost(DistilsetError):
    """Another process cannot be reached: it failed, or was killed."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(LOST)
        self.reason = reason


class Claims:
    """Who spoke for a failure, and who has ended well; ``store`` is PyTorch's."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def claim(self) -> bool:
        """Claim the right to speak; False if another process has it, or cannot be asked."""
        with suppress(RuntimeError):
            return self.store.compare_set("failed", "", str(rank())) == str(rank()).encode()
        return False

    def taken(self) -> bool:
        """Tell whether another process has failed."""
        with suppress(RuntimeError):
            return self.store.check(["failed"]) and self.store.get("failed") != str(rank()).encode()
        return True  # the store ended with the process that held it

    def present(self) -> None:
        """Say where this process runs."""
        self.store.set(f"process{rank()}", json.dumps([_machine(), os.getpid()]))

    def done(self) -> None:
        """Say that this process ends well."""
        with suppress(RuntimeError):
            self.store.set(f"done{rank()}", "")

    def all_done(self) -> bool:
        """Tell whether every process has ended well."""
        with suppress(RuntimeError):
            return self.store.check([f"done{each}" for each in range(size())])
        return True

    def leader_done(self) -> bool:
        """Tell whether rank 0 has ended well, and may take the store with it."""
        with suppress(RuntimeError):
            return self.store.check(["done0"])
        return False

    def neighbours(self) -> dict[int, int]:
        """Return rank and number of the other processes on this machine."""
        found = {}
        for other in range(size()):
            machine, process = json.loads(self.store.get(f"process{other}"))
            if machine == _machine() and other != rank():
                found[other] = process
        return found

    def lost(self, neighbours: dict[int, int]) -> bool:
        """Tell whether a neighbour is gone that did not end well."""
        gone = [other for other, process in neighbours.items() if _gone(process)]
        with suppress(RuntimeError):
            return any(not self.store.check([f"done{other}"]) for other in gone)
        return True


def _machine() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    return os.uname().nodename


def _gone(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text("utf-8", errors="replace")
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] == "Z"


class Watch:
    """The thread that looks after the others, until it is stopped.

    It must be stopped before Python ends: Python unwinds the daemon threads that are left, and one
    that is in PyTorch's store just then would abort the process.
    """

    def __init__(self, claims: Claims) -> None:
        self._stopped = Event()
        self._thread = Thread(target=self._look, args=(claims, claims.neighbours()), daemon=True)
        self._thread.start()

    def _look(self, claims: Claims, neighbours: dict[int, int]) -> None:
        while not self._stopped.wait(LOOK_EVERY):
            if claims.leader_done():
                return  # whoever goes on does so alone: an end of the store is no failure now
            if claims.taken():
                if not self._stopped.wait(LOOK_EVERY):
                    _leave(1)
            elif claims.lost(neighbours) and not self._stopped.wait(LOOK_EVERY):
                end_with(PeerLost(), claims)  # its own error would have come by now

    def stop(self) -> None:
        """Stop looking, and wait for the thread to end."""
        self._stopped.set()
        self._thread.join(FAREWELL_SECONDS)


def end_with(error: BaseException, claims: Claims | None) -> NoReturn:
    """End this process for an error: told if it is the first one, and without waiting for peers."""
    if not _ending.acquire(blocking=False):
        time.sleep(10 * LOOK_EVERY)  # the other thread is at it
    if claims is None or claims.claim():
        text = _told(error)
        print(text, file=sys.__stderr__)
        _for_torchrun(text)
        if isinstance(error, PeerLost):
            time.sleep(LOOK_EVERY)
    else:
        time.sleep(LOOK_EVERY)  # torchrun takes the first that ends for the cause
    _leave(2 if isinstance(error, DistilsetError) and not isinstance(error, PeerLost) else 1)


def _told(error: BaseException) -> str:
    if isinstance(error, DistilsetError):
        return f"error: rank {rank()}: {error}"
    return f"rank {rank()}:\n{''.join(traceback.format_exception(error)).rstrip()}"


def _for_torchrun(text: str) -> None:
    """Let torchrun's own summary name this process and its error as the cause."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        extra = {"py_callstack": text, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(path).write_text(
                json.dumps({"message": {"message": text, "extraInfo": extra}}), "utf-8"
            )


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    os._exit(code)  # not by way of PyTorch's own ending, which waits for processes that are gone


def speak_for(claims: Claims) -> None:
    """Let errors that a user's script does not catch end it as `end_with` does."""
    before: Callable[..., Any] = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            before(kind, error, trace)
            return
        end_with(error, claims)

    sys.excepthook = hook
