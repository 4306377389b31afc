"""``distilset cache``."""

from typing import Annotated

import typer

from distilset.errors import ConfigError

cache = typer.Typer(
    help="List what runs share on disk (decoded images, banks, whitening ...), or clear it.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@cache.callback()
def _list(context: typer.Context) -> None:
    if context.invoked_subcommand is not None:
        return
    from distilset.cache import cache_root, entries
    from distilset.terminal import plain_table, size, stdout

    found = entries()
    console = stdout()
    rows = [(e.kind, e.path.name, size(e.bytes), e.about) for e in found]
    if rows:
        console.print(plain_table("", ("kind", "name", "size", "of"), rows))
    total = size(sum(entry.bytes for entry in found))
    console.print(f"{cache_root()}: {len(found)} entries, {total}", markup=False, soft_wrap=True)


@cache.command()
def clear(
    kind: Annotated[
        str | None, typer.Argument(help="mapped, banks, transforms, whole ... [all].")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove what the cache has of KIND, or all of it; runs make it again where they need it."""
    from distilset.cache import cache_root, entries
    from distilset.cache import clear as clear_cache
    from distilset.terminal import size, stdout

    found = entries(kind)
    where = cache_root() / kind if kind else cache_root()
    text = f"{where}: {len(found)} entries, {size(sum(entry.bytes for entry in found))}"
    if found and not yes:
        _ask(text)
    removed, used = clear_cache(kind)
    freed = size(sum(entry.bytes for entry in removed))
    left = f"; {len(used)} in use are left" if used else ""
    stdout().print(f"{where}: {len(removed)} entries removed, {freed}{left}", soft_wrap=True)


def _ask(text: str) -> None:
    import sys

    if not sys.stdin.isatty():
        raise ConfigError(f"{text}; give --yes to remove them")
    if not typer.confirm(f"{text}; remove them?"):
        raise typer.Exit(1)
