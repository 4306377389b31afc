import torch

from distilset.selectors.forgetting import Events


def test_transitions_are_counted_from_one_sight_to_the_next():
    """By hand, right (1) or wrong (0) at each sight; -1 is not in the batch."""
    seen = [
        [1, 0, 1, 0, 1, 1],  # forgotten twice
        [1, 1, 1, 1, 1, 1],  # never
        [0, 0, 0, 0, 0, 0],  # never learned
        [1, -1, -1, 0, -1, 1],  # once: what lies between two sights does not matter
        [0, 0, 1, 1, 0, 0],  # once
    ]
    labels = torch.tensor([0, 1, 2, 0, 1])
    events = Events(labels)
    for column in zip(*seen, strict=True):
        rows = torch.tensor([r for r, right in enumerate(column) if right >= 0])
        right = torch.tensor([right for right in column if right >= 0])
        given = (labels[rows] + 1 - right) % 3
        events.seen(rows, torch.eye(3)[given])
    assert events.events().tolist() == [2, 0, torch.inf, 1, 1]
