"""What torchrun told this process, by the environment; nothing heavy is imported for it."""

import os

from distilset.errors import ConfigError


def size() -> int:
    """Return the number of processes of this run; 1 without torchrun."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return _number("RANK", 0) if size() > 1 else 0


def leads() -> bool:
    """Tell whether this process is the one that writes and prints."""
    return rank() == 0


def leave() -> None:
    """Be a process by itself from now on; `local_rank` stays what it was."""
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)


def local_rank() -> int:
    """Return the number of this process on its machine."""
    return _number("LOCAL_RANK", 0)


def on_one_machine() -> bool:
    """Tell whether torchrun has started all processes here."""
    return _number("LOCAL_WORLD_SIZE", 0) == size()


def restarts() -> int:
    """Return how often torchrun has started the processes of this machine anew after a failure."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0) if "RANK" in os.environ else 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise ConfigError(f"the environment variable {name} must be a number; got {text!r}")
    return int(text)
