"""A stand-in for CUDA graphs: what a compiled function returned is destroyed by its next call."""

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


def destroying(parameters: Sequence[Tensor] = ()) -> Callable[..., Any]:
    """Return what may stand for ``torch.compile``.

    A gradient of ``parameters`` that backward had to make, because there was none to add to, is the
    graph's own memory and is destroyed too.
    """

    def compile(function: Callable[..., Any], **_options: Any) -> Callable[..., Any]:
        lent: list[Tensor] = []
        without: list[Tensor] = []

        @torch.no_grad()
        def destroy() -> None:
            for tensor in [*lent, *(p.grad for p in without if p.grad is not None)]:
                tensor.data.fill_(nan)

        def call(*args: Any) -> Any:
            destroy()
            without[:] = [p for p in parameters if p.grad is None]
            out = function(*args)
            lent[:] = tree_leaves(out)
            return out

        return call

    return compile
