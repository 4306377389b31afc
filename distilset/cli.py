"""The command line: arguments to settings, one call, print. Imported by nothing.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from distilset.errors import ConfigError, DistilsetError

app = typer.Typer(
    name="distilset",
    help="Dataset distillation: a folder of labelled images in, a few synthetic images out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

KINDS = ("methods", "selectors", "networks", "datasets", "presets", "protocols")
DATA_HELP = (
    "Data: digits, a known name (distilset list datasets), a folder of class folders, an .npz "
    "file, a folder of parquet files, or owner/name on the Hugging Face hub."
)

Data = Annotated[str, typer.Argument(help=DATA_HELP, metavar="DATA")]
Out = Annotated[Path, typer.Option(help="The run folder to write.")]
Ipc = Annotated[int | None, typer.Option(help="Images per class [10].")]
Resolution = Annotated[int | None, typer.Option(help="Bring images to this square size.")]
Like = Annotated[
    str | None, typer.Option(help="A known data set whose mean, std and mirror rule apply.")
]
Val = Annotated[float | None, typer.Option(help="Fraction of train carved out for validation.")]
SplitSeed = Annotated[int | None, typer.Option(help="Seed of carved splits [0].")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything but carved splits [0].")]
Zca = Annotated[bool | None, typer.Option("--zca/--no-zca", help="Whiten images (CIFAR).")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 ... [auto].")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")]


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from distilset import __version__

        print(f"distilset {__version__}")
        raise typer.Exit


@app.command()
def distill(
    data: Data,
    out: Out,
    method: Annotated[
        str | None, typer.Option(help="atom, datadam, dm or package.module:Class [atom].")
    ] = None,
    ipc: Ipc = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all [1000].")] = None,
    network: Annotated[
        str | None, typer.Option(help="Network, e.g. convnet or convnet:depth=4,width=256.")
    ] = None,
    norm: Annotated[
        str | None, typer.Option(help="none, batch, layer, instance or group [instance].")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="random, kcenter, herding, noise, or a run folder [random].")
    ] = None,
    batch_real: Annotated[
        int | None, typer.Option(help="Real images per class and step [by method].")
    ] = None,
    bank: Annotated[
        int | None,
        typer.Option(help="Targets computed once and used again; 0 is fresh ones [0]."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A preset (distilset list presets) or a TOML file.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, e.g. method.power=1. May be repeated."),
    ] = None,
    resolution: Resolution = None,
    like: Like = None,
    val: Val = None,
    split_seed: SplitSeed = None,
    zca: Zca = None,
    seed: Seed = None,
    device: Device = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or fp32 [auto].")] = None,
    compile_: Annotated[
        str | None, typer.Option("--compile", help="auto, on or off [auto].")
    ] = None,
    threads: Threads = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(metavar="STEPS", help="Steps between checkpoints [a minute's].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint, else start.")
    ] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Distil DATA to a few synthetic images per class."""
    from distilset.config import merge
    from distilset.runfolder import RunFolder
    from distilset.stated import data_source, from_flags, load_preset, parse_settings

    if ":" in (method or ""):
        sys.path.append(str(Path.cwd()))  # as with python -m distilset: the user's own module
    flags = from_flags(
        {
            "method": method,
            "ipc": ipc,
            "steps": steps,
            "network": network,
            "norm": norm,
            "init": init,
            "batch_real": batch_real,
            "bank": bank,
            "resolution": resolution,
            "like": like,
            "val": val,
            "split_seed": split_seed,
            "zca": zca,
            "seed": seed,
            "device": device,
            "precision": precision,
            "compile": compile_,
            "threads": threads,
            "checkpoint_every": checkpoint_every,
        }
    )
    stated = merge(
        load_preset(preset) if preset else {},
        parse_settings(set_ or []),
        flags,
        {"data": {"source": data_source(data)}},
    )
    folder = RunFolder(out, resume=resume, overwrite=overwrite)
    _distill(folder, stated, dry_run)


