"""``distilset report`` and ``distilset compare``."""

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN ...")]


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, and those of studies.", metavar="RUN ...")
    ],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    data: Annotated[
        str | None, typer.Option(help="The data, if not where the runs found them.")
    ] = None,
    real: Annotated[
        bool, typer.Option("--real/--no-real", help="Show real images beside the runs'.")
    ] = True,
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
) -> None:
    """Write one HTML file about runs and studies: images, losses, scores, how to load them."""
    from distilset import reporting
    from distilset.terminal import size, stdout

    written = reporting.report(runs, out, data=data, real=real, title=title)
    stdout().print(f"{written}: {size(written.stat().st_size)}", markup=False, soft_wrap=True)


def compare(
    runs: Runs,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, csv or latex.")
    ] = "terminal",
) -> None:
    """Print the table of scores of runs and of the baselines beside them."""
    from distilset.errors import ConfigError
    from distilset.reporting import all_results, read_runs, render, tabulate
    from distilset.reporting.formats import check_format

    check_format(format_)
    results = all_results(read_runs(runs))
    if not results:
        raise ConfigError(
            f"none of the runs was scored yet: {', '.join(map(str, runs))}; "
            "run distilset evaluate first"
        )
    table = tabulate(results)
    if format_ == "terminal":
        _print(table)
    else:
        print(render(table, format_), end="")


def _print(table: object) -> None:
    from distilset.reporting.marking import RULE
    from distilset.terminal import marked_table, stdout

    console = stdout()
    console.print(marked_table(table))
    console.print(f"accuracy in %, mean ± std (n). {RULE}", markup=False)
