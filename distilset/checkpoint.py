"""Checkpoints between episodes: written whole, hashed, the previous one kept."""

import json
from hashlib import blake2b
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from distilset.errors import DataError
from distilset.files import write_atomically
from distilset.optimise import State
from distilset.store import CHECKPOINTS
from distilset.untrusted import parse_json, read_tensors

VERSION = 1
CURRENT, FRESH, PREVIOUS = CHECKPOINTS


def save_checkpoint(run: Path, state: State, seconds: float) -> None:
    """Write the state of a run; ``seconds`` is the time spent on it so far.

    At every moment one whole checkpoint exists, under the current or the previous name.
    """
    tensors = {"images": state.images.detach().cpu().contiguous()}
    if state.momentum is not None:
        tensors["momentum"] = state.momentum.detach().cpu().contiguous()
    facts = {"version": VERSION, "step": state.step, "seconds": seconds}
    facts["hash"] = _hash(tensors, state.step)

    def write(partial: Path) -> None:
        partial.write_bytes(save(tensors, metadata={"state": json.dumps(facts)}))

    current = run / CURRENT
    fresh = run / FRESH
    write_atomically(fresh, write)
    if current.exists():
        current.replace(run / PREVIOUS)
    fresh.replace(current)


def load_checkpoint(run: Path) -> tuple[State, float, list[str]] | None:
    """Return the newest good state, the seconds spent, and a sentence for each bad file; or None.

    None means that no checkpoint was written yet. The tensors are on the CPU.

    Raises:
        DataError: if there are checkpoints and none can be used.
    """
    problems = []
    for path in (run / name for name in CHECKPOINTS if (run / name).exists()):
        try:
            return (*_read(path), problems)
        except (DataError, KeyError, TypeError, ValueError) as error:
            problems.append(f"{path.name} is damaged ({error}) and was passed over")
    if problems:
        raise DataError(
            f"no usable checkpoint in {run}: {'; '.join(problems)}; start again with --overwrite"
        )
    return None


def _read(path: Path) -> tuple[State, float]:
    tensors, text = read_tensors(path)
    facts = parse_json(text["state"])
    if facts["version"] > VERSION:
        raise DataError(f"version {facts['version']}, this distilset reads up to {VERSION}")
    if facts["hash"] != _hash(tensors, facts["step"]):
        raise DataError("its content does not fit its hash")
    state = State(tensors["images"], tensors.get("momentum"), int(facts["step"]))
    return state, float(facts["seconds"])


def _hash(tensors: dict[str, Tensor], step: int) -> str:
    hasher = blake2b(str(step).encode(), digest_size=16)
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(repr(tuple(tensors[name].shape)).encode())
        hasher.update(tensors[name].numpy().data)
    return hasher.hexdigest()