def _distill(folder: Any, stated: Any, dry_run: bool) -> None:
    from distilset.session import open_session
    from distilset.terminal import stderr, stdout

    console = stderr()
    config = folder.settle(stated)
    done = folder.finished(config.distill.steps)
    if done is not None:
        stdout().print(f"{folder.path} is finished already: {done.card.steps} steps", markup=False)
        return
    splits = _load(config.data, console)
    session = open_session(config, splits.train, folder)
    console.print(_plan_table(session, splits))
    if not dry_run:
        _run(session, console)


def _run(session: Any, console: Any) -> None:
    from distilset.runs import Interrupted
    from distilset.terminal import bar, counter, stdout

    config, task = session.plan.config, session.plan.task
    per_step = task.classes * task.ipc + sum(min(n, task.batch_real) for n in task.train.counts)
    total, first = config.distill.steps, session.progress.state.step
    base = session.progress.seconds
    path = session.folder.path
    session.build_bank(counter(console, "building the bank"))
    try:
        with stopping() as stop, bar(console, "distilling", total, first) as shown:
            for record in session.records(stop):
                if record.step % 10 == 0 or record.step in (total, first + 1):
                    rate = (
                        per_step
                        * (record.step - first)
                        / max(session.progress.seconds - base, 1e-9)
                    )
                    shown.update(record.step, f"loss {float(record.loss):.4g}, {rate:.0f} images/s")
    except Interrupted as interruption:
        console.print(f"{interruption}; go on with the same command and --resume", markup=False)
        raise typer.Exit(130) from None
    session.finish()
    stdout().print(
        f"{path}: {task.classes * task.ipc} images of {task.classes} classes", markup=False
    )


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a wish to stop after the step; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _load(data: Any, console: Any) -> Any:
    from distilset.data import load_data
    from distilset.terminal import counter

    splits = load_data(
        data.source,
        resolution=data.resolution,
        val=data.val,
        split_seed=data.split_seed,
        like=data.like,
        progress=counter(console, "reading images"),
    )
    if splits.info.skipped_count:
        names = ", ".join(splits.info.skipped)
        console.print(
            f"{splits.info.skipped_count} unreadable files are left out: {names}"
            + (" ..." if splits.info.skipped_count > len(splits.info.skipped) else ""),
            markup=False,
        )
    return splits


def _plan_table(session: Any, splits: Any) -> Any:
    from distilset.plan import plan_rows
    from distilset.terminal import duration, plain_table, size

    rows = plan_rows(session.plan, splits)
    rows.append(("memory", f"about {size(session.plan.bytes)}"))
    if session.bank is not None:
        missing = session.bank.missing
        text = f"{missing} of {session.bank.size} targets to build"
        rows.append(("bank", f"{text}, about {duration(session.bank_seconds)}"))
    left = session.steps_left * session.seconds_per_step
    per_step = f"{1000 * session.seconds_per_step:.0f} ms a step"
    rows.append(("time", f"about {duration(left)} for {session.steps_left} steps ({per_step})"))
    if session.progress.state.step:
        rows.append(("resumed", f"after step {session.progress.state.step}"))
    rows += [("note", note) for note in (*session.plan.method.notes, *session.progress.notes)]
    return plain_table("", ("plan", str(session.folder.path)), rows)


