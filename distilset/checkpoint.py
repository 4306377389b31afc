"""Checkpoints between episodes: written whole, hashed, the previous one kept."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from distilset.errors import DataError
from distilset.files import write_atomically
from distilset.guard import Progress
from distilset.optimise import MOMENTS, State
from distilset.store import CHECKPOINTS
from distilset.untrusted import parse_json, read_tensors

VERSION = 3
"""Raised when an older distilset could not go on exactly from what is written: Adam's second moment
needs 3, all else is written as 2."""

NAMES = tuple(dict.fromkeys(chain.from_iterable(MOMENTS.values())))
"""The moments that any optimiser has."""

CURRENT, FRESH, PREVIOUS = CHECKPOINTS


class NewerVersion(DataError):
    """A whole checkpoint that a newer distilset has written."""


def save_checkpoint(run: Path, progress: Progress) -> None:
    """Write where a run stands.

    At every moment one whole checkpoint exists, under the fresh, the current or the previous name.

    Raises:
        ValueError: if an image is infinite or not a number: such a state is never written.
    """
    state, kept = progress.state, progress.kept
    tensors = _tensors(state)
    if not tensors["images"].isfinite().all():
        raise ValueError("a state with images that are not finite is not to be saved")
    facts: dict[str, Any] = {
        "version": VERSION if state.updates else 2,
        "step": state.step,
        "halvings": state.halvings,
        "seconds": progress.seconds,
        "notes": list(progress.notes),
    }
    if kept is not None and kept.step != state.step:
        tensors |= {f"kept.{name}": tensor for name, tensor in _tensors(kept).items()}
        facts["kept"] = kept.step
    if state.updates:
        facts["updates"] = [state.updates, 0 if kept is None else kept.updates]
    facts["hash"] = _hash(tensors, facts)

    def write(partial: Path) -> None:
        partial.write_bytes(save(tensors, metadata={"state": json.dumps(facts)}))

    current = run / CURRENT
    fresh = run / FRESH
    write_atomically(fresh, write)
    if current.exists():
        current.replace(run / PREVIOUS)
    fresh.replace(current)


def _tensors(state: State) -> dict[str, Tensor]:
    found = {"images": state.images, **state.moments}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def load_checkpoint(run: Path) -> tuple[Progress, list[str]] | None:
    """Return where a run stands by its newest good checkpoint, and a sentence for each bad file.

    None means that no checkpoint was written yet. The tensors are on the CPU.

    Raises:
        DataError: if there are checkpoints and none can be used, or the newest good one is of a
            newer distilset.
    """
    problems = []
    for path in (run / name for name in (FRESH, CURRENT, PREVIOUS) if (run / name).exists()):
        try:
            return _read(path), problems
        except NewerVersion:
            raise
        except (
            *(DataError, OSError, RuntimeError),
            *(KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError),
        ) as error:
            problems.append(f"{path.name} is damaged ({error}) and was passed over")
    if problems:
        raise DataError(
            f"no usable checkpoint in {run}: {'; '.join(problems)}; start again with --overwrite"
        )
    return None


def _read(path: Path) -> Progress:
    tensors, text = read_tensors(path)
    facts = parse_json(text["state"])
    if not isinstance(facts["version"], int):
        raise DataError(f"its version is {facts['version']!r}")
    if facts["version"] > VERSION:
        raise NewerVersion(
            f"{path} is of version {facts['version']}, and this distilset reads up to "
            f"{VERSION}; resume the run with the distilset that began it, or a newer one"
        )
    hashed = facts["step"] if facts["version"] == 1 else facts
    if facts["hash"] != _hash(tensors, hashed):
        raise DataError("its content does not fit its hash")
    return _progress(facts, tensors)


def _progress(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Progress:
    """Build what `save_checkpoint` wrote; version 1 had neither halvings nor a kept state."""
    images, halvings = tensors["images"], int(facts.get("halvings", 0))
    updates, before = (int(count) for count in facts.get("updates", (0, 0)))
    state = State(images, _moments(tensors), int(facts["step"]), halvings, updates)
    kept = None
    if "kept" in facts:
        moments, step = _moments(tensors, "kept."), int(facts["kept"])
        kept = State(tensors["kept.images"], moments, step, halvings, before)
    for one in (state, kept):
        if one is not None and ("square" in one.moments) != (one.updates > 0):
            raise DataError(f"its moments do not fit {one.updates} updates")
    for tensor in tensors.values():
        if tensor.shape != images.shape or tensor.dtype != torch.float32:
            raise DataError("its tensors do not fit each other")
    notes = tuple(str(note) for note in facts.get("notes", ()))
    return Progress(state, float(facts["seconds"]), notes, kept)


def _moments(tensors: Mapping[str, Tensor], kept: str = "") -> dict[str, Tensor]:
    return {name: tensors[kept + name] for name in NAMES if kept + name in tensors}


def _hash(tensors: Mapping[str, Tensor], facts: Any) -> str:
    """Hash all tensors and facts, those of later distilsets too, but for the hash itself."""
    if isinstance(facts, dict):
        facts = {name: fact for name, fact in facts.items() if name != "hash"}
    hasher = blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        hasher.update(name.encode())
        hasher.update(repr(tuple(tensors[name].shape)).encode())
        hasher.update(tensors[name].numpy().data)
    return hasher.hexdigest()
