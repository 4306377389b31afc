import torch

from distilset.share import Share


def share(rank):
    return Share(((0, 2), (2, 3), (3, 6)), rank, lambda x: x)


def test_a_share_knows_its_classes():
    assert (share(2).first, share(2).last) == (3, 6)
    assert share(1).touches(slice(0, 3))
    assert not share(1).touches(slice(3, 6))
    assert share(0).within(slice(1, 4)) == slice(0, 1)
    assert share(2).within(slice(1, 4)) == slice(2, 3)
    assert str(share(0)) == " in each of 3 processes, 1-3 classes each"


def test_rows_of_others_are_filled_with_a_constant():
    images = torch.arange(12.0).reshape(12, 1, 1, 1)
    for rank in range(3):
        one = share(rank)
        own = one.own(images, 2).requires_grad_(True)
        assert own.flatten().tolist() == list(range(2 * one.first, 2 * one.last))
        rows = slice(2 * one.first, 12)
        filled = one.filled(own, slice(0, 12), 2)
        mine = torch.zeros(12)
        mine[2 * one.first : 2 * one.last] = 1
        first = images[2 * one.first].item()
        assert torch.equal(filled.flatten(), torch.where(mine > 0, images.flatten(), first))
        filled.sum().backward()
        assert torch.equal(own.grad, torch.ones_like(own))
        inside = slice(2 * one.first, 2 * one.last)
        assert one.filled(own, inside, 2).data_ptr() == own.data_ptr()
        assert rows.stop == 12
