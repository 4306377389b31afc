"""Which classes come when, worked by hand; images of some classes."""

import pytest
import torch

from distilset.apps.stream import check_part, class_tasks, of_classes, task_sizes
from distilset.errors import ConfigError, DataError
from distilset.testing import drawn_images


def test_tasks_that_do_not_divide_the_classes():
    assert task_sizes(10, 5) == (2, 2, 2, 2, 2)
    assert task_sizes(10, 4) == (3, 3, 2, 2)
    assert task_sizes(3, 3) == (1, 1, 1)
    assert task_sizes(7, 1) == (7,)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [(0, "tasks must be 1 or more; got 0"), (11, "11 tasks need as many classes at least")],
)
def test_tasks_that_cannot_be(tasks, message):
    with pytest.raises(ConfigError, match=message):
        task_sizes(10, tasks)


def test_every_class_comes_once_and_orders_differ():
    orders = [class_tasks(10, 4, seed=0, order=order) for order in range(1, 6)]
    for tasks in orders:
        assert [len(task) for task in tasks] == [3, 3, 2, 2]
        assert sorted(c for task in tasks for c in task) == list(range(10))
    assert len({str(tasks) for tasks in orders}) == 5
    assert orders[0] == class_tasks(10, 4, seed=0, order=1)
    assert orders[0] != class_tasks(10, 4, seed=1, order=1)


def test_images_of_some_classes_in_another_order():
    images = drawn_images((1, 8, 8), [2, 3, 4])
    some = of_classes(images, [2, 0])
    assert some.classes == (images.classes[2], images.classes[0])
    assert some.counts == (4, 2)
    assert torch.equal(some.of_class(0), images.of_class(2))
    assert torch.equal(some.of_class(1), images.of_class(0))
    assert (some.role, some.info.mean) == (images.role, images.info.mean)


def test_a_class_that_cannot_be_scored_is_told():
    train = drawn_images((1, 8, 8), [2, 2, 2])
    check_part(train, drawn_images((1, 8, 8), [1, 1, 1], role="test"))
    with pytest.raises(DataError, match=r"has no images in the test part"):
        check_part(train, drawn_images((1, 8, 8), [1, 0, 1], role="test"))
    with pytest.raises(DataError, match="2 classes of 1x8x8 images; the train part has 3"):
        check_part(train, drawn_images((1, 8, 8), [1, 1], role="test"))
