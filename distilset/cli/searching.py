"""``distilset nas``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distilset.cli import options as o
from distilset.cli.reading import find_own_code

SPACE_HELP = (
    "convnet720, hyper (learning rate, weight decay, augmentation of one network), a TOML file "
    "with [factors], or package.module:function that gives a list of networks."
)


def nas(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN ...")],
    out: Annotated[Path, typer.Option(help="The folder of the search to write.")],
    space: Annotated[str, typer.Option(help=SPACE_HELP)] = "convnet720",
    data: Annotated[
        str | None, typer.Option(help="The data, if not where the runs found them.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="The network of a space over training [the first run's].")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", help="Networks of a stratified sample [all].")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="A selector, or early (the whole data for as many images as a proxy takes), "
            "beside the runs. May be repeated."
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Training on proxies: dm, datadam or quick.")
    ] = "quick",
    epochs: Annotated[int | None, typer.Option(help="Epochs on proxies [the protocol's].")] = None,
    trials: Annotated[int, typer.Option(help="Trainings of each network on each proxy.")] = 1,
    split: Annotated[
        str, typer.Option(help="val, or test as in the papers (chooses on the test part).")
    ] = "val",
    reference: Annotated[
        Path | None, typer.Option(help="Whole-data accuracies: an earlier search's reference.json.")
    ] = None,
    reference_updates: Annotated[
        int | None, typer.Option(metavar="N", help="Updates on the whole data [4000].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of sample, weights, order, augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    threads: o.Threads = None,
    together: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Trainings of one network at once [1; on a GPU what fits its memory]."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes, which share the threads [one a thread].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in --out, else start.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier search in --out.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Search for networks or settings on RUNs, and correlate with training on the whole data."""
    from distilset.api import train_settings
    from distilset.apps.folder import check_free
    from distilset.apps.planning import plan_search
    from distilset.apps.wish import Wish
    from distilset.cli.evaluating import entries_of
    from distilset.hardware import threads as limit_threads
    from distilset.parallel import group
    from distilset.store import DistilledSet
    from distilset.terminal import stderr

    find_own_code(space, network)
    if group.leads():
        check_free(out, resume=resume, overwrite=overwrite)
    wish = Wish(
        space, network, sample, tuple(baseline or ()), protocol, epochs, trials, split, reference,
        reference_updates, seed, train_settings(device, precision, together), threads, workers,
    )  # fmt: skip
    console = stderr()
    entries = entries_of([(run, DistilledSet.load(run)) for run in runs], data, console)
    with limit_threads(threads):
        plan = plan_search(entries, wish)
        console.print(_plan_table(plan, out))
        if not dry_run:
            found = _search(plan, out, resume, overwrite, console)
            _show(plan, found, out, json_)


def _search(plan: Any, out: Path, resume: bool, overwrite: bool, console: Any) -> Any:
    from distilset.apps.nas import open_search
    from distilset.terminal import share_bar

    opened = open_search(plan, out, resume=resume, overwrite=overwrite)
    try:
        with share_bar(console, "training") as progress:
            return opened.run(progress)
    except KeyboardInterrupt:
        console.print(f"{len(opened.done)} trainings are in {out}; go on with --resume")
        raise typer.Exit(130) from None


def _plan_table(plan: Any, out: Path) -> Any:
    from distilset.parallel.environment import size
    from distilset.terminal import plain_table

    chosen, work = plan.chosen, plan.work
    rows = [
        ("space", f"{plan.space}, {len(chosen.members)} of {chosen.fitting} networks"),
        *(("", text) for text in chosen.reasons()),
        ("split", f"{work.scored.role}, {len(work.scored):,} images"),
        ("proxies", ", ".join(proxy.name for proxy in plan.proxies)),
        ("on a proxy", f"{work.protocol.name}, {work.trials} trainings of a network"),
        ("whole data", f"{work.whole.updates} updates of {work.whole.batch} images"),
        ("processes", str(plan.workers if size() == 1 else size())),
    ]
    for name, cost in plan.cost_by_proxy().items():
        tera = cost / 1e12
        text = f"{tera:,.0f}" if tera >= 10 else f"{tera:.2g}"
        rows.append((f"work, {name}", f"{text} T operations, estimated"))
    return plain_table("", ("plan", str(out)), rows)


def _show(plan: Any, found: Any, out: Path, as_json: bool) -> None:
    from distilset.apps.findings import HEADS, caption, table
    from distilset.apps.nas import FINDINGS
    from distilset.terminal import plain_table, stdout

    if as_json:
        print((out / FINDINGS).read_text("utf-8"), end="")
        return
    console = stdout()
    console.print(plain_table("", HEADS, table(found)))
    console.print(caption(found, plan.work.scored.role), markup=False)
    console.print(f"results: {out}", markup=False, soft_wrap=True)
