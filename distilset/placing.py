"""Where the images of a run lie: on its device, and of several processes each its own classes'."""

from dataclasses import replace

from distilset.guard import Progress
from distilset.optimise import State
from distilset.parallel import group
from distilset.plan import Plan


def placed(plan: Plan, found: Progress | None) -> Progress:
    """Put where a run stands on its device.

    Of several processes rank 0 has ``found`` it, and each takes the images of its classes.
    """
    if plan.task.share is not None:
        found = group.lead(lambda: found)
    assert found is not None, "rank 0 makes or reads the state"
    kept = None if found.kept is None else _placed(plan, found.kept)
    return replace(found, state=_placed(plan, found.state), kept=kept)


def _placed(plan: Plan, state: State) -> State:
    own = plan.start(state.images, state.momentum)
    return replace(state, images=own.images, momentum=own.momentum)


def gathered(plan: Plan, progress: Progress) -> Progress | None:
    """Return where the run stands with the images of all classes; None where nothing is written.

    A state to go back to that is the present one is left out.
    """
    state, kept = progress.state, progress.kept
    if kept is not None and kept.step == state.step:
        kept = None
    whole, before = _gathered(plan, state), None if kept is None else _gathered(plan, kept)
    return None if whole is None else replace(progress, state=whole, kept=before)


def _gathered(plan: Plan, state: State) -> State | None:
    share, ipc = plan.task.share, plan.task.ipc
    if share is None:
        return state
    images = group.gathered(state.images, share, ipc)
    momentum = state.momentum
    momentum = None if momentum is None else group.gathered(momentum, share, ipc)
    return None if images is None else replace(state, images=images, momentum=momentum)
