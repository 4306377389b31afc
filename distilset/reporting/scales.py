"""Axes: from data to picture units, round values on them, numbers as axes write them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from data to picture units."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return where a value lies, to a tenth of a unit."""
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, number: int = 5) -> list[float]:
        """Return round values inside the axis; powers of ten times 1, 2, 5 on a logarithmic one."""
        if not self.log:
            return round_values(self.low, self.high, number)
        tens = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [
                s * 10.0**t for t in tens for s in steps if self.low <= s * 10.0**t <= self.high
            ]
            if len(found) <= number + 1:
                break
        return found


def round_values(low: float, high: float, number: int) -> list[float]:
    """Return about ``number`` multiples of 1, 2 or 5 times a power of ten from low to high."""
    if not high > low:
        return [low]
    raw = (high - low) / number
    if not raw > 1e-300:  # its power of ten is no number any more
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.7)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """Write a number for an axis."""
    if value == 0:
        return "0"
    if 1e3 <= abs(value) < 1e6:
        return f"{value / 1e3:.3g}k"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e3 else f"{value:.3g}".replace("e+0", "e")


def seconds_text(seconds: float) -> str:
    """Write seconds for an axis: ``12 s``, ``3.5 min``, ``2 h``."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def room(values: Sequence[float], log: bool = False) -> tuple[float, float]:
    """Return the ends of an axis with some room around the values."""
    low, high = min(values), max(values)
    if log:
        return low / 1.15, high * 1.15
    gap = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return (max(0.0, low - gap) if low >= 0 else low - gap), high + gap


def smoothed(values: Sequence[float], reach: int) -> list[float]:
    """Return means over windows of up to ``2 * reach + 1`` values, smaller at the ends."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = []
    for i in range(len(values)):
        wide = min(reach, i, len(values) - 1 - i)
        means.append((sums[i + wide + 1] - sums[i - wide]) / (2 * wide + 1))
    return means
