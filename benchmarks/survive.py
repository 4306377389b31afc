"""A run that is killed again and again, and ends with the bytes of one that was not.

    python benchmarks/survive.py --json FILE
    python benchmarks/survive.py --ranks 2 --json FILE     # torchrun; one of the ranks is killed

SIGKILL falls at random moments after the start-up of each process; for every third kill the program
waits until a checkpoint is being written, and slows the writing down, so that the kill lands inside
it. Whether one did is told by what it left: a file half written, or a checkpoint between two names.
A run that ends before all kills are spent is compared, and a new one begun.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from common import finish

from distilset.checkpoint import CURRENT, FRESH, PREVIOUS, load_checkpoint
from distilset.lock import HOLDER
from distilset.store import IMAGES, METRICS

ARGS = ["digits", "--method", "datadam", "--ipc", "5", "--network", "convnet:width=16,depth=2"]
ARGS += ["--batch-real", "32", "--precision", "fp32", "--compile", "off", "--threads", "1"]
SLOW = 0.05
"""Seconds that a slowed sync takes longer."""


@dataclass
class Life:
    """One process (or one group of ranks) of a run, and what became of it."""

    resumed_at: int
    killed: bool = False
    inside_a_write: bool = False
    ticks: list[int] = field(default_factory=list)


def child(ticks: str, slow: float, args: list[str]) -> None:
    """Be the command line, noting every step done in a file, with syncs that may be slow."""
    from distilset import cli, files, metrics

    sync, add = files.sync, metrics.Metrics.add
    file = os.open(ticks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def slowed(path: Path) -> None:
        time.sleep(slow)
        sync(path)

    def noted(self: metrics.Metrics, record: metrics.Record, seconds: float) -> None:
        os.write(file, f"{record.step}\n".encode())
        add(self, record, seconds)

    files.sync, metrics.Metrics.add = slowed, noted
    sys.argv = ["distilset", *args]
    cli.main()


class Runner:
    """Starts processes of one command, and kills them."""

    def __init__(self, work: Path, ranks: int, steps: int, every: int, seed: int) -> None:
        self.work, self.ranks, self.random = work, ranks, random.Random(seed)
        self.settings = ["--steps", str(steps), "--checkpoint-every", str(every)]
        self.env = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(self, run: Path, slow: float) -> subprocess.Popen:
        """Start the run, or its going on."""
        launch = [sys.executable]
        if self.ranks > 1:
            launch += ["-m", "torch.distributed.run", "--nproc-per-node", str(self.ranks)]
        launch += [__file__, "--child", str(self.work / "ticks"), str(slow)]
        args = ["distill", *ARGS, *self.settings, "--out", str(run), "--resume"]
        with (self.work / "log").open("ab") as log:
            return subprocess.Popen([*launch, *args], env=self.env, stdout=log, stderr=log)

    def live(self, run: Path, window: float | None, inside: bool) -> Life:
        """Let a process live for a random part of a window of seconds, or to its end."""
        found = load_checkpoint(run) if run.is_dir() else None
        life = Life(0 if found is None else found[0].state.step)
        (self.work / "ticks").write_text("")
        held, left = holder(run), leftovers(run)
        process = self.start(run, SLOW if inside else 0.0)
        if window is not None and self._wait_for(process, lambda: holder(run) not in (held, "")):
            time.sleep(self.random.uniform(0, window))
            if inside:
                self._wait_for(process, lambda: bool(leftovers(run) - left))
            life.killed = process.poll() is None
            if life.killed:
                os.kill(self._victim(process, inside), signal.SIGKILL)
                process.wait()
                life.inside_a_write = bool(leftovers(run) - left)
        code = process.wait()
        if not life.killed and code:
            raise RuntimeError(f"the run ended with {code}: {(self.work / 'log').read_text()}")
        life.ticks = [int(line) for line in (self.work / "ticks").read_text().split()]
        return life

    def _wait_for(self, process: subprocess.Popen, happened: Callable[[], bool]) -> bool:
        while process.poll() is None:
            if happened():
                return True
            time.sleep(0.0005)
        return False

    def _victim(self, process: subprocess.Popen, writer: bool) -> int:
        """Return the process to kill: of several ranks any, or the first, which writes."""
        ranks = sorted(children(process.pid)) if self.ranks > 1 else []
        return (ranks[0] if writer else self.random.choice(ranks)) if ranks else process.pid


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    folders = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for folder in folders for child in folder.read_text().split()]


def leftovers(run: Path) -> set[tuple[str, int]]:
    """Return what tells that a checkpoint is half written, or on its way to its name."""
    found, names = set(), set()
    for path in run.iterdir() if run.is_dir() else ():
        names.add(path.name)
        if path.name == FRESH or path.name.startswith(f".{FRESH}."):
            with suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_mtime_ns))
    if PREVIOUS in names and CURRENT not in names:
        found.add((PREVIOUS, (run / PREVIOUS).stat().st_mtime_ns))
    return found


def holder(run: Path) -> str:
    """Return who holds a run, or held it when it was killed."""
    try:
        return (run / HOLDER).read_text()
    except OSError:
        return ""


def outcome(run: Path) -> tuple[str, list[float]]:
    """Return the hash of the images, and the loss of every step."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    digest = blake2b((run / IMAGES).read_bytes(), digest_size=16).hexdigest()
    return digest, [line["loss"] for line in lines]


def survive(runner: Runner, kills: int, window: float) -> dict:
    """Kill a run so many times; return what was counted."""
    start = time.perf_counter()
    straight = runner.work / "undisturbed"
    steps = len(runner.live(straight, None, False).ticks)
    undisturbed, expected = time.perf_counter() - start, outcome(straight)
    lives, equal, number = [], [], 0
    while sum(life.killed for life in lives) < kills or not (lives and not lives[-1].killed):
        left = kills - sum(life.killed for life in lives)
        run = runner.work / f"run{number}"
        life = runner.live(run, window if left else None, inside=left % 3 == 0)
        lives.append(life)
        print(f"{left} left: {life.resumed_at} -> {life.ticks[-1:]}, {life.inside_a_write}")
        if not life.killed:
            equal.append(outcome(run) == expected)
            shutil.rmtree(run)
            number += 1
    after = [b for a, b in itertools.pairwise(lives) if a.killed]
    done = sum(len(life.ticks) for life in lives)
    return {
        "ranks": runner.ranks,
        "steps": steps,
        "checkpoint_every": int(runner.settings[-1]),
        "kills": kills,
        "kills_inside_a_checkpoint_write": sum(life.inside_a_write for life in lives),
        "resumes": len(after),
        "resumes_that_continued": sum(life.resumed_at > 0 for life in after),
        "share_continued": sum(life.resumed_at > 0 for life in after) / len(after),
        "runs_finished": len(equal),
        "steps_done": done,
        "steps_done_twice": done - steps * len(equal),
        "equal_bytes_and_losses": all(equal),
        "seconds_undisturbed": undisturbed,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], float(sys.argv[3]), sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints")
    parser.add_argument("--window", type=float, default=3.0, help="seconds after the start-up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        runner = Runner(Path(work), args.ranks, args.steps, args.every, args.seed)
        result = survive(runner, args.kills, args.window)
    finish(result, args.json)
    if not result["equal_bytes_and_losses"]:
        sys.exit("the bytes or losses differ")


if __name__ == "__main__":
    main()
