"""``distilset import`` and ``distilset export``."""

from pathlib import Path
from typing import Annotated

import typer

from distilset.cli import options as o
from distilset.cli.reading import load


def import_(
    file: Annotated[Path, typer.Argument(help="A file or folder of a set.", metavar="FILE")],
    dataset: Annotated[str, typer.Option(help="The data it was distilled from.")],
    out: o.Out,
    zca: Annotated[bool, typer.Option("--zca", help="The set belongs to whitened data.")] = False,
    space: Annotated[
        str, typer.Option(help="pixels, normalised or whitened; auto tells by the range.")
    ] = "auto",
    index: Annotated[
        int | None, typer.Option(help="Experiment of a file that lists several [0].")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The file of the labels, if not labels_*.pt beside it.")
    ] = None,
    factor: Annotated[
        int, typer.Option(help="Cut each image into FACTOR x FACTOR training images (IDC).")
    ] = 1,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="The labels are scores; make them probabilities.")
    ] = False,
    method: Annotated[str, typer.Option(help="The name that tables show.")] = "imported",
    resolution: o.Resolution = None,
    like: o.Like = None,
    val: o.Val = None,
    split_seed: o.SplitSeed = None,
    overwrite: o.Overwrite = False,
) -> None:
    """Read a set that other code made into a run folder; code in the file is refused."""
    from distilset.config import data_config
    from distilset.errors import DataError
    from distilset.exchange import import_set
    from distilset.files import expanded
    from distilset.stated import data_source, from_flags
    from distilset.store import refuse_used
    from distilset.terminal import stderr, stdout

    refuse_used(out, overwrite=overwrite)
    if not expanded(file).exists():
        raise DataError(f"there is no file or folder {file}")
    flags = from_flags(
        {"resolution": resolution, "like": like, "val": val, "split_seed": split_seed, "zca": zca}
    )
    config = data_config({"source": data_source(dataset), **flags.get("data", {})})
    console = stderr()
    imported = import_set(
        file,
        load(config, console).train,
        zca=zca,
        space=space,
        index=index,
        labels=labels,
        factor=factor,
        softmax=softmax,
        method=method,
    )
    for note in imported.card.notes:
        console.print(f"note: {note}", markup=False)
    imported.save(out, overwrite=overwrite)
    count = len(imported.classes)
    stdout().print(f"{out}: {len(imported.pixels)} images of {count} classes", markup=False)


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    format_: Annotated[
        str, typer.Option("--format", help="imagefolder, parquet, npz, pt or ddranking.")
    ],
    out: Annotated[Path, typer.Option(help="The file or folder to write.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in --out.")
    ] = False,
) -> None:
    """Write the images of RUN for others to use."""
    from distilset.exchange import write_export
    from distilset.store import DistilledSet
    from distilset.terminal import stdout

    distilled = DistilledSet.load(run)
    written = write_export(distilled, format_, out, overwrite=overwrite)
    stdout().print(f"{written}: {len(distilled)} images as {format_}", markup=False)
