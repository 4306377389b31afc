"""Which members of a space can be trained on images of a size, and which of them are tried."""

from collections.abc import Sequence
from dataclasses import dataclass

from distilset.apps.cost import image_cost, shape_only
from distilset.apps.sampling import stratified
from distilset.apps.space import Member, Space
from distilset.errors import ConfigError
from distilset.models.layers import SMALLEST_MAP
from distilset.rng import Rng
from distilset.types import ImageSpec


@dataclass(frozen=True)
class Chosen:
    """The members that are tried, in the space's order, and those that cannot be, with reasons.

    ``fitting`` is how many there were to choose from.
    """

    members: tuple[Member, ...]
    left_out: tuple[tuple[str, str], ...]
    fitting: int

    def reasons(self, shown: int = 3) -> list[str]:
        """Say for each reason how many are left out, and name the first of them."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left_out:
            reasons.setdefault(reason, []).append(name)
        return [
            f"{len(names)} left out, {reason}: {'; '.join(names[:shown])}"
            + (" ..." if len(names) > shown else "")
            for reason, names in reasons.items()
        ]


def choose(
    space: Space, spec: ImageSpec, classes: int, *, sample: int | None = None, seed: int = 0
) -> Chosen:
    """Leave out what does not fit images of ``spec``; draw a stratified ``sample`` of the rest.

    Members that come to the same network are one.

    Raises:
        ConfigError: fewer than two that fit, or a sample below 2 or above their number.
    """
    members = list({m.name: m for m in (one.settled(spec) for one in space.members)}.values())
    reasons = [_misfit(space, member, spec, classes) for member in members]
    left_out = tuple((m.name, why) for m, why in zip(members, reasons, strict=True) if why)
    fitting = [member for member, why in zip(members, reasons, strict=True) if not why]
    if len(fitting) < 2:
        why = f" ({left_out[0][0]}: {left_out[0][1]})" if left_out else ""
        raise ConfigError(
            f"a search needs two networks or more; {len(fitting)} of the {len(members)} in space "
            f"{space.name} fit images of {spec}{why}"
        )
    if sample is not None and not 2 <= sample <= len(fitting):
        raise ConfigError(
            f"--sample must be from 2 to {len(fitting)}, the networks of space {space.name} that "
            f"fit images of {spec}; got {sample}"
        )
    if sample is not None:
        rng = Rng(seed).child("space")
        chosen = stratified(levels_of(fitting), len(fitting), sample, rng)
        return Chosen(tuple(fitting[i] for i in chosen), left_out, len(fitting))
    return Chosen(tuple(fitting), left_out, len(fitting))


def levels_of(members: Sequence[Member]) -> dict[str, list[str]]:
    """Return the levels of the factors that vary, a list over members for each factor."""
    names = dict.fromkeys(name for member in members for name in member.levels)
    table = {name: [member.levels.get(name, "") for member in members] for name in names}
    return {name: levels for name, levels in table.items() if len(set(levels)) > 1}


def member_costs(members: Sequence[Member], spec: ImageSpec, classes: int) -> dict[str, float]:
    """Estimate for each member, by name, what training on one image costs, in operations."""
    shapes = {member.network: 0.0 for member in members}
    for network in shapes:
        shapes[network] = image_cost(shape_only(network, spec, classes), spec)
    return {member.name: shapes[member.network] for member in members}


def _misfit(space: Space, member: Member, spec: ImageSpec, classes: int) -> str:
    """Return why a member cannot be tried on images of a size; nothing if it can."""
    network = member.network
    pools = network.depth if space.pools_fit and network.pooling not in (None, "none") else None
    if pools is not None and min(spec.height, spec.width) >> pools < SMALLEST_MAP:
        side = SMALLEST_MAP << pools
        return f"depth {pools} with pooling needs images of {side}x{side}"
    try:
        shape_only(network, spec, classes)
    except ConfigError as error:
        return str(error)
    return ""
