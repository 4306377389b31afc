"""The classes that one of several processes owns, and what is laid in the place of the others'."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Which classes each process owns: ``spans[rank]`` is the first and the one after the last.

    ``total`` adds a tensor up over all processes, differentiably: for networks with BatchNorm,
    whose statistics are those of the whole batch.
    """

    spans: tuple[tuple[int, int], ...]
    rank: int
    total: Callable[[Tensor], Tensor] = field(compare=False, repr=False)

    @property
    def first(self) -> int:
        """The first class of this process."""
        return self.spans[self.rank][0]

    @property
    def last(self) -> int:
        """The class after the last of this process."""
        return self.spans[self.rank][1]

    def __str__(self) -> str:
        owned = [last - first for first, last in self.spans]
        each = "-".join(map(str, sorted({min(owned), max(owned)})))
        return f" in each of {len(owned)} processes, {each} classes each"

    def touches(self, classes: slice) -> bool:
        """Tell whether some of the classes are this process's."""
        return classes.start < self.last and classes.stop > self.first

    def within(self, classes: slice) -> slice:
        """Return which of the classes are this process's, counted from the first of them."""
        return slice(
            max(self.first, classes.start) - classes.start,
            min(self.last, classes.stop) - classes.start,
        )

    def own(self, images: Float[Tensor, "n c h w"], ipc: int) -> Float[Tensor, "own c h w"]:
        """Return this process's images of all classes' synthetic ones."""
        return images[self.first * ipc : self.last * ipc].clone()

    def filled(
        self, own: Float[Tensor, "own c h w"], rows: slice, ipc: int
    ) -> Float[Tensor, "rows c h w"]:
        """Return rows of all classes' synthetic images, of which this process has its ``own``.

        In the place of the others' stands its first image, as a constant: what a network makes of
        it is as finite as what it makes of the rest.
        """
        begin, end = self.first * ipc, self.last * ipc
        before, after = max(0, begin - rows.start), max(0, rows.stop - end)
        kept = own[max(rows.start, begin) - begin : min(rows.stop, end) - begin]
        if not before and not after:
            return kept
        blank = own[:1].detach()
        shape = blank.shape[1:]
        return torch.cat([blank.expand(before, *shape), kept, blank.expand(after, *shape)])
