"""What draws a network's weights anew: the modules' own ``reset_parameters``."""

from collections.abc import Callable, Iterator

from torch import nn

from distilset.errors import ConfigError


def resets(network: nn.Module) -> Iterator[Callable[[], object]]:
    """Yield what draws each module's weights, innermost modules first.

    So a module that draws its parts' weights too has the last word.
    """
    modules = list(network.modules())
    inner = [module for module in modules if not any(module.children())]
    outer = [module for module in reversed(modules) if any(module.children())]
    for module in (*inner, *outer):
        reset = draws(module)
        if reset is not None:
            yield reset


def draws(module: nn.Module) -> Callable[[], object] | None:
    """Return what draws a module's weights; ``nn.MultiheadAttention`` has it with an underscore."""
    for name in ("reset_parameters", "_reset_parameters"):
        reset = getattr(module, name, None)
        if callable(reset):
            return reset
    return None


def check_drawable(network: nn.Module) -> None:
    """Refuse a network that ``initialise`` would leave partly as it was.

    Raises:
        ConfigError: naming a module with parameters of its own and nothing that draws them.
    """
    for name, module in network.named_modules():
        own = [key for key, _ in module.named_parameters(recurse=False)]
        if own and draws(module) is None:
            where = f"{name}.{own[0]}" if name else own[0]
            raise ConfigError(
                f"the parameter {where} cannot be drawn anew: {type(module).__name__} needs a "
                "method reset_parameters that does"
            )
