"""``distilset cache``."""

import sys
from typing import Annotated

import typer

from distilset.errors import ConfigError, unknown_name

ACTIONS = ("list", "clear")


def cache(
    action: Annotated[str, typer.Argument(help="list or clear.")] = "list",
    kind: Annotated[
        str | None, typer.Argument(help="mapped, banks, transforms, whole ... [all].")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Clear without asking.")] = False,
) -> None:
    """List or clear what runs share on disk: decoded images, banks of targets, whitening ..."""
    from distilset.cache import cache_root, entries

    if action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    where = cache_root() / kind if kind else cache_root()
    found = entries(kind)
    if action == "clear":
        _clear(kind, found, where, yes)
    else:
        _list(found, where)


def _list(found: list, where: object) -> None:
    from distilset.terminal import plain_table, size, stdout

    console = stdout()
    rows = [(entry.kind, entry.path.name, size(entry.bytes), entry.about) for entry in found]
    if rows:
        console.print(plain_table("", ("kind", "name", "size", "of"), rows))
    console.print(_told(found, where), markup=False, soft_wrap=True)


def _clear(kind: str | None, found: list, where: object, yes: bool) -> None:
    from distilset.cache import clear
    from distilset.terminal import size, stdout

    if found and not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"{_told(found, where)}; give --yes to remove them")
        if not typer.confirm(f"{_told(found, where)}; remove them?"):
            raise typer.Exit(1)
    removed, used = clear(kind)
    freed = size(sum(entry.bytes for entry in removed))
    left = f"; {len(used)} in use are left" if used else ""
    text = f"{where}: {len(removed)} entries removed, {freed}{left}"
    stdout().print(text, markup=False, soft_wrap=True)


def _told(found: list, where: object) -> str:
    from distilset.terminal import size

    return f"{where}: {len(found)} entries, {size(sum(entry.bytes for entry in found))}"
