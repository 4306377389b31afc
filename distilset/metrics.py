"""The losses of a run, on disk line by line."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from distilset.files import write_text
from distilset.optimise import Record
from distilset.untrusted import json_lines

FLUSH_EVERY = 10


class Metrics:
    """``metrics.jsonl``: a line for each step; losses are fetched from the device in batches."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.waiting: list[tuple[Record, float]] = []
        self.back(step)

    def back(self, step: int) -> None:
        """Forget all that comes after a step."""
        self.waiting = [one for one in self.waiting if one[0].step <= step]
        kept = [line for line in self._lines() if line.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in json_lines(self.path):  # without the one that a kill cut off
            if isinstance(line.get("step"), int):
                yield line

    def add(self, record: Record, seconds: float) -> None:
        """Take one step's record; write when ten are there."""
        self.waiting.append((record, seconds))
        if len(self.waiting) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if not self.waiting:
            return
        losses = torch.stack([record.loss for record, _ in self.waiting]).tolist()
        with self.path.open("a", encoding="utf-8") as file:
            for (record, seconds), loss in zip(self.waiting, losses, strict=True):
                line = {
                    "step": record.step,
                    "loss": loss if math.isfinite(loss) else None,  # JSON has no NaN
                    "seconds": round(seconds, 4),
                }
                file.write(json.dumps(line) + "\n")
        self.waiting.clear()
