"""The command line: arguments to settings, one call, print. Imported by nothing.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

import os
import sys
from typing import Annotated, NoReturn

import typer

from distilset.cli.caching import cache
from distilset.cli.distilling import bank, distill
from distilset.cli.evaluating import evaluate
from distilset.cli.exchanging import export, import_
from distilset.cli.learning import continual
from distilset.cli.looking import list_, select, show
from distilset.cli.options import KINDS
from distilset.cli.searching import nas
from distilset.cli.telling import compare, report
from distilset.cli.training import train
from distilset.errors import DistilsetError, plain
from distilset.parallel import environment

__all__ = ["KINDS", "app", "main"]

app = typer.Typer(
    name="distilset",
    help="Dataset distillation: a folder of labelled images in, a few synthetic images out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = (distill, select, evaluate, report, compare, train, continual, nas)
for command in (*COMMANDS, bank, show, export, cache):
    app.command()(command)
app.command("list")(list_)
app.command("import")(import_)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from distilset import __version__

        print(f"distilset {__version__}")
        raise typer.Exit


SPREAD = ("distill", "evaluate", "bank", "nas")
"""The commands that several processes share; of the others rank 0 does the work alone."""

APART = ("continual",)
"""The commands in which every process takes jobs from one folder, as if started by itself."""


def main() -> NoReturn:
    """Run the command line; an error that is the user's is one sentence and exit code 2."""
    try:
        if environment.size() > 1:
            _together(sys.argv[1:2])
        app()
    except DistilsetError as error:
        _tell(error)
    except OSError as error:
        _tell(f"{error.strerror or error}: {error.filename or ''}")
    sys.exit(0)


def _tell(error: object) -> NoReturn:
    print(f"error: {plain(error)}", file=sys.stderr)
    sys.exit(2)


def _together(command: list[str]) -> None:
    """Run as one of several processes: all but rank 0 are silent, unless they are first to fail."""
    if command not in [[name] for name in (*SPREAD, *APART)]:
        if not environment.leads():
            sys.exit(0)
        return
    from distilset.parallel import failing, group

    if not environment.leads():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if command in [[name] for name in APART]:
        return
    try:
        group.start()
        app()
        sys.exit(0)
    except Exception as error:
        failing.end_with(error, group.claims())
