import pytest
import torch

from distilset.errors import DataError
from distilset.exchange.stored import check_images, check_labels, sort_by_class

CLASSES = ("a", "b", "c")


def test_images_become_float32():
    bytes_ = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    assert check_images(bytes_).flatten().tolist() == [0, 1]
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        assert check_images(torch.zeros(2, 3, 4, 4, dtype=kind)).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "part"),
    [
        (torch.zeros(3, 8, 8), "must be"),
        (torch.zeros(2, 8, 8, 5), "must be"),
        (torch.zeros(2, 5, 8, 8), "must be"),
        (torch.zeros(0, 3, 8, 8), "must be"),
        (torch.zeros(1, 1, 1, 5000), "pixels a side"),
        (torch.zeros(1, 1, 0, 5), "pixels a side"),
        (torch.zeros(1, 1, 2, 2).long(), "floats or bytes"),
        (torch.full((1, 1, 2, 2), torch.nan), "finite"),
        (torch.full((1, 1, 2, 2), torch.inf), "finite"),
        (torch.full((1, 1, 2, 2), 1e300, dtype=torch.float64), "finite"),
    ],
)
def test_wrong_images(images, part):
    with pytest.raises(DataError, match=part):
        check_images(images)


def test_labels_of_every_kind():
    for labels in (torch.tensor([0, 2]), torch.tensor([0.0, 2.0]), torch.tensor([[0], [2]])):
        assert check_labels(labels, 2, 3).tolist() == [0, 2]
    soft = torch.tensor([[0.5, 0.5, 0], [0, 0, 1]], dtype=torch.float64)
    assert check_labels(soft, 2, 3).dtype == torch.float32
    scores = torch.tensor([[1.0, -2, 3], [0, 0, 9]])
    found = check_labels(scores, 2, 3, softmax=True)
    assert torch.allclose(found, scores.exp() / scores.exp().sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (torch.tensor([0, 3]), r"0\.\.2 for the 3 classes"),
        (torch.tensor([-1, 0]), r"0\.\.2"),
        (torch.tensor([0]), "as many labels"),
        (torch.tensor(0), "as many labels"),
        (torch.tensor([0.5, 1]), "whole numbers"),
        (torch.tensor([torch.nan, 1]), "whole numbers"),
        (torch.zeros(2, 4), "each of the 3 classes"),
        (torch.zeros(2, 3), "probabilities"),
        (torch.tensor([[2.0, -1, 0], [1, 0, 0]]), "--softmax"),
        (torch.full((2, 3), torch.nan), "finite"),
        (torch.zeros(2, 3, 1), "as many labels"),
    ],
)
def test_wrong_labels(labels, part):
    with pytest.raises(DataError, match=part):
        check_labels(labels, 2, 3)


def test_softmax_is_for_scores():
    with pytest.raises(DataError, match="for scores"):
        check_labels(torch.tensor([0, 1]), 2, 3, softmax=True)


def test_sorting_keeps_the_order_inside_a_class():
    images, labels = torch.arange(6.0).reshape(6, 1, 1, 1), torch.tensor([2, 0, 1, 0, 2, 1])
    ordered, found, ipc = sort_by_class(images, labels, CLASSES)
    assert ordered.flatten().tolist() == [1, 3, 2, 5, 0, 4]
    assert found.tolist() == [0, 0, 1, 1, 2, 2]
    assert ipc == 2
    soft = torch.nn.functional.one_hot(labels, 3).float()
    ordered, found, ipc = sort_by_class(images, soft, CLASSES)
    assert ordered.flatten().tolist() == [1, 3, 2, 5, 0, 4]
    assert found.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [0, 0, 1, 1], [0]])
def test_uneven_classes_are_refused(labels):
    with pytest.raises(DataError, match=r"equally many images; got .* of '.*' and"):
        sort_by_class(torch.rand(len(labels), 1, 1, 1), torch.tensor(labels), CLASSES)


def test_soft_labels_must_be_shared_evenly():
    with pytest.raises(DataError, match="4 images cannot be shared"):
        sort_by_class(torch.rand(4, 1, 1, 1), torch.full((4, 3), 1 / 3), CLASSES)
