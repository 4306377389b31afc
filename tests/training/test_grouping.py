import pytest
import torch
from torch import nn

from distilset.errors import ConfigError
from distilset.models import NetworkConfig, build_network
from distilset.training import TrainSettings, grouping
from distilset.training.grouping import activations, bytes_of_one, groups, how_many
from distilset.types import ImageSpec

SPEC = ImageSpec(3, 8, 8)


@pytest.fixture
def network():
    return build_network(NetworkConfig(width=8, depth=2, norm="batch"), SPEC, 5).train()


@pytest.mark.parametrize(
    ("trials", "size", "expected"),
    [(5, 5, [5]), (5, 4, [3, 2]), (5, 1, [1] * 5), (7, 3, [3, 2, 2]), (1, 8, [1])],
)
def test_groups_are_few_and_nearly_equal(trials, size, expected):
    found = groups(trials, size)
    assert [len(group) for group in found] == expected
    assert [trial for group in found for trial in group] == list(range(trials))


def test_activations_by_hand(network):
    before = [value.clone() for value in network.state_dict().values()]
    per_stage = [3 * 8 * side * side + 8 * side * side // 4 for side in (8, 4)]
    assert activations(network, SPEC) == sum(per_stage) + 5
    assert network.training
    after = network.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_memory_grows_with_the_rows_of_a_batch(network):
    one, two = (bytes_of_one(network, SPEC, rows) for rows in (1, 2))
    assert two - one == 12 * activations(network, SPEC)


def test_one_by_one_on_a_cpu_unless_asked(network):
    assert how_many(5, network, TrainSettings(), SPEC, 4) == (1, "")
    assert how_many(5, network, TrainSettings(together=3), SPEC, 4) == (3, "as asked")
    assert how_many(2, network, TrainSettings(together=3), SPEC, 4) == (2, "as asked")
    assert how_many(1, network, TrainSettings(together=3), SPEC, 4) == (1, "")


def test_on_a_gpu_as_many_as_fit_its_free_memory(network, monkeypatch):
    settings, one = TrainSettings(device="cuda"), bytes_of_one(network, SPEC, 4)
    for share, expected in ((0.5, 1), (2, 1), (6.1, 3), (100, 5)):
        monkeypatch.setattr(grouping, "free_device_bytes", lambda d, s=share: int(s * one))
        assert how_many(5, network, settings, SPEC, 4) == (expected, "as memory allows")
    alone = TrainSettings(device="cuda", together=1)
    assert how_many(5, network, alone, SPEC, 4) == (1, "as asked")


def test_networks_that_draw_in_their_forward_pass_go_one_by_one(network):
    drops = nn.Sequential(network, nn.Dropout(0.5))
    size, reason = how_many(5, drops, TrainSettings(together=5), SPEC, 4)
    assert (size, reason) == (1, "dropout draws in the forward pass")


def test_less_than_one_is_refused():
    with pytest.raises(ConfigError, match="together must be 1 or more; got 0"):
        TrainSettings(together=0)
