"""The two errors a user can cause; everything else that is raised is a bug.

A message is one sentence: what was wrong, what was got, what is allowed. The command line prints it
and exits with code 2.
"""

import re
from collections.abc import Iterable

_TRICKS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+"
)


def plain(text: object) -> str:
    """Return text on one line: no control or escape sequences, nothing that turns its direction.

    Example:
        >>> plain("cat" + chr(27) + "[2J")
        'cat [2J'
    """
    return _TRICKS.sub(" ", str(text))


class DistilsetError(Exception):
    """Base of the errors that are the caller's to mend; as text it is one line, without tricks."""

    def __str__(self) -> str:
        return plain(super().__str__())


class ConfigError(DistilsetError):
    """A setting, name or combination of settings that cannot be used."""


class DataError(DistilsetError):
    """A data set, run folder or file that is missing, damaged or unfit."""


def unknown_name(kind: str, got: str, allowed: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not in a table.

    Example:
        >>> unknown_name("method", "datdam", ["atom", "datadam"]).args[0]
        "unknown method 'datdam'; allowed are atom, datadam (did you mean 'datadam'?)"
    """
    from difflib import get_close_matches

    names = sorted(allowed)
    close = get_close_matches(got, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return ConfigError(f"unknown {kind} {got!r}; allowed are {', '.join(names)}{hint}")
