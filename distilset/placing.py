"""Where a run stands, from the disk to the devices of its processes, and back."""

from dataclasses import replace

from distilset.guard import Progress
from distilset.optimise import State
from distilset.parallel import group
from distilset.plan import Plan


def placed(plan: Plan, found: Progress | None) -> Progress:
    """Put where a run stands on its device; of several processes, rank 0 has read or made it."""
    if plan.task.share is not None:
        found = group.lead(lambda: found)
    assert found is not None, "rank 0 makes the first state"
    kept = None if found.kept is None else _placed(plan, found.kept)
    return replace(found, state=_placed(plan, found.state), kept=kept)


def _placed(plan: Plan, state: State) -> State:
    own = plan.start(state.images, state.moments)
    return replace(state, images=own.images, moments=own.moments)


def gathered(plan: Plan, progress: Progress) -> Progress | None:
    """Return where a run stands with the images of all classes; None where nothing is written.

    A kept state that is the state itself is left out.
    """
    state, kept = _gathered(plan, progress.state), None
    if progress.kept is not None and progress.kept.step != progress.state.step:
        kept = _gathered(plan, progress.kept)
    return None if state is None else replace(progress, state=state, kept=kept)


def _gathered(plan: Plan, state: State) -> State | None:
    share, ipc = plan.task.share, plan.task.ipc
    if share is None:
        return state
    images = group.gathered(state.images, share, ipc)
    found = {name: group.gathered(moment, share, ipc) for name, moment in state.moments.items()}
    moments = {name: moment for name, moment in found.items() if moment is not None}
    return None if images is None else replace(state, images=images, moments=moments)
