"""One process at a time works in a run folder.

The lock is the operating system's, which takes it from a process that dies, however it dies: it is
never stale. Its file stays in the folder, because removing it would let two processes hold two
files of one name.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from distilset.errors import DataError
from distilset.files import unlink_link
from distilset.untrusted import read_text

LOCK, HOLDER = ".run.lock", ".run.holder"


class RunLock:
    """The right to write into a run folder, held until `release` or the end of the process."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lock = FileLock(run / LOCK, thread_local=False)

    def take(self) -> None:
        """Take the lock of a folder that exists.

        Raises:
            DataError: naming the process that holds it.
        """
        unlink_link(self.run / LOCK)
        self._acquire()
        unlink_link(self.run / HOLDER)
        (self.run / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(
                f"{_holder(self.run)} is at work in {self.run}; "
                "wait until it has ended, or choose another folder"
            ) from None

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._lock.is_locked:
            with suppress(OSError):  # a read-only or full disk must not hide why the run ended
                (self.run / HOLDER).unlink(missing_ok=True)
            self._lock.release()

    def refuse(self) -> None:
        """Raise a DataError if another process holds the lock; nothing is written."""
        if (self.run / LOCK).is_file() and not (self.run / LOCK).is_symlink():
            try:
                self._acquire()
            except OSError:  # a folder that may only be read: nobody else writes there either
                return
            self._lock.release()


def _holder(run: Path) -> str:
    try:
        return read_text(run / HOLDER, 4096)[:200].strip() or "another process"
    except (OSError, ValueError):
        return "another process"
