"""Data of many classes from files to distilled images: the cache, a start from it, some steps.

    python benchmarks/thousand.py --classes 1000 --per-class 200 --side 64 --folder DIR --json FILE

Draws images into class folders, decodes them to a memory map in a cache of its own, opens it in a
fresh process, and distils in one process and in several (torchrun), each with ``--threads``. Every
stage's result is kept in the JSON file and not measured again, unless ``--again`` names it; what is
drawn or decoded is kept too. The opening has the system's file cache warm from the stage before.
"""

import argparse
import hashlib
import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from common import finish
from PIL import Image
from processes import watched

STAGES = ("draw", "build", "open", "distil-1", "distil-n")
_LOAD = """
import json, sys, time
from distilset.data import load_data
notes = []
splits = load_data(sys.argv[1], resolution=int(sys.argv[2]), mapped=True, note=notes.append)
seconds = time.monotonic() - float(sys.argv[3])
facts = {"ready": seconds, "train": len(splits.train), "notes": notes}
print(json.dumps(facts | {"fingerprint": splits.info.fingerprint}))
"""


def draw_class(job: tuple[Path, int, int, int, str]) -> None:
    """Draw a class's images, whole or not at all: smooth noise with a colour of its own."""
    folder, number, per_class, side, kind = job
    final = folder / f"{number:04d}"
    if final.exists():
        return
    partial = folder / f".{number:04d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rng = np.random.default_rng(number)
    colour = rng.normal(0, 25, 3)
    for i in range(per_class):
        coarse = 120 + colour + 50 * rng.normal(size=(side // 4, side // 4, 3))
        pixels = np.clip(coarse, 0, 255).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
        buffer = io.BytesIO()
        options = {"quality": 90} if kind == "JPEG" else {"compress_level": 1}
        Image.fromarray(pixels).save(buffer, kind, **options)
        (partial / f"{i}.{kind.lower()}").write_bytes(buffer.getvalue())
    partial.rename(final)


def draw(options: argparse.Namespace) -> dict:
    """Draw all classes, in several processes."""
    start, folder = time.perf_counter(), options.folder / "images"
    jobs = [
        (folder, c, options.per_class, options.side, options.kind) for c in range(options.classes)
    ]
    with Pool(options.workers) as pool:
        for _ in pool.imap_unordered(draw_class, jobs):
            pass
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds": time.perf_counter() - start, "bytes": size}


def load(options: argparse.Namespace) -> dict:
    """Load the data in a fresh process: the first time this builds the map."""
    data, side = str(options.folder / "images"), str(options.side)
    command = [sys.executable, "-c", _LOAD, data, side, str(time.monotonic())]
    result = watched(command, _environment(options))
    result |= json.loads(result.pop("output"))
    pixels = (options.folder / "cache" / "mapped").glob("*/pixels.u8")
    return result | {"map_bytes": sum(path.stat().st_size for path in pixels)}


def distil(options: argparse.Namespace, processes: int) -> dict:
    """Distil by the command line; return seconds per step, memory and a hash of the images."""
    out = options.folder / f"run-{processes}"
    python = [sys.executable, "-m", *_module(processes)]
    command = [
        *(*python, "distill", str(options.folder / "images"), "--out", str(out), "--overwrite"),
        *("--method", options.method, "--norm", "instance", "--mapped"),
        *("--resolution", str(options.side), "--ipc", str(options.ipc)),
        *("--steps", str(options.steps), "--batch-real", str(options.batch_real)),
        *("--threads", str(options.threads), "--precision", options.precision),
        *("--compile", options.compile, "--set", f"network.width={options.width}"),
    ]
    result = watched(command, _environment(options))
    del result["output"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    if len(lines) > 1:
        each = (lines[-1]["seconds"] - lines[0]["seconds"]) / (len(lines) - 1)
        result["seconds_per_step"] = round(each, 4)
    digest = hashlib.blake2b((out / "distilled.safetensors").read_bytes(), digest_size=16)
    return result | {"run": processes, "images": digest.hexdigest(), "loss": lines[-1]["loss"]}


def _module(processes: int) -> list[str]:
    if processes == 1:
        return ["distilset"]
    return ["torch.distributed.run", "--nproc-per-node", str(processes), "-m", "distilset"]


def _environment(options: argparse.Namespace) -> dict[str, str]:
    return {
        "DISTILSET_CACHE": str(options.folder / "cache"),
        "OMP_NUM_THREADS": str(options.threads),
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (
        *(("classes", 1000), ("per-class", 200), ("side", 64), ("workers", 2)),
        *(("steps", 20), ("ipc", 1), ("batch-real", 64), ("threads", 1), ("processes", 2)),
        ("width", 128),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kind", choices=("PNG", "JPEG"), default="JPEG")
    parser.add_argument("--method", default="datadam")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--again", nargs="+", choices=STAGES, default=())
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = json.loads(options.json.read_text()) if options.json.is_file() else {}
    settings = {
        k: v for k, v in vars(options).items() if k not in ("folder", "json", "only", "again")
    }
    if result.setdefault("settings", settings) != settings:
        raise SystemExit(f"{options.json} has results of other settings: {result['settings']}")
    stages: dict[str, Callable[[], dict]] = {
        "draw": lambda: draw(options),
        "build": lambda: load(options),
        "open": lambda: load(options),
        "distil-1": lambda: distil(options, 1),
        "distil-n": lambda: distil(options, options.processes),
    }
    for name in STAGES:
        if name in options.only and (name not in result or name in options.again):
            if name == "build" and name in options.again:
                shutil.rmtree(options.folder / "cache", ignore_errors=True)
            result[name] = stages[name]()
            options.json.write_text(json.dumps(result, indent=2) + "\n")
    if {"distil-1", "distil-n"} <= {*result}:
        result["same_images"] = result["distil-1"]["images"] == result["distil-n"]["images"]
    finish(result, options.json)


if __name__ == "__main__":
    main()