@app.command()
def select(
    data: Data,
    out: Out,
    selector: Annotated[str, typer.Option(help="random, kcenter or herding.")] = "random",
    ipc: Ipc = None,
    resolution: Resolution = None,
    like: Like = None,
    val: Val = None,
    split_seed: SplitSeed = None,
    zca: Zca = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
) -> None:
    """Select real images of DATA: a coreset, as a run folder like a distilled one."""
    from distilset import api
    from distilset.config import data_config
    from distilset.selectors import get_selector
    from distilset.stated import from_flags
    from distilset.store import refuse_used
    from distilset.terminal import stderr, stdout

    get_selector(selector)
    refuse_used(out, overwrite=overwrite)
    flags = from_flags(
        {"resolution": resolution, "like": like, "val": val, "split_seed": split_seed, "zca": zca}
    )
    config = data_config({"source": data, **flags.get("data", {})})
    splits = _load(config, stderr())
    chosen = api.select(
        splits.train, selector, 10 if ipc is None else ipc, seed=seed or 0, zca=config.zca
    )
    chosen.save(out, overwrite=overwrite)
    stdout().print(f"{out}: {len(chosen)} images of {len(chosen.classes)} classes", markup=False)


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN ...")],
    data: Annotated[
        str | None, typer.Option(help="The data, if not where the run found them.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Network to train [the run's]. May be repeated.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="Norm of the networks [the run's].")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="dm, datadam or quick [dm]. May be repeated.")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="random, kcenter, herding or whole, beside the runs. May be repeated."),
    ] = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    epochs: Annotated[int | None, typer.Option(help="Epochs [the protocol's].")] = None,
    trials: Annotated[int, typer.Option(help="Networks for each row.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    threads: Threads = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train fresh networks on runs and score them on real images."""
    from distilset.api import train_settings
    from distilset.evaluation import Request
    from distilset.hardware import threads as limit_threads
    from distilset.models import network_table
    from distilset.store import DistilledSet
    from distilset.terminal import stderr

    request = Request(
        networks=tuple(network_table(text) for text in network or ()),
        norm=norm,
        protocols=tuple(protocol or ("dm",)),
        baselines=tuple(baseline or ()),
        split=split,
        epochs=epochs,
        trials=trials,
        seed=seed,
        settings=train_settings(device, precision),
    )
    loaded = [(run, DistilledSet.load(run)) for run in runs]
    for _, distilled in loaded:
        request.networks_of(distilled)
    with limit_threads(threads):
        _evaluate(_entries(loaded, data, stderr()), request, json_)


def _entries(loaded: Any, data: str | None, console: Any) -> Any:
    """Pair every run with its data; data that several runs share are read once.

    How the data were split is what the card says.
    """
    from distilset.api import data_table
    from distilset.config import data_config
    from distilset.evaluation import Entry

    entries, read = [], {}
    for run, distilled in loaded:
        info = distilled.card.dataset
        source = data or distilled.settings.get("data", {}).get("source")
        config = data_config(data_table(info) | ({"source": source} if source else {}))
        if config.source.startswith("python:"):
            raise ConfigError(f"{run} was made from a data set in Python; name the data by --data")
        if config not in read:
            read[config] = _load(config, console)
        splits = read[config]
        if splits.info.fingerprint != info.fingerprint:
            console.print(
                f"note: these are not the data that {run} was made from "
                f"(fingerprint {splits.info.fingerprint}, the card has {info.fingerprint})",
                markup=False,
            )
        entries.append(Entry(str(run), distilled, splits))
    return entries


def _evaluate(entries: Any, request: Any, as_json: bool) -> None:
    import json

    from distilset.evaluation import append_scores, matrix
    from distilset.store import SCORES
    from distilset.terminal import score_table, stderr, stdout, training_bars

    console = stderr()
    paths = {entry.name: Path(entry.name) for entry in entries}
    scores = []
    with training_bars(console) as watch:
        for score, results in matrix(entries, request, watch):
            scores.append(score)
            console.print(f"{score.run}: {score}", markup=False)
            if score.run in paths and results:
                append_scores(paths[score.run] / SCORES, score, results)
    if as_json:
        print(json.dumps({"rows": [score.as_row() for score in scores]}, indent=2))
    else:
        stdout().print(score_table(scores))


@app.command("list")
def list_(kind: Annotated[str, typer.Argument(help=" | ".join(KINDS))]) -> None:
    """List what there is of a kind, by name."""
    from distilset.catalogue import catalogue
    from distilset.terminal import plain_table, stdout

    if kind not in KINDS:
        raise ConfigError(f"there is no list of {kind!r}; allowed are {', '.join(KINDS)}")
    columns, rows = catalogue(kind)
    stdout().print(plain_table("", columns, rows))


@app.command()
def show(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Show a run's card, and where its picture lies."""
    from distilset.catalogue import card_rows
    from distilset.store import GRID, DistilledSet
    from distilset.terminal import plain_table, stdout

    distilled = DistilledSet.load(run)
    stdout().print(plain_table("", ("card", str(run)), card_rows(distilled)))
    if (run / GRID).is_file():
        stdout().print(f"picture: {run / GRID}", markup=False)


def main() -> NoReturn:
    """Run the command line; an error that is the user's is one sentence and exit code 2."""
    try:
        app()
    except DistilsetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
