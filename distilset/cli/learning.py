"""``distilset continual``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distilset.cli import options as o
from distilset.cli.reading import find_own_code, load

FLAGS = ("network", "norm", "steps", "init", "batch_real", "bank", "zca", "device", "precision")
FLAGS += ("compile_", "threads")


def continual(
    data: o.Data,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="atom, datadam, dm, package.module:Class, or a selector [datadam]. "
            "May be repeated."
        ),
    ] = None,
    tasks: Annotated[int, typer.Option(help="Tasks in which the classes come.")] = 5,
    ipc: Annotated[int, typer.Option(help="Images kept per class.")] = 20,
    orders: Annotated[int, typer.Option(help="Orders of the classes.")] = 5,
    trials: Annotated[int, typer.Option(help="Networks trained after each task.")] = 3,
    steps: Annotated[int | None, typer.Option(help="Distillation steps per task [1000].")] = None,
    protocol: Annotated[str, typer.Option(help="dm, datadam or quick.")] = "quick",
    epochs: Annotated[int | None, typer.Option(help="Epochs [the protocol's].")] = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    pixels: Annotated[
        str, typer.Option(help="Train on float images, or png: what 8 bits hold of them.")
    ] = "float",
    network: o.Network = None,
    norm: o.Norm = None,
    init: Annotated[str | None, typer.Option(help="A selector, or noise [random].")] = None,
    batch_real: o.BatchReal = None,
    bank: Annotated[
        int | None,
        typer.Option(help="Targets a task, computed once for all methods; 0 is fresh ones [0]."),
    ] = None,
    resolution: o.Resolution = None,
    like: o.Like = None,
    val: o.Val = None,
    split_seed: o.SplitSeed = None,
    zca: o.Zca = None,
    seed: Annotated[int, typer.Option(help="Seed of everything but carved splits.")] = 0,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: o.Compile = None,
    threads: o.Threads = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a call stopped, or help one; else start.")
    ] = False,
    overwrite: o.Overwrite = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Learn the classes of DATA task by task from a small memory, made by methods side by side."""
    flags = {name.rstrip("_"): value for name, value in locals().items() if name in FLAGS}
    _leave_the_others(resume)
    from distilset.apps.continual import make_bench, open_folder
    from distilset.apps.folder import check_free
    from distilset.apps.study import Study
    from distilset.config import data_config
    from distilset.stated import data_source, from_flags
    from distilset.terminal import stderr

    find_own_code(*(method or ()), network)
    names = tuple(dict.fromkeys(method or ("datadam",)))
    study = Study(tasks, ipc, names, orders, trials, protocol, epochs, split, pixels, seed)
    check_free(out, resume=resume, overwrite=overwrite)
    reading = {"resolution": resolution, "like": like, "val": val, "split_seed": split_seed}
    table = {"source": data_source(data), **from_flags(reading).get("data", {})}
    console = stderr()
    bench = make_bench(load(data_config(table), console), study, **flags)
    folder = open_folder(bench, out, resume=resume, overwrite=overwrite)
    _show(_run(bench, folder, console), folder, as_json=json_)


def _leave_the_others(resume: bool) -> None:
    """Of several processes that torchrun has started, be one that takes jobs from the folder."""
    from distilset.errors import ConfigError
    from distilset.parallel import environment

    if environment.size() == 1:
        return
    if not resume:
        raise ConfigError("several processes work on one study only with --resume")
    environment.leave()
    import torch

    if gpus := torch.cuda.device_count():
        torch.cuda.set_device(environment.local_rank() % gpus)


def _run(bench: Any, folder: Any, console: Any) -> Any:
    from distilset.terminal import job_bars

    try:
        with job_bars(console, ("memories", "trainings")) as watch:
            return bench.run(folder, watch)
    except KeyboardInterrupt:
        told = f"stopped; {folder.path} goes on with the same command and --resume"
        console.print(told, markup=False)
        raise typer.Exit(130) from None


def _show(found: Any, folder: Any, *, as_json: bool) -> None:
    import json

    from distilset.reporting.applications import read_application
    from distilset.terminal import plain_table, stdout

    if as_json:
        rows = [row for curve in found for row in curve.facts()]
        average = [{"method": curve.method, **curve.average.facts()} for curve in found]
        print(json.dumps({"rows": rows, "average": average}, indent=2))
        return
    summary = read_application(folder.path).summary
    console = stdout()
    console.print(plain_table(summary.title, summary.head, summary.rows))
    for text in (summary.caption, f"written to {folder.path}"):
        console.print(text, markup=False)
