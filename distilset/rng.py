"""Random streams keyed by seed, purpose, step and class: never global state, never the clock.

The numbers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), a counter-based generator: the value at (purpose, step, class, position) does not depend
on what was drawn before it. So a resumed run, or a process that holds only some of the classes,
draws exactly what one uninterrupted process would have drawn. Draws are made with NumPy on the CPU,
so the device changes nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_ROUNDS = 10


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10: uint32 counters ``[..., 4]`` to uint32 random words ``[..., 4]``."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


@dataclass(frozen=True)
class Rng:
    """All the randomness of a run, from one integer seed.

    Example:
        >>> rng = Rng(0)
        >>> both = rng.uniform("dsa", step=7, classes=[0, 1], n=3)
        >>> (rng.uniform("dsa", step=7, classes=[1], n=3) == both[1]).all()
        np.True_
    """

    seed: int

    def key(self, purpose: str, *coordinates: int | str) -> int:
        """Hash the seed, a purpose and coordinates to a 64-bit key."""
        text = "\x1f".join(str(part) for part in (self.seed, purpose, *coordinates))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")

    def child(self, purpose: str, *coordinates: int | str) -> "Rng":
        """Return an independent family of streams, e.g. one for each trial."""
        return Rng(self.key(purpose, *coordinates))

    def words(self, purpose: str, step: int, classes: Sequence[int], n: int) -> np.ndarray:
        """Draw ``n`` uint32 words for each class: ``[len(classes), n]``."""
        blocks = -(-n // 4)
        counter = np.zeros((len(classes), blocks, 4), dtype=np.uint32)
        counter[..., 0] = np.arange(blocks, dtype=np.uint32)
        counter[..., 1] = np.asarray(classes, dtype=np.uint32)[:, None]
        counter[..., 2] = step & 0xFFFFFFFF
        counter[..., 3] = step >> 32
        key = self.key(purpose)
        random = philox4x32(counter, (key & 0xFFFFFFFF, key >> 32))
        return random.reshape(len(classes), blocks * 4)[:, :n]

    def uniform(self, purpose: str, step: int, classes: Sequence[int], n: int) -> np.ndarray:
        """Draw ``n`` float64 in [0, 1) for each class, of 32 random bits: ``[len(classes), n]``."""
        return self.words(purpose, step, classes, n) * 2.0**-32

    def sample(self, purpose: str, step: int, class_index: int, count: int, n: int) -> np.ndarray:
        """Draw ``min(n, count)`` different positions below ``count``, uniformly, in any order."""
        words = self.words(purpose, step, [class_index], count)[0]
        order = words.astype(np.uint64) << _SHIFT | np.arange(count, dtype=np.uint64)  # no ties
        if n >= count:
            return np.argsort(order)
        smallest = np.argpartition(order, n)[:n]
        return smallest[np.argsort(order[smallest])]

    def numpy(self, purpose: str, *coordinates: int | str) -> np.random.Generator:
        """Return a NumPy generator for a draw that happens once, such as carving a split."""
        return np.random.Generator(np.random.Philox(key=self.key(purpose, *coordinates)))

    def torch(self, purpose: str, *coordinates: int | str) -> torch.Generator:
        """Return a CPU generator of PyTorch's."""
        return torch.Generator().manual_seed(self.key(purpose, *coordinates) >> 1)

    @contextmanager
    def as_global(self, purpose: str, *coordinates: int | str) -> Iterator[None]:
        """Seed PyTorch's global generator inside the block and put its state back afterwards.

        For code that draws from global state and is not ours: ``reset_parameters`` of any module.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.key(purpose, *coordinates) >> 1)
            yield
