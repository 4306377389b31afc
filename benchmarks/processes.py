"""A command's time, and the peak memory of it and of every process that it starts."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERVAL = 0.05
FIGURES = {"VmHWM": "peak_resident", "RssAnon": "peak_own"}


def watched(command: Sequence[str], environment: Mapping[str, str]) -> dict:
    """Run a command to its end; return its output, seconds and the peaks of its processes.

    ``peak_resident`` is what the system counts as a process's largest memory, pages of mapped
    files with it, which it gives up when others need them; ``peak_own`` is the rest, looked at
    every 0.05 s, so that a short peak may be missed. Of processes that take more than 100 MB.
    """
    start = time.perf_counter()
    env = {**os.environ, **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    peaks: dict[int, dict[str, int]] = {}
    while process.poll() is None:
        for number in _family(process.pid):
            _look(number, peaks.setdefault(number, {}))
        time.sleep(INTERVAL)
    seconds, out = time.perf_counter() - start, process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    large = [p for p in peaks.values() if p.get("peak_resident", 0) > 100e6]
    large.sort(key=lambda p: -p["peak_resident"])
    return {"seconds": round(seconds, 3), "processes": large, "output": out}


def _family(root: int) -> list[int]:
    """Return a process and those that it started, and they, and so on."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                stat = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents.setdefault(int(stat[1]), []).append(int(path.name))
    found = [root]
    for number in found:
        found += parents.get(number, [])
    return found


def _look(number: int, peaks: dict[str, int]) -> None:
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    for figure, name in FIGURES.items():
        if figure in values:
            peaks[name] = max(peaks.get(name, 0), int(values[figure].split()[0]) * 1024)
