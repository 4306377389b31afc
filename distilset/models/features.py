"""Features of any network, caught by hooks on layers that are named."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distilset.errors import ConfigError
from distilset.types import Features, ImageSpec


class Catch:
    """A hook that keeps what a module gives, or what it is given; can be pickled."""

    def __init__(self, *, given: bool) -> None:
        self.given = given
        self.caught: list[Tensor] = []

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Be called by the module."""
        self.caught.append(inputs[0] if self.given else output)


class Hooked(nn.Module):
    """A network without ``features`` of its own, and hooks that catch them in its forward pass.

    The compiler takes hooks as part of the network; a network that it cannot follow as a whole
    runs eagerly where it cannot, which costs time and nothing else. What is caught is a module's
    output: an activation that the network computes by a function, without a module, has no name.

    Args:
        network: the network; its scores come from one forward pass.
        maps: the modules whose outputs are the maps, by name (``layer1.0``) or by kind (``ReLU``:
            every one, in the order in which they are called).
        spec: the images.
        last: the module whose input is the last features; None is the last ``nn.Linear`` called.

    Raises:
        ConfigError: a name that the network does not have; a layer whose output is no map; none
            that could be the last.
    """

    def __init__(
        self, network: nn.Module, maps: list[str], spec: ImageSpec, last: str | None = None
    ) -> None:
        super().__init__()
        self.network = network
        order = _called(network, spec)
        chosen = [name for wanted in maps for name in _named(network, wanted, order)]
        modules = dict(network.named_modules())
        self.names = sorted(dict.fromkeys(chosen), key=order.index)
        self.maps = [Catch(given=False) for _ in self.names]
        self.last = Catch(given=True)
        for name, catch in zip(self.names, self.maps, strict=True):
            modules[name].register_forward_hook(catch)
        modules[_last(network, last, order)].register_forward_hook(self.last)
        self._check(spec)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return class scores."""
        scores = self.network(images)
        self._take()
        return scores

    def features(self, images: Float[Tensor, "n c h w"]) -> Features:
        """Return what the hooks catch."""
        self.network(images)
        return self._take()

    def _take(self) -> Features:
        maps = tuple(catch.caught[-1] for catch in self.maps)
        found = Features(maps, self.last.caught[-1].flatten(1))
        for catch in (*self.maps, self.last):
            catch.caught.clear()
        return found

    @torch.no_grad()
    def _check(self, spec: ImageSpec) -> None:
        self.network.eval()
        maps = self.features(torch.zeros(2, *spec.shape)).maps
        for name, found in zip(self.names, maps, strict=True):
            if found.ndim != 4:
                raise ConfigError(
                    f"the output of {name} is no map [n, C, H, W]; its shape is {list(found.shape)}"
                )
        self.network.train()


@torch.no_grad()
def _called(network: nn.Module, spec: ImageSpec) -> list[str]:
    """Return the names of the modules in the order in which a forward pass ends with them."""
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in network.named_modules()
    ]
    network.eval()
    try:
        network(torch.zeros(2, *spec.shape))
    finally:
        network.train()
        for hook in hooks:
            hook.remove()
    return order


def _named(network: nn.Module, wanted: str, order: list[str]) -> list[str]:
    """Return the modules of a name, or of a kind."""
    modules = dict(network.named_modules())
    if wanted in modules and wanted in order:
        return [wanted]
    found = [name for name in order if type(modules[name]).__name__ == wanted]
    if not found:
        kinds = sorted({type(modules[name]).__name__ for name in order})
        raise ConfigError(
            f"the network has no layer {wanted!r}; allowed are {', '.join(filter(None, order))}, "
            f"and the kinds {', '.join(kinds)}"
        )
    return found


def _last(network: nn.Module, wanted: str | None, order: list[str]) -> str:
    modules = dict(network.named_modules())
    if wanted is not None:
        return _named(network, wanted, order)[-1]
    linear = [name for name in order if isinstance(modules[name], nn.Linear)]
    if not linear:
        raise ConfigError(
            "the network has no nn.Linear, whose input would be the last features; name the layer "
            "that classifies with last="
        )
    return linear[-1]
