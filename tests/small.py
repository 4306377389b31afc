"""Runs that take milliseconds: drawn images, a narrow network, a few steps."""

import itertools
import json
import math
import os
import sys
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass

import distilset
from distilset import cli
from distilset.config import RunConfig, merge
from distilset.methods.atom import ATOM
from distilset.methods.base import STRICT, Weight
from distilset.runfolder import RunFolder
from distilset.runs import Interrupted
from distilset.session import open_session
from distilset.testing import drawn_images, small_config
from distilset.types import Splits

ENGINE = {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1}
NETWORK = {"width": 8, "depth": 2}
ARGS = [
    "--network",
    "convnet:width=8,depth=2",
    "--batch-real",
    "4",
    "--ipc",
    "1",
    "--compile",
    "off",
    "--threads",
    "1",
]
FAST = ("--epochs", 1, "--trials", 2, "--network", "convnet:width=8,depth=2", "--device", "cpu")
SHORT: dict[str, dict[str, Any]] = {
    "frepo": {"networks": 1, "age": 3},
    "mtt": {"updates": 2, "span": 1, "latest": 1},
}
"""Settings of methods that make their episodes short."""

SECTIONS: dict[str, dict[str, Any]] = {
    "mtt": {"experts": {"number": 1, "updates": 4, "snapshots": 2}},
}
"""Other settings of runs that methods need, short too."""


def short_config(method: str) -> RunConfig:
    """Return settings for a run of a few short steps of a method."""
    return small_config(method, SHORT.get(method, {}), **SECTIONS.get(method, {}))


SHAPE, COUNTS = (3, 8, 8), (6, 6, 6)


def splits(shape=SHAPE, counts=COUNTS) -> Splits:
    train, test = (drawn_images(shape, counts, role=r, seed=s) for s, r in enumerate(ROLES))
    return Splits(train, test)


ROLES: tuple[Any, ...] = ("train", "test")


def distil(train=None, **flags):
    """Call `distilset.distill` with small settings; ``settings`` are merged over them."""
    settings = {"network": NETWORK, "engine": ENGINE, "distill": {"batch_real": 4}}
    for section, values in flags.pop("settings", {}).items():
        settings[section] = {**settings.get(section, {}), **values}
    wanted = {"ipc": 1, "steps": 6, **flags}
    return distilset.distill(train or splits().train, settings=settings, **wanted)


def write_npz(path, *, classes=("a", "b", "c"), seed=0, shape=SHAPE, per_class=8):
    """Write drawn images as a data set that the command line can read; return its path."""
    train = drawn_images(shape, [per_class] * len(classes), seed=seed)
    images = train.images.permute(0, 2, 3, 1).numpy()
    np.savez(path, images=images, labels=train.labels.numpy(), classes=np.array(classes))
    return str(path)


def call(capsys, *args) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, standard output and error."""
    before, sys.argv = sys.argv, ["distilset", *map(str, args)]
    capsys.readouterr()
    code = None
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    assert isinstance(code, int)
    return code, out, err


def distill(data, out, *more) -> list[Any]:
    """Return the words of a command that distils for three steps."""
    return ["distill", data, "--out", out, "--steps", 3, *ARGS, *more]


def refused(capsys, *args) -> str:
    """Run a command that must end in exit code 2 and one sentence; return the sentence."""
    code, out, err = call(capsys, *args)
    assert code == 2, (code, out, err)
    assert "Traceback" not in err
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert err.splitlines()[-1] == lines[0], err
    return lines[0]


def tree(folder) -> dict[str, bytes]:
    """Return all files of a folder with their bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def metrics(run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def mutations(data: bytes, number: int, seed: int = 0):
    """Yield damaged versions of a file: cut off, bytes changed, pieces doubled or left out."""
    rng = np.random.default_rng(seed)
    yield from (b"", b"\0" * len(data), data[: len(data) // 2], data[:-1], data + b"x", data[:7])
    for _ in itertools.repeat(None, number):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(damaged)))
            damaged[at] = int(rng.integers(256))
        if rng.random() < 0.3:
            a, b = sorted(int(v) for v in rng.integers(len(damaged), size=2))
            damaged[a:b] = damaged[a:b] * int(rng.integers(0, 3))
        yield bytes(damaged)


@dataclass(frozen=True, config=STRICT)
class PullConfig:
    weight: Weight = 1.0


class Pull:
    """Somebody else's method: draw images to a number that depends on the step."""

    Config = PullConfig
    defaults: ClassVar[dict[str, dict[str, Any]]] = {"distill": {"image_lr": 0.1}}
    notes = ()

    def __init__(self, config, task) -> None:
        self.weight = config.weight

    def episode(self, images, step):
        yield [self.weight * (images - math.sin(step)).square().sum()]


PULL = "tests.small:Pull"


def same_images(first, second) -> bool:
    return torch.equal(first.pixels, second.pixels)


class Struck(ATOM):
    """ATOM that sends its own process a signal in the middle of a step, if the environment says so.

    ``STRIKE=4:9`` sends signal 9 at step 4, counted from 0.
    """

    def episode(self, images, step):
        at, _, number = os.environ.get("STRIKE", "-1:0").partition(":")
        if step == int(at):
            os.kill(os.getpid(), int(number))
        yield from super().episode(images, step)


STRUCK = "tests.small:Struck"


IMAGES = "distilled.safetensors"


def content(run) -> bytes:
    return (run / IMAGES).read_bytes()


def start(run, steps=6, stop_at=None, every=2, settings=None, **allowed):
    """Begin or resume a run in a folder and stop it after a step; return the records' steps."""
    stated = {
        "data": {"source": "drawn"},
        "distill": {"ipc": 1, "steps": steps, "batch_real": 4},
        "network": NETWORK,
        "engine": {**ENGINE, "checkpoint_every": every},
    }
    folder = RunFolder(run, **allowed)
    config = folder.settle(merge(stated, settings or {}))
    session = open_session(config, splits().train, folder)
    seen = []
    try:
        for record in session.records(lambda: session.progress.state.step == stop_at):
            seen.append(record.step)
    except Interrupted:
        return seen
    session.finish()
    return seen
