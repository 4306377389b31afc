"""Every loader of files with good input for it, and one case of damage at a time.

A case gives a result or a `DistilsetError` of one line, within `LIMIT_S`, and writes, runs, imports
and connects nothing. ``tests/test_fuzz.py`` runs some cases, ``benchmarks/fuzz.py`` any number.
"""

import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilset.errors import DistilsetError
from tests import fuzz_caches, fuzz_loaders, fuzz_studies

LOADERS = {**fuzz_loaders.LOADERS, **fuzz_studies.LOADERS, **fuzz_caches.LOADERS}

NOWHERE = "/nowhere"
LIMIT_S = 20
"""Seconds for a case; the slowest that are meant take two."""


class Hung(BaseException):
    """A case took longer than `LIMIT_S`."""


_FORBIDDEN = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("shutil.rmtree", "ctypes.dlopen", "pickle.find_class"),
}


class Watch:
    """Sees by Python's audit hooks what a loader does: writes, removals, processes, connections."""

    def __init__(self) -> None:
        self.on = False
        self.inside = Path(NOWHERE)
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o3
        if (writes or event in _FORBIDDEN) and not self._allowed(arguments):
            self.seen.append(f"{event} {arguments!r:.200}")
        if event == "import" and "evil" in str(arguments[0]):
            self.seen.append(f"import of {arguments[0]}")

    def _allowed(self, arguments: tuple[Any, ...]) -> bool:
        """Tell what lies inside; names without a folder are those of a folder being removed."""
        paths = [str(a) for a in arguments[:2] if isinstance(a, str | Path) and a not in ("w", "r")]
        inside = str(self.inside)
        return inside != NOWHERE and all(p.startswith(inside) or "/" not in p for p in paths)

    @contextmanager
    def watching(self, inside: Path | None) -> Iterator[None]:
        """Watch inside the block; writes below ``inside`` are allowed."""
        self.inside, self.on, self.seen = inside or Path(NOWHERE), True, []
        try:
            yield
        finally:
            self.on = False


WATCH = Watch()


@contextmanager
def limited() -> Iterator[None]:
    """Raise `Hung` inside the block after `LIMIT_S` seconds."""

    def ring(_number: int, _frame: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Bench:
    """A loader with its good input on disk; each case damages one file and puts it back."""

    def __init__(self, name: str, folder: Path) -> None:
        self.loader, self.folder = LOADERS[name], folder / "inside"
        self.folder.mkdir(parents=True)
        torch.manual_seed(0)  # good input is drawn
        self.loader.make(self.folder)
        self.good = {file: (self.folder / file).read_bytes() for file in self.loader.damage}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.loader.load(self.folder)  # good input is read, and all is imported

    def case(self, seed: int, number: int) -> str:
        """Return ``read``, ``refused``, or what went wrong."""
        rng = np.random.default_rng([seed, number])
        file = list(self.good)[int(rng.integers(len(self.good)))]
        damaged = self.loader.damage[file](self.good[file], rng)
        (self.folder / file).write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with limited(), WATCH.watching(self.folder if self.loader.writes else None):
                    outcome = self._load()
        except Hung:
            outcome = f"hung on {file}"
        finally:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_bytes(self.good[file])
        outside = [path.name for path in self.folder.parent.iterdir() if path != self.folder]
        if WATCH.seen or outside:
            return f"escaped: {WATCH.seen} {outside}"
        return outcome

    def _load(self) -> str:
        try:
            self.loader.load(self.folder)
        except DistilsetError as error:
            return "refused" if len(str(error).splitlines()) == 1 else f"two lines: {error}"
        except Exception as error:
            return f"raised {type(error).__name__}: {error}"
        return "read"
