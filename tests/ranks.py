"""Several processes as torchrun would start them, each running this module or the command line."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch

import distilset
from distilset.errors import DataError
from distilset.methods.atom import ATOM
from tests.small import ENGINE, NETWORK, distil, splits

ROOT = Path(distilset.__file__).parent.parent

CASES = {
    "instance": {"settings": {"engine": {**ENGINE, "chunk": 5}}, "method": "atom"},
    "ipc 3": {"ipc": 3, "settings": {"engine": {**ENGINE, "chunk": 7}}, "method": "datadam"},
    "layer": {"norm": "layer"},
    "none, whitened": {"norm": "none", "zca": True},
    "pool": {"pool": ["lenet"]},
    "going back": {
        "method": "tests.ranks:BadOnce",
        "settings": {"distill": {"batch_real": 4, "guard_every": 4}},
    },
    "factor": {
        **{"factor": 2, "init": "noise", "method": "datadam"},
        "settings": {"engine": {**ENGINE, "chunk": 9}},
    },
    "adam": {
        **{"method": "tests.ranks:BadAgain", "image_lr": 0.02},
        **{"optimizer": "adam", "schedule": "cosine"},
        "settings": {"distill": {"batch_real": 4, "guard_every": 4}},
    },
    "bank": {"bank": 3, "settings": {"engine": {**ENGINE, "chunk": 6}}},
    "experts": {"experts": 2, "settings": {"experts": {"updates": 5, "snapshots": 2}}},
}
COUPLED = {
    "batch": {"norm": "batch"},
    "factor": {"norm": "batch", "factor": 2, "init": "noise"},
    "pool": {"norm": "batch", "pool": ["lenet"]},
}
SHORT = {"method": "tests.ranks:Short", "settings": {"engine": {**ENGINE, "chunk": 6}}}
COUNTS = (6, 3, 9, 6, 5)


def settings_of(case):
    known = {
        **CASES,
        "short": SHORT,
        **{f"coupled {name}": flags for name, flags in COUPLED.items()},
    }
    return {
        "steps": int(os.environ.get("STEPS", "12")),
        "checkpoint_every": 5,
        "image_lr": 0.5,
        **known[case],
    }


def run_case(case, out):
    """Distil as a case says."""
    flags = settings_of(case)
    network = {**NETWORK, **{key: flags.pop(key) for key in ("norm", "pool") if key in flags}}
    flags["settings"] = {"network": network, **flags.get("settings", {})}
    return distil(splits(counts=COUNTS).train, out=out, **flags)


class Faulty(ATOM):
    """ATOM that fails in one process, as ``FAULT=rank:step:how`` says, in the first attempt only.

    ``how`` is error, bug, or the number of a signal.
    """

    def episode(self, images, step):
        rank, at, how = os.environ.get("FAULT", "-1:-1:").split(":")
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if first and (int(rank), int(at)) == (int(os.environ.get("RANK", "0")), step):
            if how == "error":
                raise DataError("the fault that was asked for")
            if how == "bug":
                raise ZeroDivisionError("the bug that was asked for")
            os.kill(os.getpid(), int(how))
        time.sleep(float(os.environ.get("SLOW", "0")))
        yield from super().episode(images, step)


def _is_last():
    return int(os.environ.get("RANK", "0")) + 1 == int(os.environ.get("WORLD_SIZE", "1"))


class BadOnce(ATOM):
    """ATOM whose seventh loss is not a number, in the last process, the first time."""

    done = False

    def episode(self, images, step):
        for update in super().episode(images, step):
            if step == 6 and _is_last() and not type(self).done:
                type(self).done = True
                yield [part * float("nan") for part in update]
            else:
                yield update


class BadAgain(BadOnce):
    """Another class, for another case in the same process."""

    done = False


class Short(ATOM):
    """ATOM that finds no memory for more than 3 images in a pass, in the last process, late."""

    def episode(self, images, step):
        if step >= 6 and _is_last() and self.task.settings.chunk > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield from super().episode(images, step)


def environment(number, rank, port, **more):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RANK": str(rank),
        "WORLD_SIZE": str(number),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        **{name: str(value) for name, value in more.items()},
    }


def free_port():
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def launch(number, *words, cwd, **more):
    """Start processes that run ``python WORDS``."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=environment(number, rank, port, **more),
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]


def results(processes, timeout=400):
    """Wait for processes; return code, standard output and error of each."""
    try:
        said = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, said, strict=True)]


def together(number, *words, cwd, **more):
    """Run processes that must end well; return what the first printed."""
    ended = results(launch(number, *words, cwd=cwd, **more))
    assert all(code == 0 for code, _, _ in ended), "\n".join(err for _, _, err in ended)
    assert all(out == err == "" for _, out, err in ended[1:]), ended[1:]
    return ended[0][1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[2:]:
        run_case(name, Path(sys.argv[1]) / name)
