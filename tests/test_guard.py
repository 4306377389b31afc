import pytest
import torch

from distilset import ConfigError
from distilset.guard import Guard, Progress, copied, rate_of
from distilset.optimise import Record, State


def running(step=0, value=1.0):
    return Progress(
        State(torch.full((2, 1, 4, 4), value), {"momentum": torch.zeros(2, 1, 4, 4)}, step)
    )


def move(progress, step, value=2.0, loss=1.0):
    """Change a state in place, as a run does, and return the step's record."""
    progress.state.images += value - progress.state.images.clone()
    progress.state.moments["momentum"] += 1
    progress.state.step = step
    return Record(step, torch.tensor(loss))


@pytest.mark.parametrize(
    ("value", "loss"), [(float("nan"), 1.0), (float("inf"), 1.0), (2.0, float("nan"))]
)
def test_a_bad_image_or_loss_leads_back_to_the_kept_state(value, loss):
    progress = running()
    guard = Guard(progress, every=4)
    guard.see(move(progress, 4))
    assert guard.sound()
    guard.keep()
    guard.see(move(progress, 5, value, loss))
    guard.see(move(progress, 6))  # a good step does not make up for a bad one before it
    assert not guard.sound()
    guard.roll_back(0.8)
    state = progress.state
    assert (state.step, state.halvings) == (4, 1)
    assert state.images.eq(2).all()
    assert state.moments["momentum"].eq(1).all()
    assert rate_of(0.8, state) == 0.4
    assert guard.sound()
    assert "went back to that step and halved the image learning rate to 0.4" in progress.notes[0]


def test_states_are_kept_at_multiples_only_and_are_copies():
    progress = running()
    guard = Guard(progress, every=4)
    for step in (1, 2, 3):
        move(progress, step, float(step))
        guard.keep()
        assert progress.kept.step == 0
        assert progress.kept.images.eq(1).all()
    move(progress, 4, 4.0)
    guard.keep()
    assert (progress.kept.step, float(progress.kept.images[0, 0, 0, 0])) == (4, 4.0)
    guard.roll_back(1.0)
    move(progress, 5, 9.0)
    assert progress.kept.images.eq(4).all()


def test_a_kept_state_that_was_loaded_stays():
    progress = running(step=6)
    progress.kept = copied(running(step=4, value=4.0).state)
    guard = Guard(progress, every=4)
    guard.roll_back(1.0)
    assert progress.state.step == 4
    assert progress.state.images.eq(4).all()


def test_after_three_times_it_gives_up_with_advice():
    progress = running()
    guard = Guard(progress, every=4)
    for expected in (0.5, 0.25, 0.125):
        guard.roll_back(1.0)
        assert rate_of(1.0, progress.state) == expected
    with pytest.raises(ConfigError, match=r"learning rate of 0\.125.* than 1, or .*fp32"):
        guard.roll_back(1.0)
    assert len(progress.notes) == 3


def test_another_processs_word_counts():
    progress = running()
    asked = []
    guard = Guard(progress, every=4, agree=lambda mine: asked.append(mine) or True)
    assert not guard.sound()
    assert asked == [False]


def test_a_moment_that_is_infinite_is_bad_though_the_images_are_finite():
    """Adam divides by its root, so that the pixel would never move again."""
    progress = running()
    progress.state.moments["square"] = torch.zeros(2, 1, 4, 4)
    guard = Guard(progress, every=4)
    assert guard.sound()
    progress.state.moments["square"][1, 0, 2, 2] = float("inf")
    assert not guard.sound()
    guard.roll_back(1.0)
    assert not progress.state.moments["square"].any()
