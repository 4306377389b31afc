"""``distilset select``, ``list`` and ``show``."""

from pathlib import Path
from typing import Annotated

import typer

from distilset.cli import options as o
from distilset.cli.options import KINDS
from distilset.cli.reading import load
from distilset.errors import ConfigError


def select(
    data: o.Data,
    out: o.Out,
    selector: Annotated[
        str, typer.Option(help="random, herding, kcenter, kmeans, forgetting or el2n.")
    ] = "random",
    ipc: o.Ipc = None,
    features: Annotated[
        str | None, typer.Option(help="Measure in features of this network [in pixels].")
    ] = None,
    resolution: o.Resolution = None,
    like: o.Like = None,
    val: o.Val = None,
    split_seed: o.SplitSeed = None,
    zca: o.Zca = None,
    mapped: o.Mapped = None,
    seed: o.Seed = None,
    overwrite: o.Overwrite = False,
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
        {
            "resolution": resolution,
            "like": like,
            "val": val,
            "split_seed": split_seed,
            "zca": zca,
            "mapped": mapped,
        }
    )
    config = data_config({"source": data, **flags.get("data", {})})
    splits = load(config, stderr())
    chosen = api.select(
        splits.train,
        selector,
        10 if ipc is None else ipc,
        seed=seed or 0,
        zca=config.zca,
        features=features,
    )
    chosen.save(out, overwrite=overwrite)
    stdout().print(f"{out}: {len(chosen)} images of {len(chosen.classes)} classes", markup=False)


def list_(kind: Annotated[str, typer.Argument(help=" | ".join(KINDS))]) -> None:
    """List what there is of a kind, by name."""
    from distilset.catalogue import catalogue
    from distilset.terminal import plain_table, stdout

    if kind not in KINDS:
        raise ConfigError(f"there is no list of {kind!r}; allowed are {', '.join(KINDS)}")
    columns, rows = catalogue(kind)
    stdout().print(plain_table("", columns, rows))


def show(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Show a run's card, and where its picture lies."""
    from distilset.catalogue import card_rows
    from distilset.store import GRID, DistilledSet
    from distilset.terminal import plain_table, stdout

    distilled = DistilledSet.load(run)
    stdout().print(plain_table("", ("card", str(run)), card_rows(distilled)))
    if (run / GRID).is_file():
        stdout().print(f"picture: {run / GRID}", markup=False)
