"""``distilset train``."""

from pathlib import Path
from typing import Annotated

import typer

from distilset.cli import options as o


def train(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    network: Annotated[str | None, typer.Option(help="Network to train [the run's].")] = None,
    norm: Annotated[str | None, typer.Option(help="Norm of the network [the run's].")] = None,
    protocol: Annotated[str, typer.Option(help="dm, datadam or quick.")] = "dm",
    epochs: Annotated[int | None, typer.Option(help="Epochs [the protocol's].")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    threads: o.Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Train one network on RUN and save it, to be used with distilset.load_network."""
    from distilset import api
    from distilset.store import DistilledSet
    from distilset.terminal import counter, stderr, stdout
    from distilset.trained import check_free

    check_free(out, overwrite=overwrite)
    trained = api.train_network(
        DistilledSet.load(run),
        network=network,
        norm=norm,
        protocol=protocol,
        epochs=epochs,
        seed=seed,
        device=device,
        precision=precision,
        threads=threads,
        progress=counter(stderr(), "training"),
    )
    trained.save(out, overwrite=overwrite)
    count = sum(weights.numel() for weights in trained.network.parameters())
    name = trained.facts["network"]["name"]
    stdout().print(f"{out}: {name} with {count:,} weights", markup=False)
