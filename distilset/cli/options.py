"""Options that several commands share. Those that state a setting have no default of their own."""

from pathlib import Path
from typing import Annotated

import typer

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
Mapped = Annotated[
    bool | None,
    typer.Option(
        "--mapped/--no-mapped", help="Decode images once, to a file of the cache [if large]."
    ),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 ... [auto].")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in --out.")]
Method = Annotated[
    str | None, typer.Option(help="atom, datadam, dm, frepo, mtt or package.module:Class [atom].")
]
Network = Annotated[
    str | None,
    typer.Option(
        help="Network (distilset list networks), e.g. convnet:depth=4,width=256, or "
        "package.module:Callable; several with commas between: one is drawn for every step."
    ),
]
Norm = Annotated[
    str | None,
    typer.Option(help="Norm, e.g. none, batch, layer, instance or group [the network's]."),
]
BatchReal = Annotated[int | None, typer.Option(help="Real images per class and step [by method].")]
Experts = Annotated[
    int | None,
    typer.Option(help="Networks trained on DATA for a while, to match; 0 is untrained ones [0]."),
]
Preset = Annotated[
    str | None, typer.Option(help="A preset (distilset list presets) or a TOML file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, e.g. method.power=1. May be repeated."),
]
Precision = Annotated[str | None, typer.Option(help="auto, bf16 or fp32 [auto].")]
Compile = Annotated[str | None, typer.Option("--compile", help="auto, on or off [auto].")]
