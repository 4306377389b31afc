"""One set, several rows: with and without augmentation, own or hard labels, floats or 8-bit PNG."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from distilset.errors import unknown_name
from distilset.formation import decode, decode_labels
from distilset.grid import to_bytes
from distilset.store import DistilledSet
from distilset.training.protocols import Protocol

LabelKind = Literal["own", "hard"]
PixelKind = Literal["float", "png"]

AUGMENT: Mapping[str, tuple[bool | None, ...]] = {
    "protocol": (None,),
    "on": (True,),
    "off": (False,),
    "both": (True, False),
}
LABELS: Mapping[str, tuple[LabelKind, ...]] = {
    "own": ("own",),
    "hard": ("hard",),
    "both": ("own", "hard"),
}
PIXELS: Mapping[str, tuple[PixelKind, ...]] = {
    "float": ("float",),
    "png": ("png",),
    "both": ("float", "png"),
}


@dataclass(frozen=True)
class Variant:
    """What of a set is trained on, and whether it is augmented (None: as the protocol says).

    ``labels`` "hard" takes the most probable class of soft labels. ``pixels`` "png" takes the
    images as their 8-bit export has them: clamped to [0, 1] and rounded to bytes; where several
    are decoded from each stored one, it is the stored ones that are rounded.
    """

    augment: bool | None = None
    labels: LabelKind = "own"
    pixels: PixelKind = "float"

    def settled(self, distilled: DistilledSet, protocol: Protocol) -> "Variant":
        """Return what it comes to for a set and a protocol, so that equal ones are equal."""
        augment = protocol.augment if self.augment is None else self.augment
        labels = self.labels if distilled.labels.is_floating_point() else "own"
        return replace(self, augment=augment, labels=labels)

    def protocol(self, protocol: Protocol) -> Protocol:
        """Return the protocol with augmentation as wanted."""
        return protocol if self.augment is None else replace(protocol, augment=self.augment)

    def tensors(self, distilled: DistilledSet) -> tuple[Float[Tensor, "n c h w"], Tensor]:
        """Return the images, in the space that networks see, and the labels."""
        images, labels = distilled.tensors()
        if self.pixels == "png":
            stored = distilled.transform.apply(to_bytes(distilled.pixels))
            images = decode(stored, distilled.card.factor)
        if self.labels == "hard":
            labels = decode_labels(distilled.hard_labels, distilled.card.factor)
        return images, labels


def variants(augment: str, labels: str, pixels: str) -> list[Variant]:
    """Return the variants that three words ask for: keys of `AUGMENT`, `LABELS` and `PIXELS`.

    Raises:
        ConfigError: another word.
    """
    asked = (("augment", augment, AUGMENT), ("labels", labels, LABELS), ("pixels", pixels, PIXELS))
    for option, word, allowed in asked:
        if word not in allowed:
            raise unknown_name(option, word, allowed)
    return [Variant(*each) for each in product(AUGMENT[augment], LABELS[labels], PIXELS[pixels])]
