"""Going back when a loss or an image becomes infinite or not a number.

The state is kept in memory at fixed steps, the multiples of ``distill.guard_every``, and a bad step
leads back to the last of them at half the image learning rate. When the badness is noticed changes
nothing but the time lost: whatever steps are done after a bad one are undone with it. So a run that
was interrupted goes back at the same places as one that was not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distilset.errors import ConfigError
from distilset.optimise import Record, State
from distilset.parallel import group
from distilset.share import Share

CHECK_EVERY = 10
"""Steps after which a device is made to wait for the answer whether all was finite."""

MOST_HALVINGS = 3

Agree = Callable[[bool], bool]
"""Tells whether any of the processes that work together says yes; of one process, its own word."""


def agreeing(share: Share | None) -> Agree:
    """Return how the processes that share a run agree; one process has its own word."""
    return bool if share is None else group.agree


@dataclass
class Progress:
    """Where a run stands, and all that is needed to go on exactly.

    ``seconds`` were spent on it in all sessions; ``notes`` say what happened on the way; ``kept``
    is the state to go back to, None where that is ``state`` itself.
    """

    state: State
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    kept: State | None = None

    def note(self, *sentences: str) -> None:
        """Remember sentences for the card, each once."""
        self.notes = tuple(dict.fromkeys((*self.notes, *sentences)))


class Guard:
    """Watches the steps of a run, and takes it back to its last good state.

    ``progress.kept`` is kept with the moments of its step; going back restores both.
    """

    def __init__(self, progress: Progress, every: int, agree: Agree = bool) -> None:
        self.progress, self.every, self.agree = progress, every, agree
        progress.kept = progress.kept or copied(progress.state)
        self._bad = _no(progress.state.images)

    def see(self, record: Record) -> None:
        """Take a step's loss into account; the device does not wait."""
        self._bad = self._bad | ~record.loss.isfinite()

    def due(self, step: int) -> bool:
        """Tell whether the steps so far are to be checked after a step."""
        return step % CHECK_EVERY == 0 or step % self.every == 0

    def sound(self) -> bool:
        """Tell whether all losses since the kept state, all images and moments are finite."""
        state, bad = self.progress.state, self._bad
        for tensor in (state.images, *state.moments.values()):  # an infinite square stops its pixel
            bad = bad | ~tensor.isfinite().all()
        return not self.agree(bool(bad))

    def keep(self) -> None:
        """Keep the state, which must be sound, if its step is one to go back to."""
        if self.progress.state.step % self.every == 0:
            self.progress.kept = copied(self.progress.state)

    def back(self) -> None:
        """Restore the kept state; the learning rate stays."""
        assert self.progress.kept is not None, "a guard keeps a state from its beginning on"
        halvings = self.progress.state.halvings
        self.progress.state = replace(copied(self.progress.kept), halvings=halvings)
        self._bad = _no(self.progress.state.images)

    def roll_back(self, image_lr: float) -> None:
        """Restore the kept state at half the learning rate, and say so.

        Raises:
            ConfigError: if that was done three times already.
        """
        rate = rate_of(image_lr, self.progress.state)
        step = self.progress.kept.step if self.progress.kept else 0
        if self.progress.state.halvings >= MOST_HALVINGS:
            raise ConfigError(
                f"after step {step} a loss or an image is infinite or not a number even at an "
                f"image learning rate of {rate:g}, after {MOST_HALVINGS} halvings; start a new run "
                f"with a smaller distill.image_lr than {image_lr:g}, or with --precision fp32"
            )
        self.progress.state.halvings += 1
        self.back()
        self.progress.note(
            f"after step {step} a loss or an image became infinite or not a number: went back to "
            f"that step and halved the image learning rate to {rate / 2:g} "
            f"({self.progress.state.halvings} of {MOST_HALVINGS})"
        )


def rate_of(image_lr: float, state: State) -> float:
    """Return the image learning rate of a state: halved as often as it was taken back."""
    return image_lr * 0.5**state.halvings


def copied(state: State) -> State:
    """Copy a state, which its run goes on to change in place."""
    moments = {name: moment.detach().clone() for name, moment in state.moments.items()}
    return replace(state, images=state.images.detach().clone(), moments=moments, torn=False)


def _no(images: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.bool, device=images.device)
