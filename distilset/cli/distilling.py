"""``distilset distill`` and ``distilset bank``."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from distilset.cli import options as o
from distilset.cli.reading import find_own_code, load

LOOK = ("method", "network", "norm", "batch_real", "seed", "resolution", "like", "val")
LOOK += ("experts", "split_seed", "zca", "mapped", "device", "precision", "compile_", "threads")
STATED = (*LOOK, "ipc", "factor", "steps", "init", "bank", "optimizer", "checkpoint_every")
"""The parameters that state a setting of the same name."""


def distill(
    data: o.Data,
    out: o.Out,
    method: o.Method = None,
    ipc: o.Ipc = None,
    factor: Annotated[
        int | None,
        typer.Option(help="Cut each stored image into FACTOR x FACTOR training images (IDC) [1]."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all [1000].")] = None,
    network: o.Network = None,
    norm: o.Norm = None,
    init: Annotated[
        str | None, typer.Option(help="A selector, noise, or a run folder [random].")
    ] = None,
    batch_real: o.BatchReal = None,
    bank: Annotated[
        int | None,
        typer.Option(help="Targets computed once and used again; 0 is fresh ones [0]."),
    ] = None,
    experts: o.Experts = None,
    optimizer: Annotated[
        str | None, typer.Option(help="How the images descend: sgd or adam [sgd].")
    ] = None,
    preset: o.Preset = None,
    set_: o.Set = None,
    resolution: o.Resolution = None,
    like: o.Like = None,
    val: o.Val = None,
    split_seed: o.SplitSeed = None,
    zca: o.Zca = None,
    mapped: o.Mapped = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: o.Compile = None,
    threads: o.Threads = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Steps between checkpoints [a minute's].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint, else start.")
    ] = False,
    overwrite: o.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write losses and images for TensorBoard.")
    ] = False,
) -> None:
    """Distil DATA to a few synthetic images per class."""
    stated = _stated(locals(), STATED)  # the parameters, by name
    from distilset.runfolder import RunFolder

    _distill(RunFolder(out, resume=resume, overwrite=overwrite), stated, dry_run, tensorboard)


def bank(
    data: o.Data,
    size: Annotated[int, typer.Option(help="Targets the bank is to have.")] = 200,
    method: o.Method = None,
    network: o.Network = None,
    norm: o.Norm = None,
    batch_real: o.BatchReal = None,
    experts: o.Experts = None,
    preset: o.Preset = None,
    set_: o.Set = None,
    resolution: o.Resolution = None,
    like: o.Like = None,
    val: o.Val = None,
    split_seed: o.SplitSeed = None,
    zca: o.Zca = None,
    mapped: o.Mapped = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile_: o.Compile = None,
    threads: o.Threads = None,
    bank_workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes at most; they share the threads [half of them]."),
    ] = None,
) -> None:
    """Build a bank of targets of DATA ahead of runs with --bank and the same settings."""
    stated = _stated(locals(), (*LOOK, "bank_workers"))  # the parameters, by name
    from distilset.config import build, merge
    from distilset.session import open_session
    from distilset.terminal import counter, stderr, stdout

    stated = merge(stated, {"distill": {"bank": size, "ipc": 1}})
    config = build(stated)
    console = stderr()
    session = open_session(config, load(config.data, console).train)
    assert session.bank is not None, "a plan with distill.bank has a bank"
    missing = session.bank.missing
    session.train_experts(counter(console, "training experts"))
    session.build_bank(counter(console, "building the bank"))
    stdout().print(f"bank of {size} targets: {missing} built, the rest was there", markup=False)


def _stated(params: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the tables that a command line states: flags over --set over preset."""
    from distilset.config import merge
    from distilset.stated import data_source, from_flags, load_preset, parse_settings

    find_own_code(params["method"], params["network"])
    return merge(
        load_preset(params["preset"]) if params["preset"] else {},
        parse_settings(params["set_"] or []),
        from_flags({name.rstrip("_"): params[name] for name in names}),
        {"data": {"source": data_source(params["data"])}},
    )


def _distill(folder: Any, stated: Any, dry_run: bool, tensorboard: bool) -> None:
    from distilset.live import check_tensorboard
    from distilset.session import open_session
    from distilset.terminal import stderr, stdout

    if tensorboard:
        check_tensorboard(folder)
    console = stderr()
    config = folder.settle(stated)
    done = folder.finished(config.distill.steps)
    if done is not None:
        stdout().print(f"{folder.path} is finished already: {done.card.steps} steps", markup=False)
        return
    splits = load(config.data, console)
    session = open_session(config, splits.train, folder)
    session.tensorboard = tensorboard
    console.print(_plan_table(session, splits))
    if not dry_run:
        _run(session, console)


def _run(session: Any, console: Any) -> None:
    from distilset.runs import Interrupted
    from distilset.terminal import bar, counter, stdout

    config, task = session.plan.config, session.plan.task
    per_step = session.plan.images_per_step
    total, first = config.distill.steps, session.progress.state.step
    base = session.progress.seconds
    path = session.folder.path
    session.train_experts(counter(console, "training experts"))
    session.build_bank(counter(console, "building the bank"))
    try:
        with stopping() as stop, bar(console, "distilling", total, first) as shown:
            told = len(session.progress.notes)
            for done, record in enumerate(session.records(stop), 1):
                for note in session.progress.notes[told:]:
                    console.print(note, markup=False)
                told = len(session.progress.notes)
                if record.step % 10 == 0 or record.step in (total, first + 1):
                    rate = per_step * done / max(session.progress.seconds - base, 1e-9)
                    shown.update(record.step, f"loss {float(record.loss):.4g}, {rate:.0f} images/s")
    except Interrupted as interruption:
        console.print(f"{interruption}; go on with the same command and --resume", markup=False)
        raise typer.Exit(130) from None
    session.finish()
    stdout().print(
        f"{path}: {task.classes * task.ipc} images of {task.classes} classes", markup=False
    )


def _plan_table(session: Any, splits: Any) -> Any:
    from distilset.outline import plan_rows
    from distilset.terminal import duration, plain_table, size

    rows = plan_rows(session.plan, splits)
    rows.append(("memory", f"about {size(session.plan.bytes)}"))
    if (experts := session.plan.config.experts).number:
        total = experts.number * len(session.plan.task.networks)
        rows.append(("experts", f"{session.missing_experts} of {total} to train"))
    if session.bank is not None:
        missing, workers = session.bank.missing, session.bank.workers
        text = f"{missing} of {session.bank.size} targets to build"
        text += f" in {workers} processes" if workers > 1 else ""
        rows.append(("bank", f"{text}, about {duration(session.bank_seconds)}"))
    left = session.steps_left * session.seconds_per_step
    per_step = f"{1000 * session.seconds_per_step:.0f} ms a step"
    rows.append(("time", f"about {duration(left)} for {session.steps_left} steps ({per_step})"))
    if session.progress.state.step:
        rows.append(("resumed", f"after step {session.progress.state.step}"))
    notes = (*session.plan.method.notes, *session.warnings, *session.progress.notes)
    rows += [("note", note) for note in notes]
    return plain_table("", ("plan", str(session.folder.path)), rows)


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a wish to stop after the step; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if number == signal.SIGINT and number in asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
